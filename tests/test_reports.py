"""What the reports say is what the rows say, and the official cost log hears of real money once."""

from __future__ import annotations

import json
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockrun_magic.payments.cost_log import append_settled
from blockrun_magic.payments.ledger import Ledger
from blockrun_magic.payments.reports import Spending, spending, spending_by_model
from blockrun_magic.payments.states import AT_RISK, State
from blockrun_magic.payments.x402 import Authorization, SignedPayment

NOON = 1_800_100_800.0
DAY = 86_400
BANANA, FLUX = "google/nano-banana", "black-forest/flux-1.1-pro"


class Books(Ledger):
    """A ledger with a clock to turn, and a way to write a payment in any state at one stroke."""

    def __init__(self, path: Path, session: str = "one") -> None:
        self.now = NOON
        self.number = 0
        super().__init__(path, session, lambda: self.now)

    def write(self, state: State, amount: int, model: str = BANANA, realm: str = "real") -> int:
        """Record a payment of `amount` that stands in `state`; return its id."""
        self.number += 1
        name = f"{self.session}-{self.number}"
        request = {"endpoint": "/v1/images/generations", "model": model, "prompt": "a fox"}
        purchase = self.begin(realm, "base", name, 1, request, private=False)
        payment = self.reserve(purchase, amount)
        if state is State.RELEASED:
            self.release(payment, "never sent")
        if state in (State.RESERVED, State.RELEASED):
            return payment
        nonce = f"{name:>064}"
        authorization = Authorization("0xpayer", "0xpayee", amount, 0, int(self.now) + 300, nonce)
        self.sign(payment, "eip155:8453", SignedPayment(authorization, "PAYMENT-SIGNATURE", "the header"))
        if state is not State.SIGNED:
            self.submit(payment)
        if state is State.POLLING:
            self.poll(payment, purchase.id, "https://blockrun.ai/api/job")
        if state is State.UNKNOWN:
            self.doubt(payment, "lost")
        if state is State.SETTLED:
            self.settle(payment, "0x" + "ab" * 32)
        return payment


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger without caps that could be in the way."""
    ledger = Books(tmp_path / ".blockrun" / "magic" / "ledger.sqlite")
    ledger.set_caps(session=10**12, day=10**12)
    yield ledger
    ledger.close()


def log_of(books: Ledger) -> list[dict[str, Any]]:
    """Return the lines of the official cost log."""
    path = books.path.parent.parent / "cost_log.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


# Reports.


def test_nothing_spent_is_nothing(books: Books) -> None:
    """An empty ledger reports zeros and no models."""
    for when in ("session", "today", "all"):
        assert Spending(0, 0, 0) == spending(books, "real", when)
        assert [] == spending_by_model(books, "real", when)


def test_each_period_adds_up_its_own(books: Books, tmp_path: Path) -> None:
    """This session, today in UTC, and all the time; the day ends at midnight by the ledger's clock."""
    other = Books(books.path, "two")
    for ledger, days_ago, amount in ((other, 2, 1), (books, 1, 20), (other, 0, 300), (books, 0, 4_000)):
        ledger.now = NOON - days_ago * DAY
        ledger.write(State.SETTLED, amount)
    books.now = NOON - NOON % DAY + DAY - 1
    sums = [spending(books, "real", when).settled for when in ("session", "today", "all")]
    books.now += 1
    after_midnight = spending(books, "real", "today").settled
    other.close()

    assert [4_020, 4_300, 4_321] == sums
    assert 0 == after_midnight


