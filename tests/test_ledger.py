"""The ledger: every step of a payment on record, the caps over all kernels, and what a bad disk may not do."""

from __future__ import annotations

import itertools
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.errors import BudgetError, LedgerError
from blockrun_magic.payments import database
from blockrun_magic.payments.budget import DEFAULT_CAPS, Caps, Committed
from blockrun_magic.payments.ledger import Ledger
from blockrun_magic.payments.rows import KeptPicture, Payment, Purchase
from blockrun_magic.payments.states import AT_RISK, OPEN, TRANSITIONS, State
from blockrun_magic.payments.x402 import Authorization, SignedPayment

MIDNIGHT = 1_800_057_600
"""A midnight in UTC: 20 835 days after the first one."""
NOON = MIDNIGHT + 43_200
HASH = "0x" + "ab" * 32
PICTURE = KeptPicture("f" * 64, "image/png", 1024, 1024)
HEADER = "the header is money"


@dataclass
class Clock:
    """A clock that stands still until it is told otherwise."""

    now: float = NOON

    def __call__(self) -> float:
        """Return the time it was set to."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock at noon."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the ledger is."""
    return tmp_path / "magic" / "ledger.sqlite"


@pytest.fixture
def opened(path: Path, clock: Clock) -> Iterator[Callable[[str], Ledger]]:
    """Return what opens the one file for the session of that name, and closes it at the end."""
    ledgers: list[Ledger] = []

    def open_for(session: str) -> Ledger:
        ledgers.append(Ledger(path, session, clock))
        return ledgers[-1]

    yield open_for
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened: Callable[[str], Ledger]) -> Ledger:
    """Return the ledger of a session called "one"."""
    return opened("one")


_takes = itertools.count(1)
_nonces = itertools.count(1)


def begun(ledger: Ledger, realm: str = "real", model: str = "google/nano-banana") -> Purchase:
    """Return a purchase that nobody began before."""
    request = {"endpoint": "/v1/images/generations", "model": model, "prompt": "a fox"}
    return ledger.begin(realm, "base", "sha256:0", next(_takes), request, private=False)


def signed() -> SignedPayment:
    """Return a signature as the ledger sees it; nobody could cash this one."""
    nonce = f"0x{next(_nonces):064x}"
    return SignedPayment(Authorization("0xpayer", "0xpayee", 1, 0, NOON + 300, nonce), "PAYMENT-SIGNATURE", HEADER)


MOVES: dict[State, Callable[[Ledger, Purchase, int], None]] = {
    State.SIGNED: lambda ledger, _, payment: ledger.sign(payment, "eip155:8453", signed()),
    State.SUBMITTED: lambda ledger, _, payment: ledger.submit(payment),
    State.POLLING: lambda ledger, purchase, payment: ledger.poll(payment, purchase.id, "https://blockrun.ai/api/job"),
    State.SETTLED: lambda ledger, _, payment: ledger.settle(payment, HASH),
    State.RELEASED: lambda ledger, _, payment: ledger.release(payment, "never sent"),
    State.UNKNOWN: lambda ledger, _, payment: ledger.doubt(payment, "the connection broke off"),
}
WAYS: dict[State, tuple[State, ...]] = {
    State.RESERVED: (),
    State.SIGNED: (State.SIGNED,),
    State.SUBMITTED: (State.SIGNED, State.SUBMITTED),
    State.POLLING: (State.SIGNED, State.SUBMITTED, State.POLLING),
    State.SETTLED: (State.SIGNED, State.SUBMITTED, State.SETTLED),
    State.RELEASED: (State.RELEASED,),
    State.UNKNOWN: (State.SIGNED, State.SUBMITTED, State.UNKNOWN),
}


def paid(
    ledger: Ledger, state: State = State.SETTLED, amount: int = 53_500, realm: str = "real"
) -> tuple[Purchase, int]:
    """Return a purchase, and the id of its payment, which stands in `state`."""
    purchase = begun(ledger, realm)
    payment = ledger.reserve(purchase, amount)
    for step in WAYS[state]:
        MOVES[step](ledger, purchase, payment)
    return purchase, payment


