"""Context of one running purchase, and the interface of payment methods.

`X402Method` signs an authorization here; `PrepaidMethod` sends a request that ClawRouter or an account pays
for. The studio uses only the interface: ask for a price, authorize it, submit it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from blockrun_magic.errors import GatewayError, Money
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.gateway.responses import CompletedJob, PendingJob, poll_address
from blockrun_magic.gateway.uploads import send
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import SENT, State
from blockrun_magic.studio.payment.pricing import Price
from blockrun_magic.studio.payment.retry import Entry, RateGate, RetryPolicy
from blockrun_magic.studio.progress import Progress
from blockrun_magic.threads import run_io

__all__ = ["PaymentMethod", "PurchaseContext", "money_of"]


@dataclass(slots=True)
class PurchaseContext:
    """One running purchase, and the services it uses; the caller holds the purchase's lock."""

    client: Client
    ledger: Ledger
    gateway: Gateway
    request: ImageRequest
    purchase: Purchase
    progress: Progress
    retry: RetryPolicy
    clock: Callable[[], float]
    gate: RateGate = field(default_factory=RateGate)
    """Shared by all requests to the gateway."""
    entry: Entry | None = None
    """The request that passed the gate last."""

    def mark_unknown(self, payment: Payment, note: str, *, refused: bool = False) -> Payment:
        """Mark the outcome of `payment` as unknown, unless a witness has decided it; return the payment."""
        payment = self.ledger.payment(payment.id)
        return payment if payment.decided else self.ledger.mark_unknown(payment.id, note, refused=refused)

    async def mark_sent(
        self, payment: Payment, renew: Callable[[Payment], Awaitable[Payment]] | None = None
    ) -> Payment:
        """Record that `payment` may leave from now on, as soon as the gateway allows a request, and return it.

        `renew` replaces one that has expired meanwhile. An earlier Stop releases it; from then on, the purchase
        continues to its end.
        """
        try:
            self.entry = await self.gate.enter()
            if renew is not None:
                payment = await renew(payment)
            self.progress.sent = True
            payment = await run_io(self.ledger.submit, payment.id)
            await self.gate.leave(self.entry)
        except BaseException as error:
            if self.entry is not None:
                self.gate.withdrawn(self.entry)
            self.progress.sent = payment.state in SENT
            if isinstance(error, GatewayError) and not self.progress.sent:
                error.money = error.money or Money.nothing_sent()
            if isinstance(error, asyncio.CancelledError) and not self.progress.sent:
                await run_io(self.ledger.release, payment.id, "stopped before it was sent")
            raise
        return payment

    async def post(self, headers: Mapping[str, str]) -> Response:
        """Send the paid request with `headers`; return the response. No other function sends a payment."""
        return await send(self.client, self.ledger, self.gateway, self.request, headers)

    async def ask(self, address: str, headers: Mapping[str, str]) -> Response:
        """Return the gateway's answer to a poll of the job at `address`."""
        return await self.client.get(self.gateway, address, headers)

    def job_address(self, payment: Payment, job: PendingJob) -> str:
        """Record the address of a job in the ledger, and return it; raises InvalidResponse."""
        address = self.gateway.relative(poll_address(self.gateway, job.poll_url))
        if not self.ledger.payment(payment.id).decided:
            self.ledger.poll(payment.id, self.purchase.id, address)
        return address


def money_of(payment: Payment, *, unused_until: float | None = None) -> Money:
    """Return the fate of a payment, as recorded in the ledger.

    `unused_until`: a witness has just said that it was not cashed, and this is the Unix time until which it can be.
    """
    match payment.state:
        case State.SETTLED:
            return Money.paid(payment.amount, payment.transaction, estimated=payment.estimated)
        case State.RELEASED:
            return Money.not_charged()
        case State.RESERVED | State.SIGNED:
            return Money.nothing_sent()
    if unused_until is not None:
        return Money.reserved(payment.amount, unused_until)
    return Money.unknown(payment.amount, estimated=payment.estimated)


class PaymentMethod(Protocol):
    """The steps of paying for a purchase."""

    async def open_payment(self) -> Payment | None:
        """Return the payment to continue with, or None if a new one may be made; raises PaymentOutcomeUnknown."""

    async def price(self) -> Price:
        """Return the price of the request; raises TermsRefused, RequestError or GatewayError."""

    async def authorize(
        self, offer: Price, hold: int | None = None, check: Callable[[], None] = lambda: None
    ) -> Payment:
        """Return a payment of `offer`: reserved, out of `hold` if given, on record, and not yet sent.

        `check` is called in another thread before anything is reserved or requested, and raises to prevent it.
        """

    async def submit(self, payment: Payment) -> tuple[Payment, CompletedJob]:
        """Submit `payment`; return the response with the images, and the payment that bought them."""

    async def confirm(self, payment: Payment) -> Payment:
        """Ask the witness of a delivered payment, for a few seconds at most; return the payment."""
