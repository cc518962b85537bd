"""The order of a request: kept? open? price? caps? sign, send, wait, keep.

The one place that knows it. Magics, panel and scripts all go through `Studio.make`; what it needs
(client, ledger, store, wallet) is handed to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockrun_magic.errors import BlockrunError, BudgetError, GatewayError, LedgerError, StoreError
from blockrun_magic.gateway.answers import Item
from blockrun_magic.gateway.catalog import SNAPSHOT, Catalog
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.presets import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.gateway.truth import Balance, balance
from blockrun_magic.payments.budget import check_price, check_surprise
from blockrun_magic.payments.cost_log import append_settled
from blockrun_magic.payments.ledger import Ledger
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.rows import Payment, Purchase
from blockrun_magic.payments.states import State
from blockrun_magic.payments.wallet import Wallet
from blockrun_magic.payments.x402 import Terms
from blockrun_magic.pictures.store import Store
from blockrun_magic.studio.asking import ask_price, look_up
from blockrun_magic.studio.buying import Buying
from blockrun_magic.studio.claims import Claims
from blockrun_magic.studio.delivery import Delivery, items_from_record, items_to_record
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.pruning import Plan, plan_pruning
from blockrun_magic.studio.records import request_from_record, request_to_record
from blockrun_magic.studio.result import ImageResult, Quote
from blockrun_magic.studio.retry import Patience
from blockrun_magic.studio.shelf import Shelf

__all__ = ["Options", "Studio"]


@dataclass(frozen=True, slots=True)
class Options:
    """How one request may be answered; `max_price` is in micro-USDC for all of its pictures."""

    max_price: int | None = None
    fresh: bool = False
    take: int | None = None
    unchecked: bool = False
    private: bool = False
    cache_only: bool = False
    hold: int | None = None
    """The ledger's hold that a batch reserves its parts out of."""
    agreed: int | None = None
    """What was agreed to when a purchase that is resumed was begun, in micro-USDC: it may not cost more."""