def payment_of(ledger: Ledger, purchase: Purchase) -> Payment:
    """Return the one payment of a purchase."""
    [payment] = ledger.payments(purchase.id)
    return payment


# The life of an authorization.


PAIRS = [(now, to) for now in State for to in MOVES if now is not to]


@pytest.mark.parametrize(("now", "to"), [pair for pair in PAIRS if pair[1] in TRANSITIONS[pair[0]]])
def test_a_step_of_the_drawing_is_taken(ledger: Ledger, now: State, to: State) -> None:
    """Each arrow of the state machine is a call that leads there, and is on record after it."""
    purchase, payment = paid(ledger, now)
    MOVES[to](ledger, purchase, payment)

    assert to is payment_of(ledger, purchase).state


@pytest.mark.parametrize(("now", "to"), [pair for pair in PAIRS if pair[1] not in TRANSITIONS[pair[0]]])
def test_a_step_that_is_not_drawn_is_refused(ledger: Ledger, now: State, to: State) -> None:
    """What has ended stays ended, nothing is skipped, and a refused step leaves no trace."""
    purchase, payment = paid(ledger, now)
    before = payment_of(ledger, purchase), ledger.purchase_by_id(purchase.id)
    with pytest.raises(LedgerError, match=f"as {now}, which cannot become {to}"):
        MOVES[to](ledger, purchase, payment)

    assert before == (payment_of(ledger, purchase), ledger.purchase_by_id(purchase.id))


@pytest.mark.parametrize("state", MOVES)
def test_a_step_taken_twice_is_one(ledger: Ledger, state: State) -> None:
    """Coming where one is already changes nothing: settling twice is one settlement."""
    purchase, payment = paid(ledger, state)
    before = payment_of(ledger, purchase)
    MOVES[state](ledger, purchase, payment)

    assert before == payment_of(ledger, purchase)


def test_every_state_leads_to_an_end() -> None:
    """From anywhere, an authorization can become settled or released, and those two are final."""
    for state in State:
        reached, seen = {state}, set()
        while reached - seen:
            seen |= reached
            reached |= {after for now in seen for after in TRANSITIONS[now]}
        ends = {end for end in reached if not TRANSITIONS[end]}

        assert ends <= {State.SETTLED, State.RELEASED}
        assert ends


def test_at_risk_is_all_that_has_no_end() -> None:
    """Whatever is neither settled nor released counts as at risk; no picture yet may be open too."""
    assert {state for state in State if TRANSITIONS[state]} == set(AT_RISK)
    assert {*AT_RISK, State.SETTLED} - {State.RESERVED} == set(OPEN)


def test_a_signature_is_on_record_as_it_was_made(ledger: Ledger) -> None:
    """Network, payer, nonce, end and header are kept: any kernel can go on with the same authorization."""
    purchase = begun(ledger)
    payment = ledger.reserve(purchase, 53_500)
    sent = signed()
    ledger.sign(payment, "eip155:8453", sent)
    kept = payment_of(ledger, purchase)

    assert (53_500, "eip155:8453", "0xpayer", sent.authorization.nonce, NOON + 300) == (
        kept.amount,
        kept.network,
        kept.payer,
        kept.nonce,
        kept.valid_before,
    )
    assert (sent.header_name, sent.header_value) == (kept.header_name, kept.header_value)
    assert HEADER not in repr(kept)


def test_a_nonce_is_recorded_once(ledger: Ledger) -> None:
    """Two payments with one nonce cannot both be in the ledger."""
    sent = signed()
    first, second = (ledger.reserve(begun(ledger), 1) for _ in range(2))
    ledger.sign(first, "eip155:8453", sent)
    with pytest.raises(LedgerError):
        ledger.sign(second, "eip155:8453", sent)


