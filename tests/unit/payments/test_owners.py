"""Ledgers of many people: owners, subjects, limits in windows of time, and the details of a refusal."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from blockrun_magic.errors import BudgetError, LedgerError, Money, UsageError
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.limits import NO_CAPS
from blockrun_magic.payments.ledger.reports import (
    Spending,
    payments_of_owners,
    spending_by_owner,
    spending_by_request,
)
from blockrun_magic.payments.ledger.states import State, Witness
from blockrun_magic.payments.ledger.windows import LimitReached, Standing, windows_of
from harness.ledgers import (
    HASH,
    NOON,
    REQUEST,
    STEPS,
    Clock,
    another,
    another_purchase,
    authorize,
    payment_in,
    purchase,
    signed,
)

ADA = ("member:ada", "group:red", "class", "all")
BOB = ("member:bob", "group:blue", "class", "all")
DAY = 86_400.0


def part(ledger: Ledger, subjects: tuple[str, ...] = ADA) -> Ledger:
    """Return the ledger of the first of `subjects`."""
    return ledger.for_owner(subjects[0], lambda: subjects)


def standing(ledger: Ledger, subject: str, period: str) -> Standing:
    """Return the standing of one subject in one period."""
    return next(known for known in ledger.standing("real", [subject]) if known.period == period)


def used(ledger: Ledger, period: str, *subjects: str) -> list[int]:
    """Return the amount that counts against each of `subjects` in a period."""
    return [standing(ledger, subject, period).used for subject in subjects]


def refusal(one: Ledger, amount: int) -> LimitReached:
    """Return the error that refuses a reservation."""
    with pytest.raises(LimitReached) as caught:
        one.reserve(another_purchase(one), amount)
    return caught.value


# -- owners


def test_purchases_belong_to_their_owners(ledger: Ledger) -> None:
    """The same request and take is a separate purchase of each owner, and owners do not see each other's."""
    ada, bob = part(ledger), part(ledger, BOB)
    found = {one.owner: purchase(one) for one in (ledger, ada, bob)}

    assert 3 == len({known.id for known in found.values()})
    assert ["", "member:ada", "member:bob"] == [purchase(one).owner for one in (ledger, ada, bob)]
    for one in (ledger, ada, bob):
        payment_in(one, State.UNKNOWN, of=found[one.owner])
        assert [found[one.owner].id] == [known.id for known in one.takes("real", "sha256:1")]
        assert [found[one.owner].id] == [known.id for known in one.open_purchases()]
        assert [found[one.owner].id] == [known.purchase_id for known in one.open_payments()]
        assert [one.owner] == [owner for owner, known in found.items() if one.purchase_by_id(known.id)]
    assert ["member:ada", "member:bob"] == ledger.owners_of_open_payments()


def test_a_part_ends_with_its_ledger(ledger: Ledger) -> None:
    """Closing an owner's part leaves the ledger open, and the part's guards do not apply to the ledger."""
    ada = part(ledger)
    ada.guards.append(lambda realm: None)
    ada.close()

    assert [] == ledger.guards
    assert payment_in(ledger, State.SETTLED)


def test_a_notebook_and_a_class_do_not_share_limits(ledger: Ledger) -> None:
    """A member's payments do not count against the notebook's caps, and the notebook's caps do not bind a member."""
    ledger.set_caps(image=0, session=0, day=0)
    ada = part(ledger)
    payment_in(ada, State.SETTLED, amount=700)
    ada.drop_hold(ada.hold("real", 10**9))
    assert ada.caps() == NO_CAPS

    assert (0, 0, 0) == (
        ledger.committed("real").session,
        ledger.committed("real").day,
        ledger.committed("real").at_risk,
    )
    ledger.set_caps(session=1000, day=1000)
    payment_in(ledger, State.RESERVED, amount=1000)
    assert [700, 700] == used(ledger, "total", "class", "all")
    assert {} == ledger.limits()
    assert {} == ledger.check()


# -- limits


