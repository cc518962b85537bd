"""Ledgers with a clock that tests move, and payments in any state."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from blockrun_magic.errors import BudgetError
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import State, Witness
from blockrun_magic.payments.x402.protocol import Authorization, PaymentPayload

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
"""The database engines. `make check` skips PostgreSQL, which needs a server."""

ON_A_FILE = pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
"""A mark for tests of the ledger's file; a server has no such file."""


NOON = 1_800_014_400.0 - 1_800_014_400 % 86_400 + 43_200


REQUEST = {"endpoint": "/v1/images/generations", "model": "google/nano-banana", "prompt": "a cat", "size": "1024x1024"}


HASH = "0x" + "ab" * 32


JOB = "https://blockrun.ai/api/v1/jobs/1"


@dataclass
class Clock:
    """A clock; a test moves it by hand."""

    now: float = NOON

    def __call__(self) -> float:
        """Return the time, in Unix seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that shows noon, UTC."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the ledger, which may not exist yet."""
    return tmp_path / "magic" / "ledger.sqlite"


@pytest.fixture
def file_ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    """Return an empty ledger of session "one", in a file."""
    with closing(Ledger(path, "one", clock)) as ledger:
        yield ledger


@pytest.fixture(params=ENGINES)
def ledger(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Ledger]:
    """Return an empty ledger of session "one", on each engine."""
    if request.param == "sqlite":
        yield request.getfixturevalue("file_ledger")
        return
    with closing(Ledger(request.getfixturevalue("server"), "one", clock)) as ledger:
        yield ledger


@contextmanager
def another(ledger: Ledger, session: str = "two") -> Iterator[Ledger]:
    """Yield the same ledger, opened like in another kernel."""
    with (
        closing(ledger.database.another()) as database,
        closing(Ledger(database, session, ledger.clock)) as opened,
    ):
        yield opened


def another_purchase(ledger: Ledger, realm: str = "real") -> Purchase:
    """Return a purchase with a new request."""
    return purchase(ledger, f"sha256:{secrets.token_hex(8)}", realm=realm)


def purchase(ledger: Ledger, digest: str = "sha256:1", take: int = 1, realm: str = "real") -> Purchase:
    """Return a new purchase."""
    return ledger.create_purchase(realm, "base", digest, take, REQUEST, private=False)


def signed(nonce: str | None = None) -> PaymentPayload:
    """Return a signed payment; its header is a secret."""
    authorization = Authorization(
        payer="0x" + "11" * 20,
        pay_to="0x" + "22" * 20,
        value=52_500,
        valid_after=int(NOON) - 600,
        valid_before=int(NOON) + 300,
        nonce=nonce or "0x" + secrets.token_hex(32),
    )
    return PaymentPayload(authorization, "PAYMENT-SIGNATURE", "c2VjcmV0IGhlYWRlcg==")


def payment_of(ledger: Ledger, payment_id: int) -> Payment:
    """Return the current state of a payment."""
    return ledger.payment(payment_id)


def authorize(
    ledger: Ledger, purchase: Purchase, amount: int, payload: PaymentPayload | None = None, hold: int | None = None
) -> Payment:
    """Return a payment that is reserved and signed in one step, as `payload` or with a new nonce."""
    return ledger.authorize(purchase, amount, "eip155:8453", lambda: payload or signed(), hold)


STEPS: dict[State, Callable[[Ledger, Payment], object]] = {
    State.SUBMITTED: lambda ledger, payment: ledger.submit(payment.id),
    State.POLLING: lambda ledger, payment: ledger.poll(payment.id, payment.purchase_id, JOB),
    State.SETTLED: lambda ledger, payment: ledger.settle(payment.id, HASH, witness=Witness.CHAIN),
    State.RELEASED: lambda ledger, payment: ledger.release(payment.id, "expired unused", witness=Witness.CHAIN),
    State.UNKNOWN: lambda ledger, payment: ledger.mark_unknown(payment.id, "the connection broke", refused=True),
}


WAYS: dict[State, tuple[State, ...]] = {
    State.RESERVED: (),
    State.SIGNED: (),
    State.SUBMITTED: (State.SUBMITTED,),
    State.POLLING: (State.SUBMITTED, State.POLLING),
    State.SETTLED: (State.SUBMITTED, State.SETTLED),
    State.RELEASED: (State.RELEASED,),
    State.UNKNOWN: (State.SUBMITTED, State.UNKNOWN),
}
"""The steps to each state; they begin at the signature, or at the reservation if nothing is signed."""


def payment_in(ledger: Ledger, state: State, amount: int = 52_500, of: Purchase | None = None) -> Payment:
    """Return a payment that reached `state` by the usual steps."""
    begin = ledger.reserve if state in (State.RESERVED, State.RELEASED) else partial(authorize, ledger)
    payment = begin(of or another_purchase(ledger), amount)
    for step in WAYS[state]:
        STEPS[step](ledger, ledger.payment(payment.id))
    payment = ledger.payment(payment.id)
    assert state is payment.state
    return payment


def fill_up(ledger: Ledger) -> int:
    """Reserve ever smaller sums until not even a micro-dollar fits; return the reserved sum."""
    total, amount = 0, 200_000
    while amount:
        try:
            ledger.reserve(another_purchase(ledger), amount)
        except BudgetError:
            amount //= 2
        else:
            total += amount
    return total