def test_a_payment_that_is_not_there_is_an_error_of_ours(ledger: Ledger) -> None:
    """An id that the ledger does not know is told in words."""
    with pytest.raises(LedgerError, match="no payment 404"):
        ledger.submit(404)


def test_a_job_is_found_again(ledger: Ledger) -> None:
    """The poll URL is on the purchase with the same stroke as the state, until the job is forgotten."""
    purchase, _ = paid(ledger, State.POLLING)
    found = ledger.purchase_by_id(purchase.id)
    assert found is not None

    assert "https://blockrun.ai/api/job" == found.poll_url

    ledger.forget_job(purchase.id)
    forgotten = ledger.purchase_by_id(purchase.id)
    assert forgotten is not None

    assert forgotten.poll_url is None


@pytest.mark.parametrize("state", [state for state in OPEN if state is not State.SETTLED])
def test_a_header_is_kept_while_it_may_be_needed(ledger: Ledger, state: State) -> None:
    """As long as the payment has no end, its header is what a rerun goes on with."""
    purchase, _ = paid(ledger, state)

    assert HEADER == payment_of(ledger, purchase).header_value


@pytest.mark.parametrize("state", [State.SIGNED, State.SUBMITTED, State.POLLING, State.UNKNOWN])
def test_a_released_header_is_wiped(ledger: Ledger, path: Path, state: State) -> None:
    """A cheque that was torn up is not kept."""
    purchase, payment = paid(ledger, state)
    ledger.release(payment, "refused")

    assert payment_of(ledger, purchase).header_value is None


@pytest.mark.parametrize("settled_first", [True, False])
def test_a_spent_header_is_wiped_when_the_picture_is_there(ledger: Ledger, settled_first: bool) -> None:
    """Settled and delivered, in either order: the header is of no use any more and goes."""
    purchase, payment = paid(ledger, State.SUBMITTED)
    steps = [lambda: ledger.settle(payment, HASH), lambda: ledger.finish(purchase.id, [PICTURE], 1.5)]
    for step in steps if settled_first else reversed(steps):
        step()

    assert payment_of(ledger, purchase).header_value is None
    assert HASH == payment_of(ledger, purchase).transaction


def test_a_settled_header_stays_until_the_picture_is_there(ledger: Ledger) -> None:
    """Paid and not delivered: the same header asks for the picture once more."""
    purchase, _ = paid(ledger, State.SETTLED)

    assert HEADER == payment_of(ledger, purchase).header_value


# Purchases.


def test_a_purchase_is_begun_once(ledger: Ledger, opened: Callable[[str], Ledger]) -> None:
    """Two kernels that begin the same take of the same request get the same purchase."""
    wanted = ("real", "base", "sha256:1", 1, {"model": "m", "prompt": "a fox"})
    one, two = (kernel.begin(*wanted, private=True) for kernel in (ledger, opened("two")))

    assert one == two
    assert one == ledger.purchase("real", "sha256:1", 1)


def test_realms_and_takes_are_purchases_of_their_own(ledger: Ledger) -> None:
    """Play money never answers for real money, and another take is another purchase."""
    request = {"model": "m", "prompt": "a fox"}
    begun_ones = [
        ledger.begin(realm, "base", "sha256:1", take, request, private=False)
        for realm, take in (("real", 1), ("real", 2), ("practice", 1))
    ]

    assert 3 == len({purchase.id for purchase in begun_ones})
    assert begun_ones[:2] == ledger.takes("real", "sha256:1")


def test_a_purchase_is_found_by_the_start_of_its_id(ledger: Ledger) -> None:
    """An unambiguous beginning is enough; one that several share, or wildcards, find nothing."""
    purchase = begun(ledger)
    begun(ledger)

    assert purchase == ledger.purchase_by_id(purchase.id)
    assert [None, None, None] == [ledger.purchase_by_id(prefix) for prefix in ("", "%", "zz")]


