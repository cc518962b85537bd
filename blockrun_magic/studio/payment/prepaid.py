"""Prepaid payments: ClawRouter's wallet, or the credit of an account.

Nothing is signed here, so a retry could be charged twice: a request is sent at most once. If its images do not arrive,
its amount stays at risk until a witness or the user says whether it was charged.
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
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT, Catalog
from blockrun_magic.gateway.clawrouter import clawrouter_health
from blockrun_magic.gateway.gateways import Capability, Payer
from blockrun_magic.gateway.responses import (
    CompletedJob,
    PendingJob,
    error_from_response,
    is_transient,
    job_failed,
    proves_no_charge,
    read_answer,
    stated_price,
)
from blockrun_magic.payments.ledger.limits import is_credible
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State, Witness
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.x402.networks import network_named
from blockrun_magic.payments.x402.protocol import read_settlement
from blockrun_magic.studio.payment.method import PurchaseContext, money_of
from blockrun_magic.studio.payment.pricing import Price, list_price
from blockrun_magic.studio.payment.sender import ACCEPTED, GONE
from blockrun_magic.studio.payment.signers import check_chain_clock, check_clock
from blockrun_magic.studio.results.delivery import items_to_record
from blockrun_magic.threads import run_io

__all__ = ["PrepaidMethod"]

_NO_ACCESS = frozenset({401, 402})
_COLLECT = "The job continues: run the cell again to collect the image."


@dataclass(frozen=True, slots=True)
class PrepaidMethod:
    """The `PaymentMethod` of prepaid gateways.

    `headers` authorize a request (none at ClawRouter), `max_price` is the user's limit, and `look_up` asks
    the witness of a payment.
    """

    context: PurchaseContext
    catalog: Catalog
    headers: Callable[[], SecretHeaders]
    max_price: int | None
    look_up: Callable[[Payment], Awaitable[Payment]]

    async def open_payment(self) -> Payment | None:
        """Return the payment to continue with, or None when a new one may be made.

        Raises PaymentOutcomeUnknown for a payment that cannot be continued, because its request is never sent twice.
        """
        context = self.context
        payment = await run_io(context.ledger.open_payment, context.purchase.id)
        if payment is not None and payment.state is State.RESERVED:
            await run_io(context.ledger.release, payment.id, "never sent")
            payment = await run_io(context.ledger.open_payment, context.purchase.id)
        if payment is not None and payment.state is State.SUBMITTED:
            if await run_io(context.ledger.is_alive, payment.session):
                self._refuse_twice(payment)
            payment = await run_io(context.ledger.mark_unknown, payment.id, "its kernel ended before an answer came")
        if payment is None or payment.state is not State.UNKNOWN or context.purchase.poll_url is not None:
            return payment
        context.progress.stage = "checking the last payment"
        payment = await self.look_up(payment)
        if payment.state is State.UNKNOWN:
            self._refuse_twice(payment)
        return None if payment.state is State.RELEASED else payment

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
        return list_price(self.context.gateway, self.context.request, self.catalog, self.max_price)

    async def authorize(
        self, offer: Price, hold: int | None = None, check: Callable[[], None] = lambda: None
    ) -> Payment:
        """Return a payment of `offer`: reserved, out of `hold` if given, and not yet sent.

        The gateway has to answer first. ClawRouter's paying wallet is recorded, so that the chain can be asked about
        it.
        """
        context = self.context
        await run_io(check)
        payer, network = await self._payer()
        return await run_io(
            context.ledger.reserve, context.purchase, offer.amount, hold, prepaid=True, payer=payer, network=network
        )

    async def _payer(self) -> tuple[str | None, str | None]:
        context, started = self.context, self.context.clock()
        path = "/health" if context.gateway.paid_by is Payer.PROXY else "/v1/credits"
        try:
            answer = await context.client.get(context.gateway, path, self.headers())
        except GatewayUnreachable as error:
            if not error.sent:
                raise error.with_money(Money.nothing_sent()) from None
        except GatewayError:
            pass  # any answer is enough
        else:
            if answer.status in _NO_ACCESS:
                raise error_from_response(answer, context.gateway).with_money(Money.nothing_sent())
            # Its witness finds a request by its time.
            check_clock(context.gateway.name, answer.date, started, context.clock())
        if context.gateway.paid_by is not Payer.PROXY:
            return None, None
        health = await clawrouter_health(context.client, context.gateway)
        network = network_named(health.chain or "") if health else None
        if health is None or network is None or not await check_chain_clock(context.client, network, context.clock):
            return None, None
        return health.wallet, network.id

    async def submit(self, payment: Payment) -> tuple[Payment, CompletedJob]:
        """Return the response with the images: to the request, sent once, or to a poll of its job."""
        context = self.context
        context.progress.price = payment.amount
        if context.purchase.poll_url is not None:
            return await self._poll(payment, context.purchase.poll_url)
        if payment.state is State.SETTLED:
            raise InvalidResponse(
                "The image was paid for, but its address no longer works.",
                "Run the cell again to try its address once more, or buy another take with --fresh.",
                money_of(payment),
            )
        answer = await self._send_once(payment)
        payment, content = await run_io(self._read, payment, answer)
        if isinstance(content, CompletedJob):
            return payment, content
        if Capability.POLL not in context.gateway.capabilities:
            await run_io(self._unknown, payment, f"{context.gateway.name} started a slow job, and cannot collect it")
        try:
            address = await run_io(context.job_address, payment, content)
        except InvalidResponse as error:
            await run_io(self._unknown, payment, error.message, error)
        return await self._poll(payment, address)

    async def confirm(self, payment: Payment) -> Payment:
        """Return the payment: a request that delivered its images counts as charged."""
        return payment

    async def _send_once(self, payment: Payment) -> Response:
        """Send the request, which counts as sent from now on; return the response."""
        context = self.context
        await context.mark_sent(payment)
        context.progress.once = True
        context.progress.stage = "waiting for the image"
        try:
            return await context.post(self.headers())
        except GatewayUnreachable as error:
            await run_io(self._unknown, payment, error.message, error)
        except GatewayError as error:
            await run_io(self._unknown, payment, error.message, error)

    def _read(self, payment: Payment, answer: Response) -> tuple[Payment, CompletedJob | PendingJob]:
        """Record and return the content of a response. A refusal is only noted: it may have been charged."""
        context = self.context
        if answer.status not in (200, ACCEPTED):
            fault = error_from_response(answer, context.gateway)
            if not proves_no_charge(answer):
                self._unknown(payment, fault.message, fault)
            payment = context.mark_unknown(payment, fault.message)
            raise fault.with_money(money_of(payment))
        try:
            content = read_answer(answer)
        except GatewayError as error:
            payment = context.mark_unknown(payment, error.message)
            if job_failed(answer):
                context.ledger.forget_job(context.purchase.id)
                raise error.with_money(money_of(payment)) from None
            self._unknown(payment, error.message, error)
        if isinstance(content, CompletedJob):
            # Recorded first: a paid image can only be fetched from these addresses.
            context.ledger.save_image_urls(context.purchase.id, items_to_record(content.items))
            payment = self._settled(payment, answer)
        return payment, content

    def _settled(self, payment: Payment, answer: Response) -> Payment:
        """Mark a payment as charged, at the stated price unless that is far from ours; return it."""
        payment = self.context.ledger.payment(payment.id)
        if payment.decided:
            return payment
        body = answer.json()
        stated, listed = stated_price(body), SNAPSHOT.list_price(self.context.request.price_key)
        note = None
        if stated is not None and not is_credible(stated, payment.amount, listed):
            stated, note = None, f"the answer names another price ({stated} micro-USDC), which is not credible"
        transaction = read_settlement(answer.headers, body).transaction
        return self.context.ledger.settle(payment.id, transaction, note, witness=Witness.DELIVERY, charged=stated)

    async def _poll(self, payment: Payment, address: str) -> tuple[Payment, CompletedJob]:
        """Return the images of the job at `address`: polling is free."""
        context = self.context
        if not payment.decided:
            payment = await run_io(context.ledger.poll, payment.id, context.purchase.id, address)
        context.progress.sent, context.progress.once = True, False
        context.progress.stage = "queued"
        now, wait = asyncio.get_running_loop().time, 0.0
        end = now() + context.retry.job
        while now() < end:
            await asyncio.sleep(wait)
            answer = await self._ask_patiently(payment, address)
            payment, content = await run_io(self._read, payment, answer)
            if isinstance(content, CompletedJob):
                return payment, content
            context.progress.stage = content.status.replace("_", " ")
            wait = max(answer.retry_after or 0.0, context.retry.next_poll(wait))
        raise UpstreamFailed(
            f"The image is not ready after {context.retry.job / 60:.0f} minutes.", _COLLECT, money_of(payment)
        )

    async def _ask_patiently(self, payment: Payment, address: str) -> Response:
        """Poll the job and return the response; raises the last error, with the fate of the money."""
        context, stage = self.context, self.context.progress.stage
        for attempt in range(context.retry.attempts):
            try:
                answer = await context.ask(address, self.headers())
            except GatewayUnreachable as error:
                fault: GatewayError = error
            else:
                if answer.status in (200, ACCEPTED):
                    return answer
                fault = await run_io(self._poll_fault, payment, answer)
                if not is_transient(answer):
                    break
            if attempt + 1 < context.retry.attempts:
                await context.progress.pause(fault.message, context.retry.wait(attempt), stage)
        raise fault.with_money(money_of(payment))

    def _poll_fault(self, payment: Payment, answer: Response) -> GatewayError:
        if answer.status in GONE:
            self.context.ledger.forget_job(self.context.purchase.id)
            self._unknown(payment, f"{self.context.gateway.name} no longer knows the job")
        return error_from_response(answer, self.context.gateway)

    def _unknown(self, payment: Payment, why: str, error: GatewayError | None = None) -> NoReturn:
        payment = self.context.mark_unknown(payment, why)
        if payment.state is State.SETTLED:
            raise InvalidResponse(
                f"{why.rstrip('.')}.", "Run the cell again, or buy another take with --fresh.", money_of(payment)
            ) from error
        raise PaymentOutcomeUnknown(
            f"{why.rstrip('.')}.", "See `%blockrun jobs`, or buy another take with --fresh.", money_of(payment)
        ) from error