@pytest.mark.parametrize("period", ["total", "month", "week", "day"])
@pytest.mark.parametrize("subject", ADA)
def test_every_limit_that_applies_holds(ledger: Ledger, subject: str, period: str) -> None:
    """An amount up to the limit is reserved; one micro-dollar more is refused with an error that names the limit."""
    ledger.set_limit(subject, period, 1000)
    ada = part(ledger)
    payment_in(ada, State.SETTLED, amount=400)
    last = payment_in(ada, State.RESERVED, amount=600)
    more = another_purchase(ada)

    with pytest.raises(LimitReached) as caught:
        ada.reserve(more, 1)

    error = caught.value
    assert (subject, period, 1000, 0) == (error.subject, error.period, error.limit, error.left)
    assert (period == "total") is (error.resets_at is None)
    assert isinstance(error, BudgetError)
    assert Money.nothing_signed() == error.money
    assert ada.open_payment(more.id) is None
    assert Standing(subject, period, 1000, 1000, 600, 0, error.resets_at) == standing(ledger, subject, period)
    ada.release(last.id, "never sent")
    assert ada.reserve(more, 600)
    assert {} == ledger.check()


def test_the_most_particular_limit_is_named(ledger: Ledger) -> None:
    """When several limits refuse, the error names the one closest to the student."""
    for subject in ("all", "class", "group:red", "each"):
        ledger.set_limit(subject, "day", 10)
        ledger.set_limit(subject, "total", 10)

    with pytest.raises(LimitReached) as caught:
        part(ledger).reserve(another_purchase(part(ledger)), 11)

    assert ("member:ada", "day", 10) == (caught.value.subject, caught.value.period, caught.value.left)


def test_a_member_without_a_limit_of_their_own_has_that_of_each(ledger: Ledger) -> None:
    """`each` applies to every member; a member's own limit replaces it for its period, higher or lower."""
    ledger.set_limit("each", "day", 1000)
    ledger.set_limit("each", "total", 3000)
    ledger.set_limit("member:bob", "day", 2000)
    ada, bob = part(ledger), part(ledger, BOB)

    assert [1000, 2000] == [standing(ledger, one.owner, "day").limit for one in (ada, bob)]
    assert [3000, 3000] == [standing(ledger, one.owner, "total").limit for one in (ada, bob)]
    ada.reserve(another_purchase(ada), 1000)
    bob.reserve(another_purchase(bob), 2000)
    for one in (ada, bob):
        assert one.owner == refusal(one, 1).subject
    ledger.set_limit("member:bob", "day", None)
    assert (1000, 0) == (standing(ledger, "member:bob", "day").limit, standing(ledger, "member:bob", "day").left)


def test_a_group_is_a_pool_of_its_members(ledger: Ledger) -> None:
    """Two members of a group share its limit; both limits bind a member of two groups."""
    ledger.set_limit("group:red", "total", 1000)
    ledger.set_limit("group:blue", "total", 450)
    ada, bob = part(ledger), part(ledger, BOB)
    both = part(ledger, ("member:eve", "group:blue", "group:red", "class", "all"))
    ada.reserve(another_purchase(ada), 600)
    assert "group:red" == refusal(both, 401).subject
    both.reserve(another_purchase(both), 400)
    assert "group:blue" == refusal(bob, 51).subject
    bob.reserve(another_purchase(bob), 50)

    assert [1000, 450, 1050] == used(ledger, "total", "group:red", "group:blue", "class")


def test_lowering_a_limit_stops_nothing_that_is_paid(ledger: Ledger) -> None:
    """A lower limit refuses new reservations but not the steps of earlier ones; a higher limit makes room at once."""
    ada = part(ledger)
    ledger.set_limit("class", "day", 1000)
    payment = authorize(ada, another_purchase(ada), 800)
    ledger.set_limit("class", "day", 500)

    with pytest.raises(LimitReached) as caught:
        ada.reserve(another_purchase(ada), 1)
    assert (500, 0) == (caught.value.limit, caught.value.left)
    for step in (State.SUBMITTED, State.SETTLED):
        STEPS[step](ada, payment)
    ledger.set_limit("class", "day", 900)
    assert ada.reserve(another_purchase(ada), 100)


def test_what_was_used_before_a_limit_was_set_counts(ledger: Ledger) -> None:
    """Payments before a limit was set count against it."""
    payment_in(part(ledger), State.SETTLED, amount=700)
    ledger.set_limit("class", "week", 700)

    with pytest.raises(LimitReached):
        part(ledger).reserve(another_purchase(part(ledger)), 1)


def test_realms_are_counted_apart(ledger: Ledger) -> None:
    """Play money does not count against limits of real money."""
    ledger.set_limit("all", "total", 1000)
    ada = part(ledger)
    payment_in(ada, State.SETTLED, amount=1000, of=purchase(ada, realm="practice"))

    assert payment_in(ada, State.SETTLED, amount=1000)
    assert [1000] == [s.used for s in ledger.standing("practice", ["all"]) if s.period == "total"]