@pytest.mark.parametrize("state", State)
def test_open_is_what_was_signed_and_has_no_picture(ledger: Ledger, state: State) -> None:
    """Paid or at risk without a picture is open; never signed, released or finished is not."""
    purchase, _ = paid(ledger, state)

    assert (state in OPEN) == (purchase.id in {found.id for found in ledger.open_purchases()})

    ledger.finish(purchase.id, [PICTURE], 1.0)

    assert [] == ledger.open_purchases()


def test_pictures_come_back_in_their_order(ledger: Ledger) -> None:
    """A finished purchase has its pictures as the gateway sent them; finishing again replaces them."""
    purchase, _ = paid(ledger)
    pictures = [KeptPicture(f"{number:064x}", "image/webp", number, 2, f"words {number}") for number in (3, 1, 2)]
    ledger.finish(purchase.id, [PICTURE], 1.0)
    ledger.finish(purchase.id, pictures, 2.5)
    finished = ledger.purchase_by_id(purchase.id)
    assert finished is not None

    assert pictures == ledger.pictures(purchase.id)
    assert (NOON, 2.5, None) == (finished.finished_at, finished.seconds, finished.answer)


def test_an_answer_is_kept_until_its_pictures_are(ledger: Ledger) -> None:
    """Where a paid picture is to be fetched from survives the kernel."""
    purchase, _ = paid(ledger)
    ledger.answer(purchase.id, [{"url": "https://blockrun.ai/a.png"}])
    kept = ledger.purchase_by_id(purchase.id)
    assert kept is not None

    assert [{"url": "https://blockrun.ai/a.png"}] == kept.answer


# Caps.


def test_caps_begin_at_their_defaults_and_are_shared(ledger: Ledger, opened: Callable[[str], Ledger]) -> None:
    """A beginner's caps hold from the start; a change is for every kernel, and for good."""
    assert DEFAULT_CAPS == ledger.caps()

    changed = ledger.set_caps(day=1_000_000)

    assert Caps(day=1_000_000) == changed
    assert changed == opened("two").caps()


@pytest.mark.parametrize("state", State)
def test_whatever_may_have_been_spent_counts(ledger: Ledger, state: State) -> None:
    """Settled and at risk count against the caps alike; what was released is free again."""
    paid(ledger, state, amount=60_000)
    expected = 0 if state is State.RELEASED else 60_000

    assert Committed(expected, expected) == ledger.committed("real")


@pytest.mark.parametrize("cap", ["session", "day"])
def test_a_cap_holds_to_the_micro_dollar(ledger: Ledger, cap: str) -> None:
    """Exactly the cap may be spent, not a millionth more; a refusal reserves nothing."""
    ledger.set_caps(**{cap: 100_000})
    paid(ledger, State.UNKNOWN, amount=60_000)
    purchase = begun(ledger)
    with pytest.raises(BudgetError, match=f"this {cap}'s cap"):
        ledger.reserve(purchase, 40_001)

    assert [] == ledger.payments(purchase.id)

    ledger.reserve(purchase, 40_000)

    assert Committed(100_000, 100_000) == ledger.committed("real")


def test_a_session_has_a_cap_of_its_own_and_the_day_has_one_for_all(
    ledger: Ledger, opened: Callable[[str], Ledger]
) -> None:
    """Another kernel's spending fills the day, not this session."""
    ledger.set_caps(session=50_000, day=80_000)
    other = opened("two")
    paid(other, amount=50_000)

    assert Committed(0, 50_000) == ledger.committed("real")
    with pytest.raises(BudgetError, match="this day's cap"):
        ledger.reserve(begun(ledger), 30_001)
    ledger.reserve(begun(ledger), 30_000)


def test_realms_do_not_share_caps(ledger: Ledger) -> None:
    """Play money spends nothing of what real money may."""
    ledger.set_caps(session=60_000, day=60_000)
    paid(ledger, amount=60_000, realm="practice")

    assert Committed(0, 0) == ledger.committed("real")
    ledger.reserve(begun(ledger), 60_000)