def test_models_are_listed_the_dearest_first(books: Books) -> None:
    """Settled and at risk of each model; what was released is not mentioned."""
    books.write(State.SETTLED, 52_500)
    books.write(State.SETTLED, 52_500)
    books.write(State.UNKNOWN, 42_000, FLUX)
    books.write(State.RELEASED, 42_000, "zai/cogview-4")
    books.write(State.SETTLED, 42_000, FLUX, realm="practice")

    assert [(BANANA, 2, 105_000, 0), (FLUX, 0, 0, 42_000)] == spending_by_model(books, "real", "all")
    assert [(FLUX, 1, 42_000, 0)] == spending_by_model(books, "practice", "all")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(State),
            st.integers(1, 10**9),
            st.sampled_from([BANANA, FLUX]),
            st.sampled_from(["real", "testnet", "practice"]),
        ),
        max_size=8,
    )
)
def test_reports_agree_with_the_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[State, int, str, str]]
) -> None:
    """Whatever was written, sums, counts and models add up to it, realm by realm, and to what the caps count."""
    books = Books(tmp_path_factory.mktemp("books") / "magic" / "ledger.sqlite")
    books.set_caps(session=10**12, day=10**12)
    for state, amount, model, realm in rows:
        books.write(state, amount, model, realm)
    for realm in ("real", "testnet", "practice"):
        settled = [amount for state, amount, _, of in rows if of == realm and state is State.SETTLED]
        at_risk = [amount for state, amount, _, of in rows if of == realm and state in AT_RISK]
        expected = Spending(sum(settled), len(settled), sum(at_risk))
        by_model = spending_by_model(books, realm, "all")

        assert [expected] * 3 == [spending(books, realm, when) for when in ("session", "today", "all")]
        assert expected == Spending(*(sum(row[place] for row in by_model) for place in (2, 1, 3)))
        assert expected.settled + expected.at_risk == books.committed(realm).day
    books.close()


# The official cost log.


def test_a_line_is_as_the_official_sdk_writes_it(books: Books) -> None:
    """The SDK's own fields in its own types: seconds, dollars, endpoint, model, wallet, network, client."""
    books.write(State.SETTLED, 52_500)
    append_settled(books)

    assert [
        {
            "ts": NOON,
            "endpoint": "/v1/images/generations",
            "cost_usd": 0.0525,
            "model": BANANA,
            "wallet": "0xpayer",
            "network": "eip155:8453",
            "client_kind": "blockrun-magic",
        }
    ] == log_of(books)


def test_the_official_sdk_adds_our_lines_up(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its billing summary counts what was spent here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK's models are declared in an old way
        from blockrun_llm import cache
    books.write(State.SETTLED, 52_500)
    books.write(State.SETTLED, 42_000, FLUX)
    append_settled(books)
    monkeypatch.setattr(cache, "COST_LOG_PATH", books.path.parent.parent / "cost_log.jsonl")
    summary = cache.get_cost_log_summary()

    assert (2, 0.0945) == (summary["calls"], round(summary["total_usd"], 6))


def test_only_real_settled_money_is_logged(books: Books) -> None:
    """Play money, test networks and what is not settled would falsify the sum."""
    for state in State:
        books.write(state, 1 + list(State).index(state))
    for realm in ("practice", "testnet"):
        books.write(State.SETTLED, 99, realm=realm)
    append_settled(books)

    assert [(1 + list(State).index(State.SETTLED)) / 1e6] == [line["cost_usd"] for line in log_of(books)]


def test_each_payment_is_logged_once(books: Books) -> None:
    """However often it is asked, and by however many kernels at once, a payment has one line."""
    for amount in range(1, 21):
        books.write(State.SETTLED, amount)
    others = [Books(books.path, f"kernel {number}") for number in range(4)]
    threads = [threading.Thread(target=append_settled, args=(ledger,)) for ledger in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    append_settled(books)
    for ledger in others:
        ledger.close()

    assert [amount / 1e6 for amount in range(1, 21)] == sorted(line["cost_usd"] for line in log_of(books))


def test_the_log_is_appended_to_and_private(books: Books) -> None:
    """What the SDK wrote stays; a log that we begin is its owner's alone."""
    path = books.path.parent.parent / "cost_log.jsonl"
    books.write(State.SETTLED, 1)
    append_settled(books)

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    path.write_text('{"ts": 1, "endpoint": "/v1/chat", "cost_usd": 5}\n', "utf-8")
    books.write(State.SETTLED, 2)
    append_settled(books)

    assert [5, 2e-06] == [line["cost_usd"] for line in log_of(books)]


def test_a_log_that_cannot_be_written_is_written_later(books: Books) -> None:
    """A picture is not lost for its line in a log: the line comes when the log can be written again."""
    path = books.path.parent.parent / "cost_log.jsonl"
    path.mkdir()
    books.write(State.SETTLED, 52_500)
    append_settled(books)
    path.rmdir()

    assert [] == log_of(books)

    append_settled(books)

    assert [0.0525] == [line["cost_usd"] for line in log_of(books)]