def test_a_raise_is_checked_and_gives_back_to_its_own_windows(ledger: Ledger, clock: Clock) -> None:
    """A larger signature counts on its own day; a lower charge leaves only the first day's part."""
    ledger.set_limit("each", "day", 60_000)
    ada = part(ledger)
    payment = payment_in(ada, State.UNKNOWN, amount=52_500)
    clock.now += DAY
    assert (0, 0) == (standing(ledger, ADA[0], "day").used, standing(ledger, ADA[0], "day").at_risk)
    larger = signed(payment.nonce)
    object.__setattr__(larger.authorization, "value", 112_501)
    with pytest.raises(LimitReached):
        ada.add_payload(payment.id, larger)
    object.__setattr__(larger.authorization, "value", 112_500)
    ada.add_payload(payment.id, larger)

    assert (60_000, 60_000) == (standing(ledger, ADA[0], "day").used, standing(ledger, ADA[0], "day").at_risk)
    assert [112_500] == used(ledger, "total", "class")
    ada.settle(payment.id, HASH, witness=Witness.CHAIN, charged=52_500)
    assert [0, 52_500] == [*used(ledger, "day", "class"), *used(ledger, "total", "class")]
    clock.now -= DAY
    assert [52_500] == used(ledger, "day", "class")
    assert {} == ledger.check()


@pytest.mark.parametrize(
    ("subject", "period"), [("klass", "day"), ("group:", "day"), ("member", "day"), ("all", "hour")]
)
def test_a_limit_for_nobody_is_an_error(ledger: Ledger, subject: str, period: str) -> None:
    """A misspelled subject or period sets no limit."""
    with pytest.raises(UsageError):
        ledger.set_limit(subject, period, 1)

    assert {} == ledger.limits()


# -- windows


@pytest.mark.parametrize(
    ("at", "zone", "keys", "resets"),
    [
        ("2026-11-26T23:59:59+00:00", "UTC", "2026-11-26 2026-W48 2026-11", "2026-11-27 2026-11-30 2026-12-01"),
        (
            "2026-11-26T23:00:00+00:00",
            "Europe/Berlin",
            "2026-11-27 2026-W48 2026-11",
            "2026-11-28 2026-11-30 2026-12-01",
        ),
        (
            "2026-12-31T22:59:59+00:00",
            "Europe/Berlin",
            "2026-12-31 2026-W53 2026-12",
            "2027-01-01 2027-01-04 2027-01-01",
        ),
        ("2027-01-03T10:00:00+00:00", "UTC", "2027-01-03 2026-W53 2027-01", "2027-01-04 2027-01-04 2027-02-01"),
        (
            "2026-03-29T12:00:00+00:00",
            "Europe/Berlin",
            "2026-03-29 2026-W13 2026-03",
            "2026-03-30 2026-03-30 2026-04-01",
        ),
        (
            "2026-11-01T12:00:00-05:00",
            "America/New_York",
            "2026-11-01 2026-W44 2026-11",
            "2026-11-02 2026-11-02 2026-12-01",
        ),
    ],
)
def test_windows_are_those_of_the_class(at: str, zone: str, keys: str, resets: str) -> None:
    """Days begin at midnight in the class's time zone, weeks on Monday, months on the first; clocks may change."""
    found = windows_of(datetime.fromisoformat(at).timestamp(), ZoneInfo(zone))
    midnights = [datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp() for day in resets.split()]

    assert ["day", "week", "month", "total"] == [window.period for window in found]
    assert [*keys.split(), ""] == [window.key for window in found]
    assert [*midnights, None] == [window.resets_at for window in found]


def test_a_limit_is_whole_again_in_the_next_window(ledger: Ledger, clock: Clock) -> None:
    """A day ends at midnight in the class's time zone, for settled payments and for those at risk."""
    ledger.set_timezone("Asia/Tokyo")
    ledger.set_limit("each", "day", 1000)
    ada = part(ledger)
    payment_in(ada, State.SETTLED, amount=400)
    payment_in(ada, State.UNKNOWN, amount=600)
    midnight = standing(ledger, ADA[0], "day").resets_at
    assert datetime.fromtimestamp(NOON, UTC).astimezone(ZoneInfo("Asia/Tokyo")).hour == 21
    assert NOON + 3 * 3600 == midnight
    clock.now = midnight - 0.001
    with pytest.raises(LimitReached):
        ada.reserve(another_purchase(ada), 1)

    clock.now = midnight

    assert ada.reserve(another_purchase(ada), 1000)
    assert [2000] == used(ledger, "total", "all")