def test_a_day_ends_at_midnight_in_utc(ledger: Ledger, clock: Clock) -> None:
    """The last second of yesterday is not today's; the session goes on counting."""
    clock.now = MIDNIGHT - 1
    paid(ledger, amount=10)
    clock.now = MIDNIGHT
    paid(ledger, amount=200)

    assert Committed(210, 200) == ledger.committed("real")


def test_a_batch_holds_its_total_first(ledger: Ledger, opened: Callable[[str], Ledger]) -> None:
    """What is held is out of reach for everybody else, and counted once while its parts are reserved."""
    ledger.set_caps(day=100_000)
    hold = ledger.hold("real", 90_000)
    with pytest.raises(BudgetError):
        opened("two").reserve(begun(ledger), 10_001)
    for _ in range(3):
        ledger.reserve(begun(ledger), 30_000, hold)

    assert Committed(90_000, 90_000) == ledger.committed("real")

    ledger.drop_hold(hold)

    assert Committed(90_000, 90_000) == ledger.committed("real")


def test_a_batch_is_held_whole_or_not_at_all(ledger: Ledger) -> None:
    """Ten pictures that would pass the cap together are refused before the first."""
    ledger.set_caps(session=100_000)
    paid(ledger, amount=10_001)
    with pytest.raises(BudgetError):
        ledger.hold("real", 90_000)

    assert Committed(10_001, 10_001) == ledger.committed("real")


def test_what_is_left_of_a_hold_is_given_back(ledger: Ledger) -> None:
    """A batch that ends early leaves only what it reserved."""
    hold = ledger.hold("real", 90_000)
    ledger.reserve(begun(ledger), 30_000, hold)
    ledger.drop_hold(hold)

    assert Committed(30_000, 30_000) == ledger.committed("real")


def test_a_part_dearer_than_its_hold_is_checked_against_the_caps(ledger: Ledger) -> None:
    """A hold is no way around the cap: what goes beyond it is checked like anything else."""
    ledger.set_caps(session=100_000)
    hold = ledger.hold("real", 90_000)
    with pytest.raises(BudgetError):
        ledger.reserve(begun(ledger), 100_001, hold)

    assert Committed(90_000, 90_000) == ledger.committed("real")


def test_a_hold_of_a_dead_kernel_ends_by_itself(ledger: Ledger, clock: Clock) -> None:
    """Nobody waits longer than an hour for a kernel that is gone."""
    ledger.hold("real", 90_000)
    clock.now += 3599

    assert Committed(90_000, 90_000) == ledger.committed("real")

    clock.now += 1

    assert Committed(0, 0) == ledger.committed("real")


# Several processes, and a file that cannot be used.


HAMMER = """if True:
    import sys
    from pathlib import Path
    from blockrun_magic.errors import BudgetError
    from blockrun_magic.payments.ledger import Ledger
    path, name = Path(sys.argv[1]), sys.argv[2]
    ledger = Ledger(path, name)
    ledger.set_caps(day=1_000_003)
    sys.stdin.read()
    take = spent = 0
    for amount in (70_001, 7_001, 701, 71, 11, 1):
        while True:
            take += 1
            purchase = ledger.begin("real", "base", name, take, {}, private=False)
            try:
                ledger.reserve(purchase, amount)
            except BudgetError:
                break
            spent += amount
    ledger.close()
    print(spent)
"""


def test_eight_processes_together_spend_exactly_the_cap(path: Path) -> None:
    """They open one new file at once, grab all they can get of one day's cap, and it holds to the last millionth."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(path), f"kernel {number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    # They wait for the end of their input, so that the pushing begins once all of them run.
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    done = [process.communicate(timeout=60) for process in processes]

    assert [""] * 8 == [errors for _, errors in done]
    assert 1_000_003 == sum(int(spent) for spent, _ in done)

    ledger = Ledger(path, "afterwards")
    [row] = ledger.query("SELECT sum(amount) AS total FROM authorizations")
    [check] = ledger.query("PRAGMA integrity_check")
    ledger.close()

    assert (1_000_003, "ok") == (row["total"], check[0])


def test_nobody_else_may_read_the_file(path: Path, opened: Callable[[str], Ledger]) -> None:
    """The ledger and the files that SQLite lays beside it are their owner's alone, whatever the umask."""
    before = os.umask(0)
    try:
        begun(opened("one"))
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    assert dict.fromkeys(["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"], 0o600) == modes
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)


