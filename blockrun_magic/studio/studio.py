"""The order of a request: kept? open? price? caps? sign, send, wait, keep.

The one place that knows it. Magics, panel and scripts all go through `Studio.make`; what it needs
(client, ledger, store, wallet) is handed to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from blockrun_magic.errors import (
    BlockrunError,
    LedgerError,
    LessonError,
    Money,
    StoreError,
    WalletError,
    WalletMissing,
)
from blockrun_magic.gateway.catalog.cache import CatalogCache
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT, Catalog
from blockrun_magic.gateway.chain.account import account_credit
from blockrun_magic.gateway.chain.status import Balance, balance
from blockrun_magic.gateway.clawrouter import clawrouter_health
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.cost_log import append_settled
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Purchase
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.wallets.api_key import ApiKey
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.studio.lessons.lesson import Lesson
from blockrun_magic.studio.locks import PurchaseLocks
from blockrun_magic.studio.options import Options
from blockrun_magic.studio.payment.pricing import Price, cached_price, fetch_price, list_price
from blockrun_magic.studio.payment.retry import RetryPolicy
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.pruning import PrunePlan, plan_pruning
from blockrun_magic.studio.purchase import Purchaser
from blockrun_magic.studio.reconciliation import Reconciler
from blockrun_magic.studio.results.delivery import has_missing_images
from blockrun_magic.studio.results.requests import request_from_record, request_to_record
from blockrun_magic.studio.results.result import ImageResult, Quote
from blockrun_magic.studio.results.stored import Shelf
from blockrun_magic.threads import run_cpu

__all__ = ["Options", "Studio"]


class Studio:
    """Makes and edits pictures: each bought at most once, within the caps, and kept.

    `wallet_for` returns the wallet that pays at a gateway, `api_key` the key of a prepaid account; both raise
    WalletError when there is none. `catalogs` is the folder for live catalogs, `usage_logs` that of
    ClawRouter's logs. All coroutines run on one event loop, the client's.
    """

    def __init__(
        self,
        *,
        client: Client,
        ledger: Ledger,
        store: Store,
        wallet_for: Callable[[Gateway], Wallet | SolanaWallet],
        locks: Path,
        api_key: Callable[[], ApiKey] | None = None,
        catalogs: Path | None = None,
        usage_logs: Path | None = None,
        catalog: Catalog = SNAPSHOT,
        patience: RetryPolicy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self.ledger = ledger
        self.store = store
        self.catalog = catalog
        self.wallet_for = wallet_for
        self.catalogs = CatalogCache(client, catalog, catalogs, clock, self.headers_for)
        self._api_key = api_key
        self._claims = PurchaseLocks(ledger, locks)
        self.books = Reconciler(client, ledger, self._claims, clock, usage_logs, self.headers_for)
        self._shelf = Shelf(ledger, store)
        self._clock = clock
        self._purchasing = Purchaser(
            client=client,
            ledger=ledger,
            store=store,
            catalog_at=self.catalog_at,
            wallet_for=wallet_for,
            headers_for=self.headers_for,
            look_up=self.books.reconcile_prepaid,
            patience=patience or RetryPolicy(),
            clock=clock,
        )
        self._going_on: set[asyncio.Task[ImageResult]] = set()
        self.lessons: list[Lesson] = []
        """Whose pictures answer before anything is bought."""
        self.delivered: dict[tuple[str, str, int], None] = {}
        """Realm, digest and take of all that was given out, in order, whether bought now or before."""

    def catalog_at(self, gateway: Gateway) -> Catalog:
        """Return the models at `gateway`: the snapshot, with what its live list last said."""
        return self.catalogs.at(gateway)

    def check_payer(self, gateway: Gateway) -> None:
        """Raise WalletError when there is no key to pay with at `gateway`, or it stays locked; nothing is sent."""
        if gateway.paid_by is Payer.SIGNATURE:
            self.wallet_for(gateway).unlock()
        else:
            self.headers_for(gateway)

    async def prewarm(self, gateway: Gateway) -> None:
        """Get ready what the first picture at `gateway` will need: the signing library, and a connection."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.client.connect(gateway))
            if gateway.paid_by is Payer.SIGNATURE:
                tasks.create_task(asyncio.to_thread(self._prepare_payer, gateway))

    def _prepare_payer(self, gateway: Gateway) -> None:
        with suppress(BlockrunError):  # what is wrong with the wallet is said when it has to pay
            self.wallet_for(gateway).prepare()

    def headers_for(self, gateway: Gateway) -> SecretHeaders:
        """Return the headers that authorize a request where we do not sign: an account's key, else none."""
        if gateway.paid_by is not Payer.CREDIT:
            return SecretHeaders()
        if self._api_key is None:
            raise WalletMissing("There is no API key to pay with.", "Open the studio with one.")
        return self._api_key().headers()

    async def quote(
        self, request: ImageRequest, gateway: Gateway, options: Options | None = None, *, ahead: bool = False
    ) -> Quote:
        """Return what `request` costs at `gateway`, asked without signing anything, or estimated.

        With `ahead`, what the gateway quoted within the hour is not asked again. Raises RequestError,
        TermsRefused or GatewayError.
        """
        options = options or Options()
        catalog = self.catalog_at(gateway)
        if not options.unchecked:
            catalog.check(request)
        if gateway.can("quote"):
            terms = cached_price(self.ledger, gateway, request, payer="") if ahead else None
            if terms is None:
                async with self.catalogs.explain_unavailable_model(gateway, request):
                    terms = await fetch_price(self.client, self.ledger, gateway, request, payer="")
            offer = Price(terms.amount, terms.network.label, terms)
        else:
            offer = list_price(gateway, request, catalog, options.max_price)
        return Quote(
            total=offer.amount,
            list_price=catalog.list_price(request.price_key),
            n=request.n,
            network=offer.money,
            realm=gateway.realm,
            gateway=gateway.name,
            cached=self.is_stored(request, gateway, options),
            estimated=offer.estimated,
        )

    def is_stored(self, request: ImageRequest, gateway: Gateway, options: Options) -> bool:
        """Return whether the take of `request` that is meant was bought before, and so costs nothing."""
        if not options.fresh and any(lesson.take_of(request.digest, options.take) for lesson in self.lessons):
            return True
        take = self._claims.resolve_take(gateway.realm, request.digest, take=options.take, fresh=options.fresh)
        purchase = self.ledger.purchase(gateway.realm, request.digest, take)
        return purchase is not None and purchase.finished_at is not None and self._shelf.is_complete(purchase)

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
        if self.lessons:
            answer = await asyncio.to_thread(self._from_lessons, request, options)
            if answer is not None:
                return answer
        if not options.unchecked:
            self.catalog_at(gateway).check(request)
        return await self._run_shielded(self._claim_and_make(request, gateway, options, progress), progress)

    async def resume(self, purchase: Purchase, gateway: Gateway, progress: Progress | None = None) -> ImageResult:
        """Return the pictures of a purchase that was left open, paid for with its own payment."""
        progress = progress or Progress()
        request = await asyncio.to_thread(request_from_record, purchase.request, self.store)
        agreed = max((payment.amount for payment in self.ledger.payments(purchase.id)), default=None)
        options = Options(take=purchase.take, unchecked=True, private=purchase.private, agreed=agreed, collect=True)
        return await self._run_shielded(self._claim_and_make(request, gateway, options, progress), progress)

    async def reconcile(self, gateway: Gateway) -> int:
        """Ask what became of every open payment in the gateway's realm; return how many were decided."""
        return await self.books.reconcile(gateway)

    async def balance(self, gateway: Gateway) -> Balance | None:
        """Return the balance of whoever pays at `gateway`, or None when nobody can say."""
        if gateway.paid_by is Payer.PROXY:
            health = await clawrouter_health(self.client, gateway, full=True)
            known = None if health is None else health.balance
            return None if known is None else Balance(known, "ClawRouter, of its own wallet")
        if gateway.paid_by is Payer.CREDIT:
            try:
                headers = self.headers_for(gateway)
            except WalletError:
                return None
            credit = await account_credit(self.client, gateway, headers)
            if credit is None:
                return None
            blocked = f" (blocked: {credit.blocked})" if credit.blocked else ""
            return Balance(credit.remaining, f"the account{blocked}")
        if not gateway.can("balance"):
            return None
        address = await asyncio.to_thread(lambda: self.wallet_for(gateway).address)
        return await balance(self.client, gateway, address)

    def prunable(self, *, older_than: float | None = None, larger_than: int | None = None) -> PrunePlan:
        """Return what may be removed from the store: by age in seconds, by total size in bytes."""
        return plan_pruning(self.ledger, self.store, self._clock(), older_than=older_than, larger_than=larger_than)

    def prune(self, plan: PrunePlan) -> None:
        """Remove the files of `plan`; their receipts stay in the ledger."""
        for file in plan.files:
            file.path.unlink(missing_ok=True)

    async def wait_idle(self) -> None:
        """Wait until what goes on by itself now, its cell stopped or not, has come home."""
        if self._going_on:
            await asyncio.wait(self._going_on)

    async def close(self) -> None:
        """Let what is already paid for come home (briefly), then close connections and ledger."""
        if self._going_on:
            _, late = await asyncio.wait(self._going_on, timeout=1)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.client.aclose()
        self.ledger.close()

    def stored_result(self, realm: str, digest: str, take: int) -> ImageResult | None:
        """Return a finished purchase from the store at no cost, or None; raises StoreError where it is damaged."""
        purchase = self.ledger.purchase(realm, digest, take)
        return None if purchase is None or purchase.finished_at is None else self._shelf.load(purchase)

    def _from_lessons(self, request: ImageRequest, options: Options) -> ImageResult | None:
        """Return what a lesson answers, None where that is nothing; raises LessonError where only lessons may."""
        digest = request.digest
        for lesson in self.lessons if not options.fresh else ():
            take = lesson.take_of(digest, options.take)
            if take is not None:
                return lesson.answer(digest, take)
        strict = next((lesson for lesson in self.lessons if lesson.strict), None)
        if strict is not None:
            raise LessonError(
                f"The lesson {strict.name} has no picture for this cell, and makes no others.",
                "Run the cell as it was handed out, or `%blockrun lesson close` to make pictures of your own.",
            )
        return None

    # -- one purchase

    async def _run_shielded(self, making: Coroutine[Any, Any, ImageResult], progress: Progress) -> ImageResult:
        task = asyncio.create_task(making)
        self._going_on.add(task)
        task.add_done_callback(self._on_done)
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not progress.sent:
                task.cancel()
            raise
        receipt = result.receipt
        self.delivered[receipt.realm, receipt.request_digest, receipt.take] = None
        return result

    def _on_done(self, task: asyncio.Task[ImageResult]) -> None:
        self._going_on.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a purchase whose cell was stopped has nobody else to ask

    def _reopened(self, purchase: Purchase, error: StoreError) -> Purchase:
        """Return a purchase whose stored image cannot be used as an unfinished one; raises `error` if nothing paid."""
        if all(payment.state is State.RELEASED for payment in self.ledger.payments(purchase.id)):
            raise error
        self.ledger.reopen(purchase.id)
        return replace(purchase, finished_at=None)

    async def _claim_and_make(
        self, request: ImageRequest, gateway: Gateway, options: Options, progress: Progress
    ) -> ImageResult:
        realm = gateway.realm
        claim = self._claims.acquire(
            realm, request.digest, progress, take=options.take, fresh=options.fresh, gateway=gateway.name
        )
        async with claim as take:
            purchase = self.ledger.purchase(realm, request.digest, take)
            if purchase is not None and purchase.finished_at is not None:
                try:
                    if not (options.collect and has_missing_images(purchase)):
                        return await run_cpu(self._shelf.load, purchase)
                except StoreError as error:
                    purchase = self._reopened(purchase, error)
            if options.cache_only:
                raise StoreError(
                    "This picture is not kept, and only kept pictures are allowed here.",
                    "Buy it where that is allowed, or switch the cache mode off.",
                    Money.nothing_sent(),
                )
            await asyncio.to_thread(self.check_payer, gateway)  # no key: say so before anything is written or sent
            if purchase is None:
                record = await asyncio.to_thread(request_to_record, request, self.store)
                purchase = self.ledger.create_purchase(
                    realm, gateway.name, request.digest, take, record, private=options.private
                )
            elif purchase.gateway != gateway.name:
                purchase = self._purchasing.begin_here(purchase, gateway)
            try:
                async with self.catalogs.explain_unavailable_model(gateway, request):
                    return await self._purchasing.buy(request, gateway, purchase, options, progress)
            except LedgerError as error:
                if progress.sent:
                    error.money = Money.unknown(progress.price or 0)
                raise
            finally:
                append_settled(self.ledger)
