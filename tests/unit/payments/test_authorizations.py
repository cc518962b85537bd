"""Authorizations and their payloads, limits and their counters, and a home directory of an earlier version."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrun_magic.database.engine import NotUnique
from blockrun_magic.errors import BlockrunError, BudgetError, LedgerError, LessonError, PaymentOutcomeUnknown
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.limits import Caps
from blockrun_magic.payments.ledger.price_cache import cache_quote, cached_quote
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.reports import stored_files
from blockrun_magic.payments.ledger.states import State, Witness
from blockrun_magic.payments.ledger.years.search import HistorySearch
from blockrun_magic.payments.x402.networks import BASE
from blockrun_magic.payments.x402.protocol import PaymentPayload, PaymentRequirements
from harness.ledgers import (
    HASH,
    JOB,
    NOON,
    ON_A_FILE,
    STEPS,
    Clock,
    another,
    another_purchase,
    authorize,
    payment_in,
    signed,
)

HOME = Path(__file__).parents[2] / "fixtures" / "home_of_0_1"
DAY = 86_400.0


def payload(payment: Payment, amount: int, until: float = NOON + 300, header: str = "another header") -> PaymentPayload:
    """Return another signature with the nonce of `payment`."""
    first = signed(payment.nonce)
    authorization = replace(first.authorization, value=amount, valid_before=int(until))
    return PaymentPayload(authorization, "PAYMENT-SIGNATURE", header)


# -- authorizations and payloads


def test_a_payload_is_never_overwritten(ledger: Ledger) -> None:
    """Each signature is a row. The payment has the largest amount, the latest expiry and the newest header."""
    payment = payment_in(ledger, State.UNKNOWN, amount=42_000)
    payment = ledger.add_payload(payment.id, payload(payment, 41_000, until=NOON + 60))

    assert [52_500, 41_000] == [known.amount for known in payment.payloads]
    assert (42_000, int(NOON) + 300) == (payment.amount, payment.valid_before)
    assert payment.payload is not None
    assert "another header" == payment.payload.header_value
    assert all(known.header_value for known in payment.payloads)
    assert 42_000 == ledger.committed("real").day


def test_a_raise_is_a_reservation_of_now(ledger: Ledger, clock: Clock) -> None:
    """The difference counts in the session and on the day of the new signature; the first amount does not move."""
    payment = payment_in(ledger, State.UNKNOWN, amount=42_000)
    clock.now += DAY
    with another(ledger, "new") as new:
        new.set_caps(session=21_000)
        new.add_payload(payment.id, payload(payment, 63_000))

        assert (21_000, 63_000) == (new.committed("real").session, new.committed("real").day)
        with pytest.raises(BudgetError):
            new.reserve(another_purchase(new), 1)

    assert 42_000 == ledger.committed("real").session
    assert {} == ledger.check()


def test_a_raise_above_a_limit_changes_nothing(ledger: Ledger) -> None:
    """The new signature is refused before it is recorded."""
    payment = payment_in(ledger, State.UNKNOWN, amount=42_000)
    ledger.set_caps(day=50_000)

    with pytest.raises(BudgetError):
        ledger.add_payload(payment.id, payload(payment, 63_000))

    assert payment == ledger.payment(payment.id)
    assert 42_000 == ledger.committed("real").day


def test_a_witness_says_which_payload_moved(ledger: Ledger) -> None:
    """The charged amount replaces the largest one in every counter, and its header replaces the newest one."""
    payment = payment_in(ledger, State.UNKNOWN, amount=52_500)
    with another(ledger) as other:
        other.add_payload(payment.id, payload(payment, 63_000))
        payment = other.settle(payment.id, HASH, witness=Witness.CHAIN, charged=52_500)

        assert 0 == other.committed("real").session
    assert (52_500, 52_500) == (ledger.committed("real").session, ledger.committed("real").day)
    assert payment.payload is not None
    assert payment.payloads[0] == payment.payload
    assert {} == ledger.check()


def test_one_purchase_has_one_open_authorization(ledger: Ledger) -> None:
    """The transaction of a reservation refuses a second authorization, and so does the database."""
    begun = another_purchase(ledger)
    payment = authorize(ledger, begun, 1)
    for state in (State.SUBMITTED, State.UNKNOWN):
        with another(ledger) as other, pytest.raises(PaymentOutcomeUnknown):
            other.reserve(begun, 1)
        STEPS[state](ledger, payment)
    with pytest.raises(NotUnique), ledger.transaction() as connection:
        connection.execute(
            "INSERT INTO authorizations (purchase_id, session, realm, created_at, updated_at, state, amount)"
            " VALUES (?, 'x', 'real', 1, 1, 'reserved', 1)",
            (begun.id,),
        )

    ledger.release(payment.id, "expired unused", witness=Witness.CHAIN)

    assert ledger.reserve(begun, 1)


@pytest.mark.parametrize("state", [State.SUBMITTED, State.POLLING, State.UNKNOWN], ids=str)
def test_only_a_witness_takes_back_what_was_sent(ledger: Ledger, state: State) -> None:
    """A release without a witness is refused, and the amount stays at risk."""
    payment = payment_in(ledger, state)

    with pytest.raises(LedgerError):
        ledger.release(payment.id, "the gateway says so")

    assert state is ledger.payment(payment.id).state
    assert 52_500 == ledger.committed("real").at_risk


def test_a_claimed_transaction_settles_nothing(ledger: Ledger) -> None:
    """A transaction hash from the gateway is only a note until a witness confirms it."""
    payment = payment_in(ledger, State.UNKNOWN)
    payment = ledger.claim(payment.id, HASH)

    assert (State.UNKNOWN, HASH) == (payment.state, payment.transaction)
    assert 52_500 == ledger.committed("real").at_risk


def test_a_header_hides_in_every_frame(ledger: Ledger) -> None:
    """A traceback that prints local variables shows no header when the ledger fails."""
    from harness.wallets import verbose

    secret = "b25lIGhlYWRlciB0aGF0IGlzIG1vbmV5" * 4
    sent = payload(payment_in(ledger, State.UNKNOWN), -1, header=secret)  # the tables refuse a negative amount
    with pytest.raises(LedgerError) as signing:
        authorize(ledger, another_purchase(ledger), 52_500, sent)

    error = signing.value
    assert error.__traceback__ is not None
    assert secret not in verbose(error.with_traceback(error.__traceback__.tb_next))  # without this test's own frame


# -- limits


def test_at_risk_counts_every_day(ledger: Ledger, clock: Clock) -> None:
    """An open payment counts on every day, a settled one on the day of its settlement."""
    ledger.set_caps(day=100_000)
    clock.now = NOON + DAY / 2 - 20
    payments = [payment_in(ledger, State.UNKNOWN, amount=42_000) for _ in range(2)]
    clock.now += 25

    assert 84_000 == ledger.committed("real").day
    with pytest.raises(BudgetError):
        ledger.reserve(another_purchase(ledger), 42_000)

    ledger.settle(payments[0].id, HASH, witness=Witness.CHAIN)
    ledger.release(payments[1].id, "expired unused", witness=Witness.CHAIN)

    assert 42_000 == ledger.committed("real").day
    clock.now += DAY
    assert 0 == ledger.committed("real").day


def test_a_guard_forbids_every_reservation(ledger: Ledger) -> None:
    """Modes that forbid spending are checked by every reservation."""

    def forbidden(realm: str) -> None:
        raise LessonError(f"No {realm} money here.", "Close the lesson.")

    ledger.guards.append(forbidden)
    begun = another_purchase(ledger)

    with pytest.raises(LessonError):
        ledger.reserve(begun, 1)
    with pytest.raises(LessonError):
        ledger.hold("real", 1)

    assert 0 == ledger.committed("real").day


def test_a_session_is_shared_by_all_its_ledgers(path: Path, clock: Clock) -> None:
    """Scripts that open a ledger for each call share one session."""
    for _ in range(2):
        with closing(Ledger(path, "process", clock)) as ledger:
            ledger.set_caps(session=50_000)
            payment_in(ledger, State.UNKNOWN, amount=20_000)
    with closing(Ledger(path, "process", clock)) as ledger, pytest.raises(BudgetError):
        payment_in(ledger, State.UNKNOWN, amount=20_000)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_counters_are_what_the_payments_add_up_to(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """A check finds no error after any step of a random history of two kernels over several days."""
    dice, clock = random.Random(seed), Clock()  # noqa: S311  dice, not secrets
    path = tmp_path_factory.mktemp("history") / "ledger.sqlite"
    with closing(Ledger(path, "one", clock)) as one, closing(Ledger(path, "two", clock)) as two:
        one.query("PRAGMA synchronous = OFF")
        one.set_caps(session=400_000, day=700_000)
        payments: list[int] = []
        for _ in range(30):
            ledger = dice.choice((one, two))
            clock.now += dice.choice((1.0, 3600.0, DAY))
            with suppress(BlockrunError):
                random_step(ledger, payments, dice)
            assert {} == one.check()
            assert at_risk_of(one) == one.committed("real").at_risk <= one.caps().day


def random_step(ledger: Ledger, payments: list[int], dice: random.Random) -> None:
    """Take a random step with a payment, legal or not."""
    if not payments or dice.random() < 0.3:
        begin = dice.choice((ledger.reserve, partial(authorize, ledger)))
        payments.append(begin(another_purchase(ledger), dice.randrange(1, 90_000)).id)
        return
    payment = ledger.payment(dice.choice(payments))
    amount = dice.randrange(1, 90_000)
    steps = [
        lambda: ledger.submit(payment.id),
        lambda: ledger.poll(payment.id, payment.purchase_id, JOB),
        lambda: ledger.mark_unknown(payment.id, "no answer"),
        lambda: ledger.claim(payment.id, HASH),
        lambda: ledger.add_payload(payment.id, payload(payment, amount)) if payment.nonce else None,
        lambda: ledger.settle(payment.id, HASH, witness=Witness.CHAIN, charged=dice.choice((None, amount))),
        lambda: ledger.release(payment.id, "expired unused", witness=dice.choice((None, Witness.CHAIN))),
    ]
    dice.choice(steps)()


def at_risk_of(ledger: Ledger) -> int:
    """Return the total at risk, added up payment by payment."""
    return sum(payment.amount for payment in ledger.open_payments())


# -- the file


@ON_A_FILE
@pytest.mark.parametrize("loss", ["removed", "replaced", "cut", "newer tables", "newer version"])
def test_money_is_reserved_in_the_file_at_its_path(ledger: Ledger, path: Path, loss: str) -> None:
    """A damaged ledger, or one of another version, refuses reservations and submissions."""
    ready = payment_in(ledger, State.SIGNED)
    begun = another_purchase(ledger)
    if loss in ("removed", "replaced"):
        path.unlink()
    if loss == "replaced":
        path.touch()
    elif loss == "cut":
        os.truncate(path, 0)
    elif loss.startswith("newer"):
        change = "INSERT INTO migrations VALUES ('ledger/a_later_one', 'now'); CREATE TABLE later (id INTEGER)"
        with closing(sqlite3.connect(path)) as other:
            other.executescript(change if loss == "newer tables" else "PRAGMA user_version = 99")

    with pytest.raises(LedgerError):
        ledger.reserve(begun, 1)
    with pytest.raises(LedgerError):
        ledger.submit(ready.id)

    assert State.SIGNED is ledger.payment(ready.id).state


@ON_A_FILE
def test_a_newer_ledger_is_refused(ledger: Ledger, path: Path) -> None:
    """A ledger of an unknown version is not opened."""
    ledger.query("PRAGMA user_version = 99")
    ledger.close()

    with pytest.raises(LedgerError, match="99"):
        Ledger(path, "one")


def test_an_unknown_state_is_refused(ledger: Ledger) -> None:
    """A ledger with a payment in an unknown state is not opened, because its money cannot be counted."""
    payment = payment_in(ledger, State.RESERVED, amount=4_000_000)
    with ledger.transaction() as connection:
        connection.execute("UPDATE authorizations SET state = 'escrowed' WHERE id = ?", (payment.id,))

    with pytest.raises(LedgerError, match="escrowed"), another(ledger):
        pass


def test_an_empty_ledger_beside_images_is_noticed_once(tmp_path: Path, clock: Clock) -> None:
    """Images without receipts mean that a ledger was lost, so the first reservation of real money fails."""
    Store(tmp_path / "pictures").put(b"bytes", "image/png")
    with closing(Ledger(tmp_path / "ledger.sqlite", "one", clock)) as ledger:
        begun = another_purchase(ledger)
        assert ledger.reserve(another_purchase(ledger, "practice"), 1)
        with pytest.raises(LedgerError):
            ledger.reserve(begun, 1)
        assert ledger.reserve(begun, 1)


@ON_A_FILE
@pytest.mark.parametrize("damage", ["random", "cut", "table", "folder"])
def test_damage_is_named(ledger: Ledger, path: Path, damage: str) -> None:
    """The error of a damaged file advises a backup, not free space."""
    for _ in range(30):
        payment_in(ledger, State.SETTLED)
    if damage == "table":
        with ledger.transaction() as connection:
            connection.execute("DROP TABLE payloads")
    ledger.close()
    if damage == "random":
        content = bytearray(path.read_bytes())
        content[8192:40_960] = random.Random(1).randbytes(40_960 - 8192)  # noqa: S311  damage, not secrets
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:20_000])
    elif damage == "folder":
        path.unlink()
        path.mkdir()

    with pytest.raises(LedgerError) as caught, closing(Ledger(path, "one")) as again:
        payment_in(again, State.SIGNED)

    assert "backup" in caught.value.hint


# -- cached prices


def test_a_price_is_not_signed_ahead_after_the_clock_was_changed(ledger: Ledger, clock: Clock) -> None:
    """After a change of the clock or a sleep, a cached price is not signed."""
    accepted = {"scheme": "exact", "network": BASE.id, "amount": "1"}
    terms = PaymentRequirements(2, BASE, 1, "0x" + "5a" * 20, 300, accepted)
    cache_quote(ledger, "base", "key", terms, monotonic=lambda: 100.0)
    clock.now += 600

    assert cached_quote(ledger, "base", "key", monotonic=lambda: 700.0)
    assert cached_quote(ledger, "base", "key", monotonic=lambda: 130.0) is None


# -- a home of an earlier version


@pytest.fixture
def old_home(tmp_path: Path) -> Path:
    """Return a copy of a home directory from a version without tables of payloads, reservations and limits."""
    return Path(shutil.copytree(HOME, tmp_path / "home"))


def test_a_home_of_an_earlier_version_opens_with_nothing_lost(old_home: Path) -> None:
    """Purchases, payments, headers, images, limits and settings are those of the old version."""
    path = old_home / "magic" / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as before:
        counts = {
            table: before.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in ("purchases", "authorizations", "pictures", "quotes")
        }
        states = before.execute("SELECT id, state, amount, header_value FROM authorizations ORDER BY id").fetchall()
    clock = Clock(1_795_262_400.0 + 900)
    with closing(Ledger(path, "new", clock)) as ledger:
        after = {
            table: ledger.query(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608
            for table in counts
        }
        payments = [ledger.payment(number) for number, *_ in states]
        files = {file for file, _ in stored_files(ledger)}
        unfinished = [purchase.request["prompt"] for purchase in ledger.open_purchases()]

        assert counts == after
        assert [(number, state, amount) for number, state, amount, _ in states] == [
            (payment.id, payment.state, payment.amount) for payment in payments
        ]
        assert [header for *_, header in states] == [
            payment.payload.header_value if payment.payload else None for payment in payments
        ]
        assert Caps(image=400_000, day=9_000_000) == ledger.caps()
        assert "files" == ledger.setting("uploads.base")
        assert {} == ledger.check()
        settled_today, at_risk = 52_500 + 42_000 + 21_000 + 52_500, 52_500 * 4 + 47_250 + 50_000
        assert (settled_today + at_risk, at_risk) == (ledger.committed("real").day, ledger.committed("real").at_risk)
        assert {"a dropped connection", "a job under way", "paid and not delivered"} <= set(unfinished)
        assert len(files) == 7


def test_an_earlier_version_has_the_tables_of_a_new_ledger(old_home: Path, tmp_path: Path) -> None:
    """A converted ledger has the same columns and indexes as a new one, and its version number is the current one."""
    shapes = []
    for path in (old_home / "magic" / "ledger.sqlite", tmp_path / "new.sqlite"):
        with closing(Ledger(path, "one")) as ledger:
            tables = ledger.query("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY 1")
            shapes.append(
                {
                    name: [
                        sorted(tuple(row)[1:] for row in ledger.query(f"PRAGMA table_info({name})")),
                        sorted(tuple(row)[2:] for row in ledger.query(f"PRAGMA index_list({name})")),
                        sorted(tuple(row)[2:] for row in ledger.query(f"PRAGMA foreign_key_list({name})")),
                    ]
                    for (name,) in tables
                }
            )
            assert 8 == ledger.query("PRAGMA user_version")[0][0]

    assert shapes[0] == shapes[1]


def test_payments_of_an_earlier_version_continue(old_home: Path) -> None:
    """A witness settles an unknown payment and releases one that was polling; an unsent signature is released."""
    clock = Clock(1_795_262_400.0 + 900)
    with closing(Ledger(old_home / "magic" / "ledger.sqlite", "new", clock)) as ledger:
        by_state = {payment.state: payment for payment in ledger.open_payments()}
        ledger.settle(by_state[State.UNKNOWN].id, None, witness=Witness.USER)
        ledger.release(by_state[State.POLLING].id, "expired unused", witness=Witness.CHAIN)
        ledger.release(by_state[State.SIGNED].id, "never sent")

        assert {} == ledger.check()
        assert payment_in(ledger, State.SETTLED)


def test_the_images_of_an_earlier_version_are_there(old_home: Path) -> None:
    """The file of each recorded image is read by its hash."""
    store = Store(old_home / "magic" / "pictures")
    with closing(Ledger(old_home / "magic" / "ledger.sqlite", "new")) as ledger:
        finished = ledger.search_finished(HistorySearch("real"), 100) + ledger.search_finished(
            HistorySearch("practice"), 100
        )
        images = [image for purchase in finished for image in ledger.images(purchase.id)]

        assert 5 == len(finished)
        assert all(store.get(image.file, image.media_type) for image in images)