def test_an_unknown_time_zone_is_an_error(ledger: Ledger) -> None:
    """An unknown time zone is not stored."""
    for name in ("Mars/Olympus", "../etc/passwd", "\0"):
        with pytest.raises(LedgerError):
            ledger.set_timezone(name)

    assert ledger.setting("class.timezone") is None


# -- random steps


def test_counters_are_the_payments_at_every_step(ledger: Ledger, clock: Clock) -> None:
    """After random steps on random days, counters are sums of payments and no limit is exceeded."""
    dice = random.Random(23)  # noqa: S311  dice, not secrets
    limits = {
        ("all", "total"): 400_000,
        ("class", "week"): 150_000,
        ("group:red", "day"): 40_000,
        ("each", "day"): 30_000,
    }
    for place, amount in limits.items():
        ledger.set_limit(*place, amount)
    parts = [part(ledger), part(ledger, BOB), part(ledger, ("member:eve", "group:red", "group:blue", "class", "all"))]
    with another(ledger) as other:
        parts.append(part(other, BOB))
        refused = 0
        for _ in range(100):
            clock.now += dice.random() * 20_000
            one = dice.choice(parts)
            try:
                begin = dice.choice((one.reserve, partial(authorize, one)))
                payment = begin(another_purchase(one), dice.randrange(1, 20_000))
            except LimitReached:
                refused += 1
            else:
                step = dice.choice([None, State.RELEASED, State.SUBMITTED])
                if step and (step is State.RELEASED or payment.state is State.SIGNED):
                    STEPS[step](one, payment)
            if dice.random() < 0.5 and (sent := one.open_payments([State.SUBMITTED])):
                decided = dice.choice(sent)
                if dice.random() < 0.3:
                    one.release(decided.id, "expired unused", witness=Witness.CHAIN)
                else:
                    one.settle(decided.id, None, witness=Witness.CHAIN, charged=dice.randrange(decided.amount + 1))
            assert {} == ledger.check()
            for known in ledger.standing("real", [*ADA, *BOB, "member:eve"]):
                assert known.at_risk <= known.used
                assert known.limit is None or known.used <= known.limit

    assert refused > 10


def test_the_request_is_the_same(ledger: Ledger) -> None:
    """An owner's purchase has its request, gateway and take, like any other."""
    begun = purchase(part(ledger))

    assert (REQUEST, "base", 1) == (begun.request, begun.gateway, begun.take)


def test_what_owners_have_paid_is_asked_by_person_time_and_request(ledger: Ledger, clock: Clock) -> None:
    """Reports give sums per owner and request, and single payments: settled ones since a time, and all open ones."""
    ada, bob = part(ledger), part(ledger, BOB)
    shared = [purchase(owner, "sha256:shared") for owner in (ada, bob)]
    early = authorize(ada, shared[0], 300)
    ada.submit(early.id)
    ada.settle(early.id, HASH, witness=Witness.CHAIN)
    clock.now += 1000
    authorize(bob, shared[1], 500)
    ada.release(authorize(ada, another_purchase(ada), 900).id, "never sent")
    ledger.reserve(another_purchase(ledger), 7000)  # a payment without an owner
    names = ada.owner, bob.owner

    sums = [spending_by_owner(ledger, "real", since) for since in (0.0, clock.now)]
    assert [(300, 0), (0, 500)] == [(sums[0][name].settled, sums[0][name].at_risk) for name in names]
    assert (0, 500) == (sums[1].get(names[0], Spending(0, 0, 0)).settled, sums[1][names[1]].at_risk)
    found = spending_by_request(ledger, "real", ["sha256:shared", "sha256:other"])
    assert {(names[0], "sha256:shared", 1): (300, 0), (names[1], "sha256:shared", 1): (0, 500)} == found
    assert {} == spending_by_request(ledger, "practice", ["sha256:shared"])
    assert {(names[0], 300, True), (names[1], 500, False)} == {
        (each.owner, each.amount, each.settled) for each in payments_of_owners(ledger, "real", 0.0)
    }
    assert [500] == [each.amount for each in payments_of_owners(ledger, "real", clock.now)]
    assert [300] == [each.amount for each in payments_of_owners(ledger, "real", 0.0, names[0])]