def test_writes_are_durable(ledger: Ledger) -> None:
    """Every transition is on the disk before the action that it allows: SQLite's full synchronisation."""
    [row] = ledger.query("PRAGMA synchronous")

    assert 2 == row[0]


@pytest.fixture
def blocked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Return what takes the file away from everybody, who are not patient."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.01)
    connections: list[sqlite3.Connection] = []

    def block() -> sqlite3.Connection:
        connections.append(sqlite3.connect(path, isolation_level=None))
        connections[-1].execute("BEGIN EXCLUSIVE")
        return connections[-1]

    yield block
    for connection in connections:
        connection.close()


def test_a_locked_ledger_changes_nothing(
    blocked: Callable[[], sqlite3.Connection], opened: Callable[[str], Ledger]
) -> None:
    """While another process holds the file, nothing is written and the error says so; then it goes on."""
    ledger = opened("one")
    purchase, payment = paid(ledger, State.SIGNED)
    other = blocked()
    with pytest.raises(LedgerError, match="locked"):
        ledger.submit(payment)
    with pytest.raises(LedgerError, match="locked"):
        ledger.reserve(purchase, 1)
    other.execute("ROLLBACK")

    assert [State.SIGNED] == [found.state for found in ledger.payments(purchase.id)]

    ledger.submit(payment)

    assert State.SUBMITTED is payment_of(ledger, purchase).state


def test_a_full_disk_changes_nothing(ledger: Ledger) -> None:
    """A write that finds no room is an error of ours, and the payment stands where it stood."""
    purchase, payment = paid(ledger, State.SUBMITTED)
    [pages] = ledger.query("PRAGMA page_count")
    ledger.query(f"PRAGMA max_page_count = {pages[0]}")
    with pytest.raises(LedgerError, match="full"):
        ledger.settle(payment, HASH, "a note that needs room " * 10_000)

    assert (State.SUBMITTED, None) == (payment_of(ledger, purchase).state, payment_of(ledger, purchase).transaction)

    ledger.query(f"PRAGMA max_page_count = {pages[0] + 1000}")
    ledger.settle(payment, HASH, "a note that needs room " * 10_000)

    assert State.SETTLED is payment_of(ledger, purchase).state


def test_a_new_ledger_on_a_full_disk_is_no_half_ledger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for the tables, opening fails in our words, and succeeds when there is."""

    class Small(sqlite3.Connection):
        """A database that may have one page."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.execute("PRAGMA max_page_count = 1")

    real = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(database.sqlite3, "connect", lambda *args, **options: real(*args, factory=Small, **options))
        with pytest.raises(LedgerError, match="full"):
            Ledger(path, "one")
    ledger = Ledger(path, "one")

    assert DEFAULT_CAPS == ledger.caps()

    ledger.close()


@pytest.mark.parametrize(
    "content", [b"this is no database at all, only text" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_ledger_is_an_error_of_ours(path: Path, content: bytes) -> None:
    """A damaged file is told, not overwritten."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(path, "one")

    assert content == path.read_bytes()


def test_a_folder_in_its_place_is_an_error_of_ours(path: Path) -> None:
    """What the file system refuses is told in our words too."""
    path.mkdir(parents=True)
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(path, "one")


def test_a_ledger_of_a_later_version_is_left_as_it_is(path: Path, opened: Callable[[str], Ledger]) -> None:
    """A newer release has written more migrations than we know: they are not counted back."""
    opened("one").query("PRAGMA user_version = 99")
    [row] = opened("two").query("PRAGMA user_version")

    assert 99 == row[0]
