"""What every way of paying has in common: one purchase on its way, and the steps the studio asks for.

`X402Method` signs an authorization here; `PrepaidMethod` sends a request that somebody else pays for. The
studio knows neither: it asks for an offer, has it authorized, submits it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from blockrun_magic.errors import Money
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.gateway.responses import CompletedJob, PendingJob, Response, poll_address
from blockrun_magic.gateway.uploads import send
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.studio.payment.pricing import Price
from blockrun_magic.studio.payment.retry import RetryPolicy
from blockrun_magic.studio.progress import Progress

__all__ = ["PaymentMethod", "PurchaseContext", "money_of"]


@dataclass(slots=True)
class PurchaseContext:
    """One purchase on its way, and all it works with; the caller holds the purchase's lock."""

    client: Client
    ledger: Ledger
    gateway: Gateway
    request: ImageRequest
    purchase: Purchase
    progress: Progress
    patience: RetryPolicy
    clock: Callable[[], float]

    @property
    def payments(self) -> list[Payment]:
        """Every payment for this purchase as it stands now, oldest first."""
        return self.ledger.payments(self.purchase.id)

    def reload(self, payment: Payment) -> Payment:
        """Return `payment` as it stands now."""
        return self.payment(payment.id)

    def payment(self, payment_id: int) -> Payment:
        """Return the payment with this id, as it stands now."""
        return next(payment for payment in self.payments if payment.id == payment_id)

    def mark_unknown(self, payment: Payment, note: str, *, refused: bool = False) -> None:
        """Record that nobody can say whether `payment` moved money, unless that is known."""
        if self.reload(payment).state not in (State.SETTLED, State.RELEASED):
            self.ledger.mark_unknown(payment.id, note, refused=refused)

    async def post(self, headers: Mapping[str, str]) -> Response:
        """Return the gateway's answer to the request, sent with `headers`: the one place where it is paid for."""
        return await send(self.client, self.ledger, self.gateway, self.request, headers)

    async def ask(self, address: str, headers: Mapping[str, str]) -> Response:
        """Return the gateway's answer to a poll of the job at `address`."""
        return await self.client.get(self.gateway, address, headers)

    def job_address(self, payment: Payment, job: PendingJob) -> str:
        """Return where a job is to be collected, once the ledger knows it too; raises AnswerUnusable."""
        address = self.gateway.relative(poll_address(self.gateway, job.poll_url))
        if self.reload(payment).state is not State.SETTLED:
            self.ledger.poll(payment.id, self.purchase.id, address)
        return address


def money_of(payment: Payment) -> Money:
    """Return the fate of a payment, as the ledger has it."""
    match payment.state:
        case State.SETTLED:
            return Money.paid(payment.amount, payment.transaction, estimated=payment.estimated)
        case State.RELEASED:
            return Money.not_charged()
        case State.RESERVED | State.SIGNED:
            return Money.nothing_sent()
    return Money.unknown(payment.amount, estimated=payment.estimated)


class PaymentMethod(Protocol):
    """How a purchase is paid for, step by step."""

    async def open_payment(self) -> Payment | None:
        """Return the payment to go on with, or None when a new one may be made; raises OutcomeUnknown."""

    async def price(self) -> Price:
        """Return what the request will cost; raises TermsRefused, RequestError or GatewayError."""

    async def authorize(self, offer: Price, hold: int | None = None) -> Payment:
        """Return a payment of `offer`: reserved, out of `hold` if given, on record, and not yet sent."""

    async def submit(self, payment: Payment) -> tuple[Payment, CompletedJob]:
        """Return the pictures' answer to `payment`, and the payment that they came for."""