class Studio:
    """Makes and edits pictures: each bought at most once, within the caps, and kept.

    `wallet_for` returns the wallet that pays at a gateway, and raises WalletError when there is none.
    All coroutines run on one event loop, the client's.
    """

    def __init__(
        self,
        *,
        client: Client,
        ledger: Ledger,
        store: Store,
        wallet_for: Callable[[Gateway], Wallet],
        locks: Path,
        catalog: Catalog = SNAPSHOT,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self.ledger = ledger
        self.store = store
        self.catalog = catalog
        self.wallet_for = wallet_for
        self._claims = Claims(ledger, locks)
        self._shelf = Shelf(ledger, store)
        self._patience = patience or Patience()
        self._clock = clock
        self._going_on: set[asyncio.Task[ImageResult]] = set()

    async def quote(self, request: ImageRequest, gateway: Gateway, options: Options | None = None) -> Quote:
        """Return what `request` costs at `gateway`, asked without signing anything.

        Raises RequestError, TermsRefused or GatewayError.
        """
        options = options or Options()
        if not options.unchecked:
            self.catalog.check(request)
        terms = await ask_price(self.client, gateway, request, payer="")
        return Quote(
            total=terms.amount,
            list_price=self.catalog.list_price(request.price_key),
            n=request.n,
            network=terms.network.label,
            realm=gateway.realm,
            gateway=gateway.name,
            kept=self.is_kept(request, gateway, options),
        )

    def is_kept(self, request: ImageRequest, gateway: Gateway, options: Options) -> bool:
        """Return whether the take of `request` that is meant was bought before, and so costs nothing."""
        take = self._claims.meant(gateway.realm, request.digest, take=options.take, fresh=options.fresh)
        purchase = self.ledger.purchase(gateway.realm, request.digest, take)
        return purchase is not None and purchase.finished_at is not None

    async def make(
        self,
        request: ImageRequest,
        gateway: Gateway,
        options: Options | None = None,
        progress: Progress | None = None,
    ) -> ImageResult:
        """Return the pictures of `request`: kept ones at no cost, else bought at `gateway`.

        When the caller is cancelled before a signature has left, so is the purchase; afterwards it
        goes on by itself to its end, so that nothing paid for is lost. Raises every error of ours.
        """
        options, progress = options or Options(), progress or Progress()
        if not options.unchecked:
            self.catalog.check(request)
        return await self._shielded(self._claim_and_make(request, gateway, options, progress), progress)

    async def resume(self, purchase: Purchase, gateway: Gateway, progress: Progress | None = None) -> ImageResult:
        """Return the pictures of a purchase that was left open, paid for with its own payment."""
        progress = progress or Progress()
        request = await asyncio.to_thread(request_from_record, purchase.request, self.store)
        agreed = max((payment.amount for payment in self.ledger.payments(purchase.id)), default=None)
        options = Options(take=purchase.take, unchecked=True, private=purchase.private, agreed=agreed)
        return await self._shielded(self._claim_and_make(request, gateway, options, progress), progress)

    async def reconcile(self, gateway: Gateway) -> int:
        """Ask what became of every open payment in the gateway's realm; return how many were decided."""
        decided = 0
        for payment in self.ledger.open_payments():
            purchase = self.ledger.purchase_by_id(payment.purchase_id)
            if purchase is None or purchase.realm != gateway.realm:
                continue
            async with self._claims.hold_if_free(purchase) as free:
                if free:  # else a kernel is at work on it
                    decided += await self._decide(purchase, payment.id, gateway)
        append_settled(self.ledger)
        return decided

    async def _decide(self, purchase: Purchase, payment_id: int, gateway: Gateway) -> bool:
        """Settle or release an open payment of a purchase whose lock we hold, if anybody knows."""
        payment = self._payment(purchase, payment_id)  # as it stands now that we hold the lock
        if payment.state in (State.RESERVED, State.SIGNED):
            self.ledger.release(payment_id, "never sent")
        else:
            await look_up(self.client, self.ledger, gateway, payment, self._clock())
        return self._payment(purchase, payment_id).state in (State.SETTLED, State.RELEASED)

    async def balance(self, gateway: Gateway) -> Balance | None:
        """Return the balance of the wallet that pays at `gateway`, or None when nobody can say."""
        address = await asyncio.to_thread(lambda: self.wallet_for(gateway).address)
        return await balance(self.client, gateway, address)

    def prunable(self, *, older_than: float | None = None, larger_than: int | None = None) -> Plan:
        """Return what may be removed from the store: by age in seconds, by total size in bytes."""
        return plan_pruning(self.ledger, self.store, self._clock(), older_than=older_than, larger_than=larger_than)

    def prune(self, plan: Plan) -> None:
        """Remove the files of `plan`; their receipts stay in the ledger."""
        for file in plan.files:
            file.path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Let what is already paid for come home (briefly), then close connections and ledger."""
        if self._going_on:
            await asyncio.wait(self._going_on, timeout=1)
        await self.client.aclose()
        self.ledger.close()

    # -- one purchase

    async def _shielded(self, making: Coroutine[Any, Any, ImageResult], progress: Progress) -> ImageResult:
        task = asyncio.create_task(making)
        self._going_on.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not progress.sent:
                task.cancel()
            raise

    def _ended(self, task: asyncio.Task[ImageResult]) -> None:
        self._going_on.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a purchase whose cell was stopped has nobody else to ask

    async def _claim_and_make(
        self, request: ImageRequest, gateway: Gateway, options: Options, progress: Progress
    ) -> ImageResult:
        realm = gateway.realm
        claim = self._claims.hold(realm, request.digest, progress, take=options.take, fresh=options.fresh)
        async with claim as take:
            purchase = self.ledger.purchase(realm, request.digest, take)
            if purchase is not None and purchase.finished_at is not None:
                return await asyncio.to_thread(self._shelf.kept, purchase)
            if options.cache_only:
                raise StoreError(
                    "This picture is not kept, and only kept pictures are allowed here.",
                    "Nothing was sent. Buy it where that is allowed, or switch the cache mode off.",
                )
            self.wallet_for(gateway)  # no key: say so before anything is written or sent
            if purchase is None:
                record = await asyncio.to_thread(request_to_record, request, self.store)
                purchase = self.ledger.begin(realm, gateway.name, request.digest, take, record, private=options.private)
            try:
                return await self._buy(request, gateway, purchase, options, progress)
            except LedgerError as error:
                raise _told_truly(error, progress) from error
            finally:
                append_settled(self.ledger)

    async def _buy(
        self,
        request: ImageRequest,
        gateway: Gateway,
        purchase: Purchase,
        options: Options,
        progress: Progress,
    ) -> ImageResult:
        begun = time.monotonic()
        buying = Buying(
            client=self.client,
            ledger=self.ledger,
            gateway=gateway,
            wallet=lambda: self.wallet_for(gateway),
            request=request,
            purchase=purchase,
            progress=progress,
            patience=self._patience,
            clock=self._clock,
        )
        payment = await buying.still_open()
        if payment is None:
            payment = await self._authorized(buying, request, options, progress)
        elif payment.state is State.SETTLED and (items := items_from_record(purchase.answer)) is not None:
            progress.stage = "fetching the picture"
            with suppress(GatewayError):  # the address may have lapsed: the gateway is asked for another
                return await self._deliver(purchase, payment, gateway, items, begun)
        payment, completed, _ = await buying.submit(payment)
        progress.stage = "fetching the picture"
        return await self._deliver(purchase, payment, gateway, list(completed.items), begun)

    async def _authorized(self, buying: Buying, request: ImageRequest, options: Options, progress: Progress) -> Payment:
        try:
            terms = await buying.quote(buying.purchase.poll_url)
        except GatewayError as error:
            raise type(error)(error.what, f"Nothing was signed. {error.do}") from error
        progress.price = terms.amount
        self._check_budget(terms, request, options)
        return await buying.authorize(terms, options.hold)

    def _check_budget(self, terms: Terms, request: ImageRequest, options: Options) -> None:
        check_price(terms.amount, request.n, self.ledger.caps(), options.max_price)
        check_surprise(terms.amount, self.catalog.list_price(request.price_key), options.max_price)
        if options.agreed is not None and terms.amount > options.agreed:
            raise BudgetError(
                f"The price rose from {format_usd(options.agreed)} to {format_usd(terms.amount)} since this was begun.",
                "Nothing was signed. Run its cell again to agree to the new price.",
            )

    async def _deliver(
        self, purchase: Purchase, payment: Payment, gateway: Gateway, items: list[Item], begun: float
    ) -> ImageResult:
        payment = self._payment(purchase, payment.id)
        delivery = Delivery(self.client, self.store, gateway, purchase, payment)
        self.ledger.answer(purchase.id, items_to_record(items))
        try:
            brought = await delivery.bring(items)
        except BlockrunError as error:
            raise type(error)(error.what, f"{error.do} {_paid_words(payment)}".strip()) from error
        if payment.state in (State.SUBMITTED, State.POLLING):
            # Pictures without a transaction prove nothing about the money.
            self.ledger.doubt(payment.id, "delivered without a transaction hash")
        seconds = time.monotonic() - begun
        self.ledger.finish(purchase.id, [kept for kept, _ in brought], seconds)
        images = [image for _, image in brought]
        return self._shelf.result(purchase, [kept for kept, _ in brought], seconds, images, from_store=False)

    def _payment(self, purchase: Purchase, payment_id: int) -> Payment:
        return next(p for p in self.ledger.payments(purchase.id) if p.id == payment_id)


def _paid_words(payment: Payment) -> str:
    if payment.state is State.SETTLED:
        return f"{format_usd(payment.amount)} was paid; running the cell again fetches it and pays nothing more."
    return f"{format_usd(payment.amount)} may have been charged; running the cell again pays nothing more."


def _told_truly(error: LedgerError, progress: Progress) -> LedgerError:
    if not progress.sent:
        return error
    return LedgerError(
        error.what,
        "The payment may have been sent. See to the ledger (space? permissions?), then run the cell again:"
        " it goes on with the same payment.",
    )
