"""The ledger: the states of an authorization, caps over all kernels, and a file that loses nothing."""

from __future__ import annotations

import multiprocessing
import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.database import log
from blockrun_magic.database import sqlite as database
from blockrun_magic.database.engine import Connection
from blockrun_magic.database.postgresql import PostgresDatabase
from blockrun_magic.errors import BudgetError, LedgerError, Money
from blockrun_magic.payments.ledger import schema
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, Caps, Usage
from blockrun_magic.payments.ledger.records import Payment, Purchase, StoredImage
from blockrun_magic.payments.ledger.states import AT_RISK, OPEN, TRANSITIONS, UNSIGNED_TRANSITIONS, State, Witness
from blockrun_magic.payments.ledger.years.search import HistorySearch, history_queries
from harness import PATIENCE
from harness.ledgers import (
    HASH,
    JOB,
    NOON,
    ON_A_FILE,
    REQUEST,
    STEPS,
    WAYS,
    Clock,
    another,
    another_purchase,
    authorize,
    fill_up,
    payment_in,
    payment_of,
    purchase,
    signed,
)

PICTURE = StoredImage("cd" * 32, "image/png", 1024, 1024, "a fine cat")


def rows(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Return all rows of the ledger."""
    tables = ("purchases", "authorizations", "payloads", "reservations", "counters", "pictures", "settings", "holds")
    return [tuple(row) for table in tables for row in ledger.query(f"SELECT * FROM {table}")]  # noqa: S608


def header_of(ledger: Ledger, payment: Payment) -> str | None:
    """Return the header of the newest signature of a payment, or None."""
    payload = ledger.payment(payment.id).payload
    return None if payload is None else payload.header_value


# -- states of an authorization

# `authorize` reserves and signs a payment in one step: no other call signs.
LEGAL = [(start, end) for start, ends in TRANSITIONS.items() for end in sorted(ends) if end is not State.SIGNED]
ILLEGAL = [
    (start, end) for start in State for end in sorted(STEPS) if end not in TRANSITIONS[start] and end is not start
]


@pytest.mark.parametrize(("start", "end"), LEGAL, ids=str)
def test_a_legal_step_is_taken(ledger: Ledger, clock: Clock, start: State, end: State) -> None:
    """Each step of the state diagram is possible, and another kernel sees it at once."""
    payment = payment_in(ledger, start)
    clock.now += 5

    STEPS[end](ledger, payment)

    with another(ledger) as other:
        assert end is payment_of(other, payment.id).state
        assert [NOON + 5] == [row["updated_at"] for row in other.query("SELECT updated_at FROM authorizations")]


@pytest.mark.parametrize(("start", "end"), ILLEGAL, ids=str)
def test_an_illegal_step_is_refused(ledger: Ledger, start: State, end: State) -> None:
    """Every other step is an error that names both states and changes no row."""
    payment = payment_in(ledger, start)
    before = rows(ledger)

    with pytest.raises(LedgerError, match=f" {start} .* {end}"):
        STEPS[end](ledger, payment)

    assert before == rows(ledger)


@pytest.mark.parametrize("state", STEPS, ids=str)
def test_a_step_to_where_it_stands_changes_nothing(ledger: Ledger, state: State) -> None:
    """A repeated step is recorded once: a second settlement with the same hash changes nothing."""
    payment = payment_in(ledger, state)
    before = rows(ledger)

    STEPS[state](ledger, payment)

    assert before == rows(ledger)


@pytest.mark.parametrize("state", STEPS, ids=str)
def test_a_payment_that_is_not_there_is_an_error(ledger: Ledger, state: State) -> None:
    """A step of an unknown payment is refused and creates no payment."""
    payment = payment_in(ledger, State.RESERVED)
    ghost = Payment(**{name: getattr(payment, name) for name in payment.__slots__} | {"id": 99})

    with pytest.raises(LedgerError, match="99"):
        STEPS[state](ledger, ghost)


def test_the_steps_are_those_of_the_drawing() -> None:
    """Another step could pay twice or lose a payment; a new step also needs a change of the state diagram."""
    assert {
        "reserved": "released signed",
        "signed": "released submitted",
        "submitted": "polling released settled unknown",
        "polling": "released settled unknown",
        "unknown": "polling released settled submitted",
        "settled": "",
        "released": "",
    } == {str(state): " ".join(sorted(ends)) for state, ends in TRANSITIONS.items()}


def test_the_table_of_states_is_whole() -> None:
    """Every state has its steps; only settled and released are final; all other states are at risk."""
    assert set(State) == set(TRANSITIONS)
    assert {State.SETTLED, State.RELEASED} == {state for state, ends in TRANSITIONS.items() if not ends}
    assert set(State) - {State.SETTLED, State.RELEASED} == set(AT_RISK)
    assert {State.SETTLED, *AT_RISK} - {State.RESERVED} == set(OPEN)


def unsigned_in(ledger: Ledger, state: State) -> Payment:
    """Return a payment made by ClawRouter or an account, in `state`."""
    payment = ledger.reserve(another_purchase(ledger), 52_500, prepaid=True)
    for step in WAYS[state]:
        STEPS[step](ledger, payment)
    return ledger.payment(payment.id)


@pytest.mark.parametrize("end", sorted(STEPS), ids=str)
@pytest.mark.parametrize("start", [state for state in State if state is not State.SIGNED], ids=str)
def test_an_unsigned_payment_has_its_own_steps(ledger: Ledger, start: State, end: State) -> None:
    """A payment by ClawRouter or an account is never signed, and not sent again while its outcome is unknown."""
    payment = unsigned_in(ledger, start)
    if end is start or end in UNSIGNED_TRANSITIONS[start]:
        STEPS[end](ledger, payment)
        assert end is payment_of(ledger, payment.id).state
        return
    with pytest.raises(LedgerError, match=f" {start} .* {end}"):
        STEPS[end](ledger, payment)
    assert start is payment_of(ledger, payment.id).state


def test_the_steps_of_an_unsigned_payment_are_those_of_its_drawing() -> None:
    """There is no signature, and no step from unknown back to submitted: it would be a second purchase."""
    assert {
        "reserved": "released submitted",
        "signed": "",
        "submitted": "polling released settled unknown",
        "polling": "released settled unknown",
        "unknown": "polling released settled",
        "settled": "",
        "released": "",
    } == {str(state): " ".join(sorted(ends)) for state, ends in UNSIGNED_TRANSITIONS.items()}


def test_what_was_charged_takes_the_place_of_the_estimate(ledger: Ledger) -> None:
    """An amount from the gateway is booked as final; without one, the estimate stays and is marked as such."""
    said, unsaid = (unsigned_in(ledger, State.SUBMITTED) for _ in range(2))
    ledger.settle(said.id, None, witness=Witness.DELIVERY, charged=50_001)
    ledger.settle(unsaid.id, None, witness=Witness.DELIVERY)

    assert [(50_001, False), (52_500, True)] == [
        (payment.amount, payment.estimated) for payment in (payment_of(ledger, one.id) for one in (said, unsaid))
    ]
    assert 102_501 == ledger.committed("real").day


def test_a_payment_names_its_gateway(ledger: Ledger) -> None:
    """A payment names its gateway, even after its purchase moves to another gateway."""
    begun = purchase(ledger)
    first = ledger.reserve(begun, 1)
    ledger.release(first.id, "never sent")
    ledger.change_gateway(begun, "account")
    second = ledger.reserve(begun, 2, prepaid=True)

    assert ["base", "account"] == [payment_of(ledger, payment.id).gateway for payment in (first, second)]
    assert [(2, "google/nano-banana")] == [(p.amount, model) for p, model, _ in ledger.payments_via("account", 0)]


def test_what_was_signed_is_on_record(ledger: Ledger) -> None:
    """Payer, nonce, expiry, network and header are in the ledger before a request is sent."""
    sent = signed()
    payment = authorize(ledger, another_purchase(ledger), 52_500, sent)
    [payload] = payment.payloads

    assert ("eip155:8453", sent.authorization.payer) == (payment.network, payment.payer)
    assert (sent.authorization.nonce, int(NOON) + 300) == (payment.nonce, payment.valid_before)
    assert (sent.header_name, sent.header_value) == (payload.header_name, payload.header_value)
    assert sent.header_value not in repr(payment)
    assert payload == payment.payload


def test_a_nonce_is_used_once(ledger: Ledger) -> None:
    """Two payments cannot have the same authorization."""
    first, second = (another_purchase(ledger) for _ in range(2))
    authorize(ledger, first, 1, signed("0x" + "33" * 32))

    with pytest.raises(LedgerError):
        authorize(ledger, second, 1, signed("0x" + "33" * 32))

    assert [] == ledger.payments(second.id)
    assert 1 == ledger.committed("real").at_risk


def test_a_doubt_remembers_whether_it_was_refused(ledger: Ledger) -> None:
    """The ledger stores that the gateway refused a payment, until another attempt ends differently."""
    payment = payment_in(ledger, State.UNKNOWN)
    assert payment.refused

    ledger.submit(payment.id)
    ledger.mark_unknown(payment.id, "reset")

    assert not payment_of(ledger, payment.id).refused


def test_polling_and_its_job_are_one_record(ledger: Ledger) -> None:
    """The URL of a job is stored in the same transaction as the step to polling."""
    submitted = payment_in(ledger, State.SUBMITTED)
    ledger.poll(submitted.id, submitted.purchase_id, JOB)
    assert JOB == ledger.purchase_by_id(submitted.purchase_id).poll_url

    ledger.forget_job(submitted.purchase_id)
    assert ledger.purchase_by_id(submitted.purchase_id).poll_url is None

    ledger.settle(submitted.id, HASH, witness=Witness.CHAIN)
    with pytest.raises(LedgerError):
        ledger.poll(submitted.id, submitted.purchase_id, JOB)
    assert ledger.purchase_by_id(submitted.purchase_id).poll_url is None


@pytest.mark.parametrize("state", State, ids=str)
def test_a_header_is_wiped_once_it_is_of_no_use(ledger: Ledger, state: State) -> None:
    """A header is stored while it may be needed; a release deletes it, and so does the image of a settled payment."""
    payment = payment_in(ledger, state)
    assert (state in (State.RESERVED, State.RELEASED)) is (header_of(ledger, payment) is None)

    ledger.finish(payment.purchase_id, [PICTURE], 3.0)

    kept = header_of(ledger, payment)

    assert (state in (State.RESERVED, State.RELEASED, State.SETTLED)) is (kept is None)


def test_a_header_is_wiped_when_a_delivered_picture_settles_later(ledger: Ledger) -> None:
    """If the image arrives before the proof of its payment, the proof deletes the header."""
    payment = payment_in(ledger, State.UNKNOWN)
    ledger.finish(payment.purchase_id, [PICTURE], 3.0)
    assert header_of(ledger, payment) is not None

    ledger.settle(payment.id, HASH, "found when looked up", witness=Witness.CHAIN)

    assert header_of(ledger, payment) is None


def test_a_wiped_header_is_nowhere_in_the_rows(ledger: Ledger) -> None:
    """After a release no column of any table holds the header."""
    payment = payment_in(ledger, State.SIGNED)
    header = header_of(ledger, payment)
    assert header is not None

    ledger.release(payment.id, "never sent")

    assert header not in repr(rows(ledger))


# -- purchases


def test_a_purchase_is_begun_once(ledger: Ledger) -> None:
    """The same request and take is the same purchase in every kernel, and its first record stays."""
    begun = purchase(ledger)

    with another(ledger) as other:
        again = other.create_purchase("real", "elsewhere", "sha256:1", 1, {"prompt": "other"}, private=True)

    assert begun == again
    assert ("base", REQUEST, False, NOON) == (begun.gateway, begun.request, begun.private, begun.purchased_at)


def test_realms_and_takes_are_purchases_of_their_own(ledger: Ledger) -> None:
    """Each realm and each take has its own purchase."""
    found = {
        purchase(ledger, realm=realm, take=take).id for realm in ("real", "testnet", "practice") for take in (1, 2)
    }

    assert 6 == len(found)
    assert [1, 2] == [known.take for known in ledger.takes("practice", "sha256:1")]
    assert ledger.purchase("real", "sha256:1", 3) is None
    assert ledger.purchase("real", "sha256:2", 1) is None


def test_a_purchase_is_found_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    """A unique beginning of an id finds its purchase, an ambiguous one does not, and `%` is not special."""
    first, second = purchase(ledger), purchase(ledger, take=2)

    assert first == ledger.purchase_by_id(first.id)
    assert second == ledger.purchase_by_id(second.id[:9])
    assert ledger.purchase_by_id("") is None
    assert ledger.purchase_by_id("%") is None
    assert ledger.purchase_by_id(first.id + "0") is None


def test_a_finished_purchase_has_its_pictures(ledger: Ledger, clock: Clock) -> None:
    """Images are stored in the gateway's order; finishing again replaces them and deletes the answer."""
    begun = purchase(ledger)
    ledger.save_image_urls(begun.id, [{"url": "https://cdn.example/1.png"}])
    assert [{"url": "https://cdn.example/1.png"}] == purchase(ledger).answer
    clock.now += 7
    other = StoredImage("ef" * 32, "image/webp", 10, 20)

    ledger.finish(begun.id, [other], 1.0)
    ledger.finish(begun.id, [PICTURE, other], 2.5)

    done = purchase(ledger)

    assert (NOON + 7, 2.5, None) == (done.finished_at, done.seconds, done.answer)
    assert [PICTURE, other] == ledger.images(begun.id)


@pytest.mark.parametrize("state", State, ids=str)
def test_what_is_open_is_listed(ledger: Ledger, state: State) -> None:
    """A purchase is open if it is paid or at risk and has no image; released, reserved or delivered ones are not."""
    payment = payment_in(ledger, state)

    assert (state in OPEN) is (payment.purchase_id in [known.id for known in ledger.open_purchases()])
    assert (state in AT_RISK) is (payment.id in [known.id for known in ledger.open_payments()])

    ledger.finish(payment.purchase_id, [PICTURE], 1.0)

    assert [] == ledger.open_purchases()


def test_what_is_open_is_listed_oldest_first(ledger: Ledger, clock: Clock) -> None:
    """Open purchases are listed in the order in which they were started."""
    for take in (2, 1):
        clock.now += 1
        payment_in(ledger, State.UNKNOWN, of=purchase(ledger, take=take))

    assert [2, 1] == [known.take for known in ledger.open_purchases()]


def finished(ledger: Ledger, clock: Clock, take: int, seconds: float = 1.0, **request: Any) -> Purchase:
    """Return a purchase with its image, a minute after the previous one."""
    clock.now += 60
    begun = ledger.create_purchase("real", "base", "sha256:1", take, REQUEST | request, private=False)
    ledger.finish(begun.id, [PICTURE], seconds)
    return begun


@pytest.mark.parametrize(
    ("words", "takes"),
    [
        *[("", [3, 2, 1]), ("sea", [2]), ("SEA", [2]), ("ÜBER DEM M", [3]), ("flux", [1]), ("a%sea", []), ("sky", [])],
        *[("sea openai", [2]), ('"', [2]), ("日本", [3]), ("%", [1]), ("_", [1]), (" ", [3, 2, 1]), ("m日", [])],
    ],
)
def test_the_history_is_searched_in_any_language(ledger: Ledger, clock: Clock, words: str, takes: list[int]) -> None:
    """The search covers prompt and model, ignores case, and finds finished purchases only."""
    finished(ledger, clock, 1, model="black-forest/flux-1.1-pro", prompt="100%_fox")
    finished(ledger, clock, 2, prompt='The "night" Sea', model="openai/gpt-image-1")
    finished(ledger, clock, 3, prompt="Über dem Meer 日本")
    purchase(ledger, take=4)

    assert takes == [known.take for known in ledger.search_finished(HistorySearch("real", words), 10)]
    assert [] == ledger.search_finished(HistorySearch("practice", words), 10)


@pytest.mark.parametrize("words", ["strasse", "KELVIN", 'a "', "sea openai", "\\ sky", "x" * 60_000])
def test_a_search_misses_nothing_that_json_writes_in_another_way(ledger: Ledger, clock: Clock, words: str) -> None:
    """The search finds case-folded letters, quotes, backslashes, and words of prompt and model together."""
    finished(ledger, clock, 1, prompt='Stra\xdfe, \u212aelvin, A "\\ sky, sea', model="openai/gpt-image-1")

    assert [1] * (len(words) < 100) == [
        known.take for known in ledger.search_finished(HistorySearch("real", words), 10)
    ]


def test_a_search_misses_nothing_whatever_folds_into_what(ledger: Ledger, clock: Clock) -> None:
    """Three searches agree: the newest purchases, the whole table, and a plain comparison of every folded prompt."""
    choose = random.Random(21)  # noqa: S311  the same letters every time
    letters = 'sSß\u017f\u1e9ekK\u212ai\u0130\ufb01fF\u00f6\u00d6\u03c9\u03a9\u65e5\U0001f98a\u0307%_"\\ '
    texts = ["".join(choose.choices(letters, k=choose.randrange(1, 9))) for _ in range(40)]
    for take, text in enumerate(texts, 1):
        finished(ledger, clock, take, prompt=text)
    plainly = """SELECT take FROM purchases WHERE
        instr(casefold(json_extract(request, '$.prompt') || ' ' || json_extract(request, '$.model')), casefold(?)) > 0
        ORDER BY take DESC"""
    for _ in range(150):
        words = "".join(choose.choices(letters, k=choose.randrange(1, 4)))
        queries = history_queries(HistorySearch("real", words), "", 50, 0)
        found = [[row["take"] for row in ledger.query(sql, values)] for sql, values in queries]
        expected = [row["take"] for row in ledger.query(plainly, (words,))]

        assert [expected] * 3 == found, words


def test_the_history_of_a_model_a_day_or_some_ids(ledger: Ledger, clock: Clock) -> None:
    """Conditions on model, time and ids are combined."""
    begun = [
        finished(ledger, clock, take, model=model)
        for take, model in enumerate(("black-forest/flux-1.1-pro", "openai/gpt-image-1"), 1)
    ]

    def takes(**conditions: Any) -> list[int]:
        return [known.take for known in ledger.search_finished(HistorySearch("real", **conditions), 10)]

    assert [2] == takes(model="gpt-image")
    assert [1] == takes(since=0.0, until=begun[1].purchased_at)
    assert [1] == takes(only=[begun[0].id, "another"])
    assert [] == takes(only=[])
    assert [] == takes(only=[begun[0].id], model="gpt-image")


def test_the_history_comes_in_pages(ledger: Ledger, clock: Clock) -> None:
    """A page has the newest purchases first, and at most as many as asked for."""
    for take in range(1, 6):
        finished(ledger, clock, take)

    assert [4, 3] == [known.take for known in ledger.search_finished(HistorySearch("real"), 2, 1)]


def test_how_long_a_picture_usually_takes(ledger: Ledger, clock: Clock) -> None:
    """An estimate needs three images of a model and size, and is the median of the most recent ones."""
    for take, seconds in enumerate([90.0, 1.0], start=1):
        finished(ledger, clock, take, seconds)
    assert ledger.usual_seconds(REQUEST["model"], "1024x1024") is None

    finished(ledger, clock, 3, 7.0)
    assert 7.0 == ledger.usual_seconds(REQUEST["model"], "1024x1024")
    assert ledger.usual_seconds(REQUEST["model"], "512x512") is None

    for take in range(4, 25):
        finished(ledger, clock, take, 2.0)
    assert 2.0 == ledger.usual_seconds(REQUEST["model"], "1024x1024")


@pytest.mark.parametrize("state", State, ids=str)
def test_what_a_purchase_has_cost(ledger: Ledger, state: State) -> None:
    """The cost of a purchase is the sum of its own payments that are settled or at risk."""
    begun = purchase(ledger)
    payment_in(ledger, State.RELEASED, amount=1, of=begun)
    payment_in(ledger, state, amount=300, of=begun)
    payment_in(ledger, State.SETTLED, amount=4000, of=purchase(ledger, take=2))

    assert (0 if state is State.RELEASED else 300) == ledger.amount_paid(begun.id)


# -- caps


def test_the_caps_are_the_defaults_until_they_are_changed(ledger: Ledger) -> None:
    """A change applies to every kernel; the caps that are not named stay the same."""
    assert DEFAULT_CAPS == ledger.caps()

    assert Caps(image=7, session=5_000_000, day=8) == ledger.set_caps(image=7, day=8)

    with another(ledger) as other:
        assert Caps(image=7, session=5_000_000, day=8) == other.caps()
        assert Caps(image=9, session=5_000_000, day=8) == other.set_caps(image=9)
    assert 9 == ledger.caps().image


@pytest.mark.parametrize("state", State, ids=str)
def test_what_is_settled_or_at_risk_counts(ledger: Ledger, state: State) -> None:
    """A payment counts against the caps from its reservation on; only a release subtracts it."""
    payment_in(ledger, state, amount=700)
    counted = 0 if state is State.RELEASED else 700

    assert Usage(counted, counted) == ledger.committed("real")
    assert Usage(0, 0) == ledger.committed("practice")


@pytest.mark.parametrize("cap", ["session", "day"])
@pytest.mark.parametrize("state", [State.RESERVED, State.UNKNOWN, State.SETTLED], ids=str)
def test_a_cap_is_filled_and_not_passed(ledger: Ledger, cap: str, state: State) -> None:
    """An amount up to the cap is reserved, one micro-dollar more is refused, and a release makes room."""
    ledger.set_caps(**{cap: 1000})
    payment_in(ledger, state, amount=400)
    last = payment_in(ledger, State.RESERVED, amount=600)
    more = another_purchase(ledger)
    before = rows(ledger)

    with pytest.raises(BudgetError, match=cap):
        ledger.reserve(more, 1)
    assert before == rows(ledger)

    ledger.release(last.id, "never sent")
    assert ledger.reserve(another_purchase(ledger), 600)


def test_a_session_is_a_kernels_own_and_the_day_is_everybodys(ledger: Ledger) -> None:
    """Another kernel has its own session, and shares the day."""
    ledger.set_caps(session=1000, day=1500)
    payment_in(ledger, State.SETTLED, amount=1000)

    with another(ledger) as other:
        assert Usage(0, 1000) == other.committed("real")
        payment_in(other, State.RESERVED, amount=500)
        with pytest.raises(BudgetError, match="day"):
            other.reserve(another_purchase(other), 1)
    with pytest.raises(BudgetError, match="session"):
        ledger.reserve(another_purchase(ledger), 1)


def test_realms_have_caps_of_their_own(ledger: Ledger) -> None:
    """Payments of play money do not count against the caps of real money."""
    ledger.set_caps(session=1000, day=1000)
    payment_in(ledger, State.SETTLED, amount=1000, of=purchase(ledger, realm="practice"))

    assert payment_in(ledger, State.SETTLED, amount=1000, of=purchase(ledger, realm="real"))
    assert payment_in(ledger, State.SETTLED, amount=1000, of=purchase(ledger, realm="testnet"))
    assert Usage(1000, 1000) == ledger.committed("practice")


def test_a_day_ends_at_midnight_utc(ledger: Ledger, clock: Clock) -> None:
    """At 00:00:00 UTC the day's sum is zero again; the session's sum is not."""
    ledger.set_caps(day=1000)
    clock.now = NOON + 43_200 - 0.001
    payment_in(ledger, State.SETTLED, amount=1000)
    with pytest.raises(BudgetError, match="day"):
        ledger.reserve(another_purchase(ledger), 1)

    clock.now = NOON + 43_200

    assert Usage(session=1000, day=0) == ledger.committed("real")
    assert ledger.reserve(another_purchase(ledger), 1000)


def test_an_amount_below_zero_is_no_reservation(ledger: Ledger) -> None:
    """A negative amount cannot make room in the caps."""
    with pytest.raises(LedgerError):
        ledger.reserve(another_purchase(ledger), -1)


# -- holds: a batch reserves its total first


def test_a_hold_counts_until_it_is_dropped(ledger: Ledger) -> None:
    """A batch's hold counts against the caps for others until it is dropped."""
    ledger.set_caps(day=1000)
    hold = ledger.hold("real", 800)

    with another(ledger) as other:
        assert Usage(0, 800) == other.committed("real")
        with pytest.raises(BudgetError):
            other.reserve(another_purchase(other), 201)
        ledger.drop_hold(hold)
        assert other.reserve(another_purchase(other), 1000)


def test_a_batch_is_held_as_a_whole_or_not_at_all(ledger: Ledger) -> None:
    """A total above the cap reserves nothing."""
    ledger.set_caps(session=1000)
    before = rows(ledger)

    with pytest.raises(BudgetError, match="session"):
        ledger.hold("real", 1001)

    assert before == rows(ledger)


def test_the_parts_come_out_of_their_hold(ledger: Ledger) -> None:
    """A part of a hold is not counted twice; a part above the rest of the hold needs room in the cap."""
    ledger.set_caps(session=1000)
    hold = ledger.hold("real", 1000)

    for amount in (600, 300, 100):
        ledger.reserve(another_purchase(ledger), amount, hold)
        assert Usage(1000, 1000) == ledger.committed("real")
    with pytest.raises(BudgetError):
        ledger.reserve(another_purchase(ledger), 1, hold)


def test_a_refused_part_leaves_its_hold_alone(ledger: Ledger) -> None:
    """A part above the cap is not reserved, and the hold stays the same."""
    ledger.set_caps(session=1000)
    begun, hold = purchase(ledger), ledger.hold("real", 900)
    before = rows(ledger)

    with pytest.raises(BudgetError):
        ledger.reserve(begun, 1001, hold)

    assert before == rows(ledger)


def test_a_hold_lives_as_long_as_its_process(ledger: Ledger, clock: Clock) -> None:
    """A hold lasts until its kernel ends, at any time of the clock, and counts for other kernels."""
    with another(ledger) as other:
        other.hold("real", 1000)
        clock.now += 7200
        assert (1000, 1000) == (ledger.committed("real").day, ledger.committed("real").held)

    assert Usage(0, 0) == ledger.committed("real")

    ledger.reserve(another_purchase(ledger), 1)

    assert [] == ledger.query("SELECT * FROM holds")


# -- several kernels, several threads


def test_threads_of_one_kernel_share_a_ledger(ledger: Ledger) -> None:
    """Eight threads that reserve at once through one ledger fill the cap exactly."""
    ledger.set_caps(session=500_000)
    totals: list[int] = []
    threads = [threading.Thread(target=lambda: totals.append(fill_up(ledger))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 500_000 == sum(totals)
    assert Usage(500_000, 500_000) == ledger.committed("real")


# -- the file


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_files_are_their_owners_alone(path: Path) -> None:
    """With any umask, only the owner can read the ledger, its journal and its shared memory."""
    before = os.umask(0)
    try:
        with closing(Ledger(path, "one")) as ledger:
            payment_in(ledger, State.SIGNED)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir() if file.is_file()}
    finally:
        os.umask(before)

    assert {"ledger.sqlite": 0o600, "ledger.sqlite-wal": 0o600, "ledger.sqlite-shm": 0o600} == modes
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)


@ON_A_FILE
def test_what_lets_something_leave_is_on_the_disk_before(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger has a write-ahead log; it syncs the step before a payment is sent, and each outcome.

    Reservations and unsent signatures are committed at once and synced with the next durable step.
    """
    commits: list[tuple[set[State], bool]] = []
    changing: set[State] = set()

    def trace(statement: str) -> None:
        new = {State.RESERVED} if statement.startswith("INSERT INTO authorizations") else set()
        changing.update(new, (state for state in State if f"SET state = '{state}'" in statement))
        if statement == "COMMIT":
            commits.append(({*changing}, False))
            changing.clear()

    def sync(_: int) -> None:
        commits[-1] = (commits[-1][0], True)

    monkeypatch.setattr(log, "_sync", sync)
    ledger.database._connection.set_trace_callback(trace)
    payment_in(ledger, State.RESERVED, of=purchase(ledger, take=5))
    payment_in(ledger, State.SUBMITTED, of=purchase(ledger, take=1))
    payment_in(ledger, State.SETTLED, of=purchase(ledger, take=2))
    payment_in(ledger, State.UNKNOWN, of=purchase(ledger, take=3))
    payment_in(ledger, State.POLLING, of=purchase(ledger, take=4))
    ledger.database._connection.set_trace_callback(None)

    early = {State.RESERVED, State.SIGNED}
    assert ["wal"] == [row[0] for row in ledger.query("PRAGMA journal_mode")]
    assert {False} == {lasts for states, lasts in commits if states & early}
    assert {True} == {lasts for states, lasts in commits if states - early}
    assert {State.RESERVED, State.SIGNED, State.SUBMITTED, State.SETTLED, State.UNKNOWN, State.POLLING} == {
        state for states, _ in commits for state in states
    }


def test_a_server_has_it_on_the_disk_before(server: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL also syncs reservations: after the loss of one, another payment would get its id."""
    committed: list[tuple[str, bool]] = []
    transaction = server.transaction

    @contextmanager
    def watched(*, durable: bool = True, new_ids: bool = False) -> Iterator[Connection]:
        with transaction(durable=durable, new_ids=new_ids) as connection:
            yield connection
            [setting] = connection.execute("SHOW synchronous_commit").fetchone()
            states = connection.execute("SELECT state FROM authorizations WHERE xmin = pg_current_xact_id()::xid")
            committed.extend((row[0], setting == "on") for row in states)

    monkeypatch.setattr(server, "transaction", watched)
    with closing(Ledger(server, "one", Clock())) as ledger:
        for state in (State.RESERVED, State.SUBMITTED, State.SETTLED, State.UNKNOWN, State.POLLING):
            payment_in(ledger, state)

    assert {True} == {durable for _, durable in committed}
    assert {*State} - {State.RELEASED} == {state for state, _ in committed}


def test_a_ledger_is_opened_again(ledger: Ledger) -> None:
    """Closing a ledger loses nothing, and opening a current one changes nothing."""
    payment = payment_in(ledger, State.UNKNOWN)
    before = rows(ledger)
    ledger.close()

    with another(ledger, "later") as again:
        assert before == rows(again)
        assert payment == payment_of(again, payment.id)


def test_a_migration_that_fails_is_undone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails halfway changes nothing, and the ledger opens as before."""
    with closing(Ledger(path, "one")) as ledger:
        payment_in(ledger, State.SETTLED)
        before = rows(ledger)

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM counters")
        connection.execute("this is no SQL")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "_MIGRATIONS", [*schema._MIGRATIONS, ("broken", broken)])
        with pytest.raises(LedgerError, match="syntax"):
            Ledger(path, "newer")

    with closing(Ledger(path, "one")) as ledger:
        assert before == rows(ledger)


WRITES: dict[str, Callable[[Ledger, Payment], object]] = {
    "begin": lambda ledger, payment: purchase(ledger, "sha256:new"),
    "reserve": lambda ledger, payment: ledger.reserve(another_purchase(ledger), 1),
    "hold": lambda ledger, payment: ledger.hold("real", 1),
    "drop_hold": lambda ledger, payment: ledger.drop_hold(1),
    "settle": lambda ledger, payment: ledger.settle(payment.id, HASH, witness=Witness.CHAIN),
    "release": lambda ledger, payment: ledger.release(payment.id, "x", witness=Witness.USER),
    "poll": lambda ledger, payment: ledger.poll(payment.id, payment.purchase_id, JOB),
    "doubt": lambda ledger, payment: ledger.mark_unknown(payment.id, "x"),
    "answer": lambda ledger, payment: ledger.save_image_urls(payment.purchase_id, []),
    "finish": lambda ledger, payment: ledger.finish(payment.purchase_id, [PICTURE], 1.0),
    "set_caps": lambda ledger, payment: ledger.set_caps(day=1),
    "forget_job": lambda ledger, payment: ledger.forget_job(payment.purchase_id),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_locked_ledger_is_our_error(path: Path, monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    """If another connection locks the file for too long, nothing is written and an error is raised."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.02)
    with closing(Ledger(path, "one")) as ledger, closing(sqlite3.connect(path, isolation_level=None)) as other:
        payment = payment_in(ledger, State.SUBMITTED)
        before = rows(ledger)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(LedgerError, match="locked") as caught:
            WRITES[write](ledger, payment)

        assert before == rows(ledger)
        assert Money.nothing_sent() == caught.value.money
        other.execute("ROLLBACK")
        WRITES[write](ledger, payment)


def test_a_ledger_that_is_locked_from_the_start_is_our_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a new ledger that another connection locks fails with the same error."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.02)
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(LedgerError, match="locked"):
            Ledger(path, "one")


FILLED: dict[str, Callable[[Ledger, Payment, str], object]] = {
    "begin": lambda ledger, payment, text: ledger.create_purchase(
        "real", "base", "2", 1, {"prompt": text}, private=False
    ),
    "poll": lambda ledger, payment, text: ledger.poll(payment.id, payment.purchase_id, text),
    "doubt": lambda ledger, payment, text: ledger.mark_unknown(payment.id, text),
    "release": lambda ledger, payment, text: ledger.release(payment.id, text, witness=Witness.USER),
    "answer": lambda ledger, payment, text: ledger.save_image_urls(payment.purchase_id, [{"url": text}]),
    "finish": lambda ledger, payment, text: ledger.finish(
        payment.purchase_id, [StoredImage("cd" * 32, "image/png", 1, 1, text)], 1.0
    ),
}


@ON_A_FILE
@pytest.mark.parametrize("write", FILLED)
def test_a_full_disk_changes_nothing(ledger: Ledger, write: str) -> None:
    """On a full disk the whole step fails with our error and changes nothing; it succeeds when there is space."""
    payment = payment_in(ledger, State.SUBMITTED)
    before = rows(ledger)
    pages = ledger.query("PRAGMA page_count")[0][0]
    ledger.query(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(LedgerError, match="full") as caught:
        FILLED[write](ledger, payment, "x" * 50_000)

    assert "space" in caught.value.hint
    assert before == rows(ledger)
    assert ["ok"] == [row[0] for row in ledger.query("PRAGMA integrity_check")]
    ledger.query(f"PRAGMA max_page_count = {pages + 100}")
    FILLED[write](ledger, payment, "x" * 50_000)
    assert before != rows(ledger)


def test_a_step_that_is_interrupted_is_undone(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the middle of a step leaves the ledger unchanged and usable."""
    payment = payment_in(ledger, State.SUBMITTED)
    before = rows(ledger)

    def stop() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "clock", stop)
    with pytest.raises(KeyboardInterrupt):
        ledger.poll(payment.id, payment.purchase_id, JOB)
    monkeypatch.undo()

    assert before == rows(ledger)
    ledger.poll(payment.id, payment.purchase_id, JOB)


@pytest.mark.parametrize("contents", [b"this is no database, whatever its name is. " * 50, b"SQLite format 3\0 cut"])
def test_a_file_that_is_no_ledger_is_our_error(path: Path, contents: bytes) -> None:
    """The error names a damaged file, which is not overwritten."""
    path.parent.mkdir()
    path.write_bytes(contents)

    with pytest.raises(LedgerError) as caught:
        Ledger(path, "one")

    assert str(path) in caught.value.message
    assert contents == path.read_bytes()


def test_a_place_that_cannot_be_is_our_error(tmp_path: Path) -> None:
    """A ledger in a folder that cannot be made causes an error of ours."""
    (tmp_path / "magic").write_text("a file")

    with pytest.raises(LedgerError):
        Ledger(tmp_path / "magic" / "ledger.sqlite", "one")


@ON_A_FILE
def test_a_closed_ledger_is_our_error(ledger: Ledger) -> None:
    """Reading from or writing to a closed ledger causes an error of ours."""
    ledger.close()

    with pytest.raises(LedgerError):
        ledger.caps()
    with pytest.raises(LedgerError):
        ledger.set_caps(day=1)


def test_the_clock_is_the_worlds_unless_given(path: Path) -> None:
    """A ledger without a clock of its own writes Unix time."""
    before = time.time()
    with closing(Ledger(path, "one")) as ledger:
        begun = purchase(ledger)

    assert before <= begun.purchased_at <= time.time()


def _use_elsewhere(path: Path) -> None:
    """Open a ledger in another process, write to it and close it."""
    with closing(Ledger(path, "another process")) as ledger:
        ledger.set_setting("seen", "yes")


def test_a_second_ledger_in_a_process_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    """When another process closes the file, the log of the first ledger stays usable."""
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger(path, "first")) as first:
        first.set_setting("x", "before")
        with closing(Ledger(path, "second")):
            process = multiprocessing.get_context("spawn").Process(target=_use_elsewhere, args=(path,))
            process.start()
            process.join(PATIENCE)
        assert 0 == process.exitcode
        first.set_setting("x", "after")
        with closing(Ledger(path, "third")) as third:
            assert "after" == third.setting("x")
