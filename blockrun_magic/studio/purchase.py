"""One purchase from its first step to the kept picture: open? price? caps? authorize, send, wait, keep.

Who pays is the way's affair; see `paying`.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from blockrun_magic.errors import BlockrunError, GatewayError, Money, PaymentOutcomeUnknown, StoreError
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT, Catalog
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest, PriceKey
from blockrun_magic.gateway.responses import ImagePayload
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.limits import check_offer
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.studio.options import Options
from blockrun_magic.studio.payment.method import PaymentMethod, PurchaseContext, money_of
from blockrun_magic.studio.payment.prepaid import PrepaidMethod
from blockrun_magic.studio.payment.pricing import Price
from blockrun_magic.studio.payment.retry import RetryPolicy
from blockrun_magic.studio.payment.signers import signer_of
from blockrun_magic.studio.payment.x402 import X402Method
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.results.delivery import ImageDownload, items_from_record
from blockrun_magic.studio.results.result import ImageResult
from blockrun_magic.threads import run_io

__all__ = ["Purchaser"]


@dataclass(frozen=True, slots=True)
class Purchaser:
    """What every purchase works with; the caller holds the purchase's lock."""

    client: Client
    ledger: Ledger
    store: Store
    catalog_at: Callable[[Gateway], Catalog]
    wallet_for: Callable[[Gateway], Wallet | SolanaWallet]
    headers_for: Callable[[Gateway], SecretHeaders]
    look_up: Callable[[Payment, Gateway], Awaitable[Payment]]
    patience: RetryPolicy
    clock: Callable[[], float]
    turns: defaultdict[tuple[str, PriceKey], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """Each price is asked by one purchase at a time: the others then know it."""

    def begin_here(self, purchase: Purchase, gateway: Gateway) -> Purchase:
        """Return a purchase that another gateway started as one of `gateway`.

        Raises PaymentOutcomeUnknown if it was paid for, or may have been.

        A payment is only ever shown to the gateway that it was made for.
        """
        payment = self.ledger.open_payment(purchase.id)
        while payment is not None and payment.state in (State.RESERVED, State.SIGNED):
            self.ledger.release(payment.id, "never sent")
            payment = self.ledger.open_payment(purchase.id)
        if payment is not None:
            raise PaymentOutcomeUnknown(
                f"This image was started at {purchase.gateway}.",
                f"Continue there with `%blockrun resume {purchase.id}`, or buy another take here with --fresh.",
                money_of(payment),
            )
        return self.ledger.change_gateway(purchase, gateway.name)

    async def buy(
        self,
        request: ImageRequest,
        gateway: Gateway,
        purchase: Purchase,
        options: Options,
        progress: Progress,
    ) -> ImageResult:
        """Return the pictures of an unfinished purchase: its open payment goes on, or a new one is made."""
        begun = time.monotonic()
        deal = PurchaseContext(
            self.client, self.ledger, gateway, request, purchase, progress, self.patience, self.clock
        )
        way = self._way(deal, options)
        async with options.slot:  # nothing is signed before its turn: a signature that waits grows old
            payment = await way.open_payment()
            if payment is None:
                payment = await self._authorized(way, deal, options)
            elif payment.state is State.SETTLED:
                items = await run_io(items_from_record, purchase.answer)
                if items is not None:
                    progress.stage = "fetching the image"
                    with suppress(GatewayError):  # the address may have lapsed: the gateway is asked for another
                        return await self._deliver(way, purchase, payment, gateway, items, begun)
                if not payment.prepaid and not (payment.payload and payment.payload.header_value):
                    raise StoreError(
                        "The stored image is missing or damaged, and its address no longer answers.",
                        "Restore the file from a backup, or buy another take with --fresh.",
                        money_of(payment),
                    )
            payment, completed = await way.submit(payment)
        progress.stage = "fetching the picture"
        return await self._deliver(way, purchase, payment, gateway, list(completed.items), begun)

    def _way(self, deal: PurchaseContext, options: Options) -> PaymentMethod:
        gateway = deal.gateway
        if not gateway.prepaid:
            agree = partial(self._check_offer, deal=deal, options=options)
            turn = self.turns[gateway.name, deal.request.price_key]
            return X402Method(deal, lambda: signer_of(self.wallet_for(gateway), self.client), agree, turn)
        return PrepaidMethod(
            deal,
            self.catalog_at(gateway),
            headers=lambda: self.headers_for(gateway),
            max_price=options.max_price,
            look_up=lambda payment: self.look_up(payment, gateway),
        )

    async def _authorized(self, way: PaymentMethod, deal: PurchaseContext, options: Options) -> Payment:
        try:
            offer = await way.price()
        except GatewayError as error:
            error.money = error.money or Money.nothing_signed()
            raise
        deal.progress.price = offer.amount
        self._check_offer(offer, deal, options)
        await run_io(self.store.check_writable, deal.request.n)
        return await way.authorize(offer, options.hold)

    def _check_offer(self, offer: Price, deal: PurchaseContext, options: Options) -> None:
        check_offer(
            offer.amount,
            deal.request.n,
            caps=self.ledger.caps(),
            list_price=SNAPSHOT.list_price(deal.request.price_key),
            max_price=options.max_price,
            agreed=options.agreed,
        )

    async def _deliver(
        self,
        way: PaymentMethod,
        purchase: Purchase,
        payment: Payment,
        gateway: Gateway,
        items: list[ImagePayload],
        started: float,
    ) -> ImageResult:
        payment = self.ledger.payment(payment.id)
        # What the gateway says of the money is a claim: the witness is asked while the images are fetched.
        download = ImageDownload(self.client, self.ledger, self.store, gateway, purchase, payment, way.confirm, started)
        try:
            return await download.deliver(items)
        except BlockrunError as error:
            error.money = money_of(self.ledger.payment(payment.id))
            raise
