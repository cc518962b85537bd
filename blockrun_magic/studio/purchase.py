"""One purchase from its first step to the stored image: open? price? limits? authorize, send, wait, store.

The payment method does the paying; see `payment/method.py`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from blockrun_magic.errors import BlockrunError, GatewayError, LedgerError, Money, StoreError
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.gateway.responses import ImagePayload
from blockrun_magic.payments.cost_log import append_settled
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.x402.requirements import PaymentRequirements
from blockrun_magic.studio.options import Options
from blockrun_magic.studio.payment.method import PaymentMethod, PurchaseContext, money_of
from blockrun_magic.studio.payment.prepaid import PrepaidMethod
from blockrun_magic.studio.payment.pricing import Price, check_offer, fetch_price
from blockrun_magic.studio.payment.signers import Signer, signer_of
from blockrun_magic.studio.payment.unasked import AnsweredUnasked
from blockrun_magic.studio.payment.unpaid import book
from blockrun_magic.studio.payment.x402 import X402Method
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.results.delivery import ImageDownload, items_from_record
from blockrun_magic.studio.results.pixels import PixelBudget
from blockrun_magic.studio.results.result import ImageResult
from blockrun_magic.studio.services import PurchaseServices
from blockrun_magic.threads import run_io

__all__ = ["Purchaser"]

_SIGN_AHEAD = 10.0
"""Seconds by which requests are signed before the gateway takes requests again."""


class _Confirms(Protocol):
    """The part of a payment method that delivery needs."""

    async def confirm(self, payment: Payment) -> Payment:
        """Return a delivered payment, after asking its witness for a few seconds at most."""


class _Booked:
    """A payment that was booked afterwards, without a witness."""

    async def confirm(self, payment: Payment) -> Payment:
        """Return the payment unchanged."""
        return payment


@dataclass(frozen=True, slots=True)
class Purchaser:
    """Buys the images of a purchase; the caller holds its lock."""

    services: PurchaseServices
    look_up: Callable[[Payment, Gateway], Awaitable[Payment]]
    """Asks the witness of a prepaid payment."""

    async def buy(
        self,
        request: ImageRequest,
        gateway: Gateway,
        purchase: Purchase,
        options: Options,
        progress: Progress,
    ) -> ImageResult:
        """Return the images of an unfinished purchase; continue its open payment, or pay for it now."""
        try:
            async with self.services.catalogs.explain_unavailable_model(gateway, request):
                return await self._buy(request, gateway, purchase, options, progress)
        except BaseException as error:
            if isinstance(error, LedgerError) and progress.sent:
                error.money = Money.unknown(progress.price or 0)
            await run_io(append_settled, self.services.ledger)  # a delivery does it, too
            raise

    async def _buy(
        self, request: ImageRequest, gateway: Gateway, purchase: Purchase, options: Options, progress: Progress
    ) -> ImageResult:
        started = time.monotonic()
        context = self._context(request, gateway, purchase, progress)
        method = self._method(context, options)
        async with options.handling.slot:  # nothing is signed while it waits for a slot, since signatures expire
            await context.gate.opened(_SIGN_AHEAD)
            payment = await method.open_payment()
            progress.sent = payment is not None and payment.state not in (State.RESERVED, State.SIGNED)
            if payment is None:
                try:
                    payment = await self._authorized(method, context, options)
                except AnsweredUnasked as error:
                    return await self._deliver_unasked(context, error, started)
            elif payment.state is State.SETTLED:
                items = await run_io(items_from_record, purchase.answer)
                if items is not None:
                    progress.stage = "fetching the image"
                    with suppress(GatewayError):  # if the address has expired, ask the gateway for a new one
                        return await self._deliver(method, context, payment, items, started, options)
                if not payment.prepaid and not (payment.payload and payment.payload.header_value):
                    raise StoreError(
                        "The stored image is missing or damaged, and its address no longer answers.",
                        "Restore the file from a backup, or buy another take with --fresh.",
                        money_of(payment),
                    )
            payment, completed = await method.submit(payment)
        progress.stage = "fetching the image"
        return await self._deliver(method, context, payment, list(completed.items), started, options)

    async def ask_price(
        self,
        request: ImageRequest,
        gateway: Gateway,
        fresh_take: Callable[[], AbstractAsyncContextManager[Purchase]],
    ) -> PaymentRequirements:
        """Return the gateway's terms for `request`, without a payer.

        An address that answers with an image may have bought it: then the image becomes the `fresh_take`, and its price
        counts.
        """
        services, started = self.services, time.monotonic()
        try:
            async with services.catalogs.explain_unavailable_model(gateway, request):
                return await fetch_price(services.client, services.ledger, gateway, request, payer="")
        except AnsweredUnasked as error:
            async with fresh_take() as purchase:
                context = self._context(request, gateway, purchase, Progress())
                await run_io(book, context, error)
                with suppress(BlockrunError):
                    await self._deliver_unasked(context, error, started)
            raise

    def _context(
        self, request: ImageRequest, gateway: Gateway, purchase: Purchase, progress: Progress
    ) -> PurchaseContext:
        services, gate = self.services, self.services.gates[gateway.name]
        return PurchaseContext(
            *(services.client, services.ledger, gateway, request, purchase, progress),
            *(services.retry, services.clock, gate),
        )

    async def _deliver_unasked(self, context: PurchaseContext, error: AnsweredUnasked, started: float) -> ImageResult:
        """Return the images of an answer without a payment; raises `error` if they are not the requested ones.

        The price of an edit was asked with tiny images instead of its own.
        """
        items = [] if context.request.images else await run_io(lambda: error.items)
        if error.payment is None or not items:
            raise error
        result = await self._deliver(_Booked(), context, error.payment, items, started, Options())
        return replace(result, notes=(f"{error.message} {error.money}", *result.notes))

    def _method(self, context: PurchaseContext, options: Options) -> PaymentMethod:
        gateway, wallets = context.gateway, self.services.wallets
        if not gateway.prepaid:
            agree = partial(self._check_offer, context=context, options=options)
            turn = self.services.turns[gateway.name, context.request.price_key]
            ready = partial(self.services.store.check_writable, context.request.n)
            return X402Method(context, partial(self._signer, gateway), agree, turn, ready, options.handling.hold)
        if gateway.paid_by is Payer.CLASSROOM:
            from blockrun_magic.studio.payment.classroom.method import ClassroomMethod  # for classes only

            return ClassroomMethod(context, wallets.account())
        return PrepaidMethod(
            context,
            self.services.catalogs.at(gateway),
            headers=lambda: wallets.headers(gateway),
            max_price=options.max_price,
            look_up=lambda payment: self.look_up(payment, gateway),
        )

    def _signer(self, gateway: Gateway) -> Signer:
        return signer_of(self.services.wallets.wallet_for(gateway), self.services.client)

    async def _authorized(self, method: PaymentMethod, context: PurchaseContext, options: Options) -> Payment:
        try:
            offer = await method.price()
        except GatewayError as error:
            error.money = error.money or Money.nothing_signed()
            raise
        context.progress.price = offer.amount
        return await method.authorize(
            offer, options.handling.hold, partial(self._check_purchase, offer, context, options)
        )

    def _check_purchase(self, offer: Price, context: PurchaseContext, options: Options) -> None:
        """Raise BudgetError or StoreError before anything is signed."""
        self._check_offer(offer, context, options)
        self.services.store.check_writable(context.request.n)

    def _check_offer(self, offer: Price, context: PurchaseContext, options: Options) -> None:
        check_offer(self.services.ledger, context.gateway, context.request, offer.amount, options)

    async def _deliver(
        self,
        method: _Confirms,
        context: PurchaseContext,
        payment: Payment,
        items: list[ImagePayload],
        started: float,
        options: Options,
    ) -> ImageResult:
        # The gateway's settlement is only a claim, so the witness is asked while the images are fetched.
        download = ImageDownload(
            self.services.client,
            self.services.ledger,
            self.services.store,
            context.gateway,
            context.purchase,
            payment,
            method.confirm,
            started,
            options.handling.pixels or PixelBudget([(context.request.size, context.request.n)]),
            durable=options.handling.hold is None,
        )
        try:
            return await download.deliver(items)
        except BlockrunError as error:
            error.money = money_of(await run_io(self.services.ledger.payment, payment.id))
            raise
