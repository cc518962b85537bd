"""Paying through somebody else: a ClawRouter's wallet, or an account's prepaid credit.

Nothing is signed here, so nothing can be shown twice: a request leaves at most once, and where no answer
says what it did, its outcome is unknown and stays so until the job, ClawRouter's log or the user decides
(gateway protocol, section 7). Only an answer that proves that nothing was charged allows another try.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

from blockrun_magic.errors import (
    GatewayError,
    GatewayUnreachable,
    InvalidResponse,
    Money,
    PaymentOutcomeUnknown,
    UpstreamFailed,
)
from blockrun_magic.gateway.catalog.catalog import Catalog
from blockrun_magic.gateway.responses import (
    CompletedJob,
    PendingJob,
    Response,
    error_from_response,
    is_transient,
    job_failed,
    proves_no_charge,
    read_answer,
    stated_price,
)
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.x402.protocol import read_settlement
from blockrun_magic.studio.payment.method import PurchaseContext, money_of
from blockrun_magic.studio.payment.pricing import Price, list_price
from blockrun_magic.studio.results.delivery import items_to_record

__all__ = ["PrepaidMethod"]

_ACCEPTED = 202
_GONE = frozenset({404, 410})
_LIMITED = 429
_COLLECT = "The job continues: run the cell again to collect the image."


@dataclass(frozen=True, slots=True)
class PrepaidMethod:
    """The way of a purchase that somebody else pays for; a `Way`.

    `headers` authorize a request (none at a ClawRouter), `max_price` is what the user allows at most, and
    `look_up` asks whoever may know what became of a payment.
    """

    deal: PurchaseContext
    catalog: Catalog
    headers: Callable[[], SecretHeaders]
    max_price: int | None
    look_up: Callable[[Payment], Awaitable[None]]

    async def open_payment(self) -> Payment | None:
        """Return the payment to go on with, or None when a new one may be made.

        Raises OutcomeUnknown for one that cannot be gone on with: its request is not sent a second time.
        """
        deal = self.deal
        for payment in deal.payments:
            if payment.state is State.RESERVED:
                deal.ledger.release(payment.id, "never sent")
            elif payment.state is State.SUBMITTED:
                # Its kernel is gone (we hold the lock), and nobody heard the answer.
                deal.ledger.mark_unknown(payment.id, "its kernel ended before an answer came")
        open_ = [payment for payment in deal.payments if payment.state is not State.RELEASED]
        if not open_:
            return None
        last = open_[-1]
        if last.state is State.UNKNOWN and deal.purchase.poll_url is None:
            deal.progress.stage = "asking what became of the last payment"
            await self.look_up(last)
            last = deal.reload(last)
            if last.state is State.UNKNOWN:
                self._refuse_twice(last)
        return last

    def _refuse_twice(self, payment: Payment) -> NoReturn:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(payment.created_at))
        raise PaymentOutcomeUnknown(
            f"This image was requested on {when}, without a usable answer ({(payment.note or 'none').rstrip('.')}).",
            "Buy another take with --fresh, or record the outcome with"
            f" `%blockrun resolve {payment.purchase_id} --charged` or `--not-charged`.",
            money_of(payment),
        )

    async def price(self) -> Price:
        """Return the list price, which is reserved; raises RequestError for a model without one."""
        return list_price(self.deal.gateway, self.deal.request, self.catalog, self.max_price)

    async def authorize(self, offer: Price, hold: int | None = None) -> Payment:
        """Return a payment of `offer`: reserved, out of `hold` if given, and not yet sent."""
        deal = self.deal
        return deal.payment(deal.ledger.reserve(deal.purchase, offer.amount, hold, prepaid=True, estimated=True))

    async def submit(self, payment: Payment) -> tuple[Payment, CompletedJob]:
        """Return the pictures' answer: to the request, sent once, or to a poll of the job it became."""
        deal = self.deal
        deal.progress.price = payment.amount
        if deal.purchase.poll_url is not None:
            return await self._poll(payment, deal.purchase.poll_url)
        if payment.state is State.SETTLED:
            raise InvalidResponse(
                "The image was paid for, and cannot be fetched any more.",
                "Run the cell again to try its address once more, or buy another take with --fresh.",
                money_of(payment),
            )
        answer = await self._send_once(payment)
        found = self._read(payment, answer)
        if isinstance(found, CompletedJob):
            return deal.reload(payment), found
        if not deal.gateway.can("poll"):
            self._unknown(
                payment, f"{deal.gateway.name} answered with a slow job, which cannot be collected through it"
            )
        try:
            address = deal.job_address(payment, found)
        except InvalidResponse as error:
            self._unknown(payment, error.message, error)
        return await self._poll(payment, address)

    async def _send_once(self, payment: Payment) -> Response:
        """Return the answer to the request; it is sent again only where nothing can have been charged."""
        deal = self.deal
        deal.ledger.submit(payment.id)
        deal.progress.sent = True
        deal.progress.stage = stage = "waiting for the picture"
        attempts = 1 if deal.gateway.on_loopback else deal.patience.attempts
        for attempt in range(deal.patience.attempts):
            wait = deal.patience.wait(attempt)
            try:
                answer = await deal.post(self.headers())
            except GatewayUnreachable as error:
                if error.sent:
                    self._unknown(payment, error.message, error)
                fault: GatewayError = error
                if attempt + 1 >= attempts:
                    break
            except GatewayError as error:
                self._unknown(payment, error.message, error)
            else:
                if answer.status != _LIMITED:
                    return answer
                fault = error_from_response(answer, deal.gateway)
                wait = answer.retry_after or wait
            if attempt + 1 < deal.patience.attempts:
                await deal.progress.pause(fault.message, wait, stage)
        deal.ledger.release(payment.id, fault.message)
        raise fault.with_money(Money.not_charged())

    def _read(self, payment: Payment, answer: Response) -> CompletedJob | PendingJob:
        """Return what an answer brings, booked; an error says truly what it did to the money."""
        deal = self.deal
        if answer.status not in (200, _ACCEPTED):
            fault = error_from_response(answer, deal.gateway)
            if not proves_no_charge(answer):
                self._unknown(payment, fault.message, fault)
            deal.ledger.release(payment.id, fault.message)
            raise fault.with_money(Money.not_charged())
        if job_failed(answer) and proves_no_charge(answer):
            deal.ledger.release(payment.id, "the job failed, not charged")
            deal.ledger.forget_job(deal.purchase.id)
        try:
            found = read_answer(answer)
        except GatewayError as error:
            if deal.reload(payment).state is State.RELEASED:
                raise error.with_money(Money.not_charged()) from None
            self._unknown(payment, error.message, error)
        if isinstance(found, CompletedJob):
            # First: from the moment that it is paid, only the addresses can bring the picture.
            deal.ledger.save_image_urls(deal.purchase.id, items_to_record(found.items))
            if deal.reload(payment).state is not State.SETTLED:
                body = answer.json()
                transaction = read_settlement(answer.headers, body).transaction
                deal.ledger.settle(payment.id, transaction, charged=stated_price(body))
        return found

    async def _poll(self, payment: Payment, address: str) -> tuple[Payment, CompletedJob]:
        """Return the pictures of the job at `address`: asking costs nothing, however often."""
        deal = self.deal
        if deal.reload(payment).state is not State.SETTLED:
            deal.ledger.poll(payment.id, deal.purchase.id, address)
        deal.progress.sent = True
        deal.progress.stage = "queued"
        begun, wait = deal.clock(), 0.0
        while deal.clock() - begun < deal.patience.job:
            await asyncio.sleep(wait)
            answer = await self._ask_patiently(payment, address)
            found = self._read(payment, answer)
            if isinstance(found, CompletedJob):
                return deal.reload(payment), found
            deal.progress.stage = found.status.replace("_", " ")
            wait = answer.retry_after or deal.patience.next_poll(wait)
        raise UpstreamFailed(
            f"The image is not ready after {deal.patience.job / 60:.0f} minutes.",
            _COLLECT,
            money_of(deal.reload(payment)),
        )

    async def _ask_patiently(self, payment: Payment, address: str) -> Response:
        """Return an answer about the job; raises the fault that did not pass, with what it leaves open."""
        deal, stage = self.deal, self.deal.progress.stage
        for attempt in range(deal.patience.attempts):
            try:
                answer = await deal.ask(address, self.headers())
            except GatewayUnreachable as error:
                fault: GatewayError = error
            else:
                if answer.status in (200, _ACCEPTED):
                    return answer
                fault = self._poll_fault(payment, answer)
                if not is_transient(answer):
                    break
            if attempt + 1 < deal.patience.attempts:
                await deal.progress.pause(fault.message, deal.patience.wait(attempt), stage)
        raise fault.with_money(money_of(deal.reload(payment)))

    def _poll_fault(self, payment: Payment, answer: Response) -> GatewayError:
        if answer.status in _GONE:
            self.deal.ledger.forget_job(self.deal.purchase.id)
            self._unknown(payment, f"{self.deal.gateway.name} knows nothing of the job any more")
        return error_from_response(answer, self.deal.gateway)

    def _unknown(self, payment: Payment, why: str, error: GatewayError | None = None) -> NoReturn:
        self.deal.mark_unknown(payment, why)
        if self.deal.reload(payment).state is State.SETTLED:
            raise InvalidResponse(
                f"{why.rstrip('.')}.",
                "Run the cell again, or buy another take with --fresh.",
                money_of(self.deal.reload(payment)),
            ) from error
        raise PaymentOutcomeUnknown(
            f"{why.rstrip('.')}.",
            "See `%blockrun jobs`, or buy another take with --fresh.",
            money_of(self.deal.reload(payment)),
        ) from error
