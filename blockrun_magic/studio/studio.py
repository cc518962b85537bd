"""The order of a request: stored? open? price? limits? sign, send, wait, store.

Magics, panel, scripts and the endpoint all go through `Studio.make`, which receives its services from outside.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

from blockrun_magic.database.locks import Locks
from blockrun_magic.errors import LedgerError, Money, StoreError
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT, Catalog
from blockrun_magic.gateway.chain.status import Balance
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.cost_log import append_settled
from blockrun_magic.payments.ledger.records import Purchase
from blockrun_magic.payments.user_records import UserRecords
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.studio.lessons.open_lessons import OpenLessons
from blockrun_magic.studio.locks import PurchaseLocks
from blockrun_magic.studio.options import Options
from blockrun_magic.studio.payment.pricing import Price, cached_price, classroom_price, list_price
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.pruning import PrunePlan, plan_pruning, remove_files
from blockrun_magic.studio.purchase import Purchaser
from blockrun_magic.studio.reconciliation import Reconciler
from blockrun_magic.studio.results.delivery import has_missing_images
from blockrun_magic.studio.results.requests import request_from_record, request_to_record
from blockrun_magic.studio.results.result import ImageResult, Quote
from blockrun_magic.studio.results.stored import StoredResults
from blockrun_magic.studio.running import RunningPurchases
from blockrun_magic.studio.services import PurchaseServices, balance_of
from blockrun_magic.threads import run_cpu, run_io

__all__ = ["Options", "Studio"]


class Studio:
    """Makes and edits images: each is bought at most once, within the limits, and stored.

    `locks` are those of purchases: a folder, or the database of the ledger. `usage_logs` is the folder of ClawRouter's
    logs. All coroutines run on one event loop, the client's.
    """

    def __init__(
        self,
        services: PurchaseServices,
        locks: Path | Locks,
        usage_logs: Path | None = None,
        lessons: OpenLessons | None = None,
    ) -> None:
        self.client, self.ledger, self.store = services.client, services.ledger, services.store
        self.catalogs, self.wallets, self.records = services.catalogs, services.wallets, UserRecords(services.ledger)
        self._services = services
        self._locks = PurchaseLocks(services.ledger, locks)
        self.reconciler = Reconciler(
            *(services.client, services.ledger, self._locks, services.clock),
            *(usage_logs, self.wallets.headers, self.wallets.classroom),
        )
        self._stored_results = StoredResults(services.ledger, services.store)
        self._purchaser = Purchaser(services, self.reconciler.reconcile_prepaid)
        self.running = RunningPurchases()
        self.lessons = OpenLessons() if lessons is None else lessons
        """Open lessons; their images are used before anything is bought."""
        services.ledger.guards.append(self.lessons.check)

    @property
    def catalog(self) -> Catalog:
        """The built-in list of models."""
        return SNAPSHOT

    def wallet_for(self, gateway: Gateway) -> Wallet | SolanaWallet:
        """Return the wallet that pays at `gateway`; raises WalletError."""
        return self.wallets.wallet_for(gateway)

    def check_payer(self, gateway: Gateway) -> None:
        """Raise WalletError when there is no key to pay with at `gateway`, or when it stays locked; sends nothing."""
        self.wallets.check(gateway)

    def catalog_at(self, gateway: Gateway) -> Catalog:
        """Return the models at `gateway`: the snapshot, updated from its live list."""
        return self.catalogs.at(gateway)

    async def prewarm(self, gateway: Gateway) -> None:
        """Prepare the first image at `gateway`: load the signing library and open a connection."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.client.connect(gateway))
            if gateway.paid_by is Payer.SIGNATURE:
                tasks.create_task(run_cpu(self.wallets.prepare, gateway))

    async def quote(
        self, request: ImageRequest, gateway: Gateway, options: Options | None = None, *, ahead: bool = False
    ) -> Quote:
        """Return what `request` costs at `gateway`, asked without signing anything, or estimated.

        With `ahead`, quotes of the last hour are used again. Raises RequestError, TermsRefused or GatewayError.
        """
        options = options or Options()
        catalog = self.catalog_at(gateway)
        if not options.unchecked:
            catalog.check(request)
        if gateway.paid_by is Payer.CLASSROOM:
            offer = await classroom_price(self.wallets.account(), gateway, request, ahead=ahead)
        elif gateway.can("quote"):
            terms = await run_io(cached_price, self.ledger, gateway, request, payer="") if ahead else None
            if terms is None:
                fresh_take = partial(self._fresh_take, request, gateway, options)
                terms = await self._purchaser.ask_price(request, gateway, fresh_take)
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
            cached=await run_io(self.is_stored, request, gateway, options),
            estimated=offer.estimated,
        )

    def is_stored(self, request: ImageRequest, gateway: Gateway, options: Options) -> bool:
        """Return whether the take of `request` to use is stored, and so costs nothing."""
        if not options.fresh and self.lessons.has(request.digest, options.take):
            return True
        take = self._locks.resolve_take(gateway.realm, request.digest, take=options.take, fresh=options.fresh)
        purchase = self.ledger.purchase(gateway.realm, request.digest, take)
        return purchase is not None and purchase.finished_at is not None and self._stored_results.is_complete(purchase)

    async def make(
        self,
        request: ImageRequest,
        gateway: Gateway,
        options: Options | None = None,
        progress: Progress | None = None,
    ) -> ImageResult:
        """Return the images of `request`: stored ones at no cost, else bought at `gateway`.

        When the caller is cancelled before a signature has left, so is the purchase; afterwards it
        continues in the background to its end, so that nothing paid for is lost. Raises BlockrunError.
        """
        options, progress = options or Options(), progress or Progress()
        if not self.lessons.found:
            await run_io(self.lessons.find)
        if self.lessons:
            answer = await run_cpu(self.lessons.answer, request.digest, options.take, fresh=options.fresh)
            if answer is not None:
                return answer
        if not options.unchecked:
            self.catalog_at(gateway).check(request)
        again = options.fresh or options.collect
        key = None if again else (gateway.realm, request.digest, options.take)
        return await self._run(key, request, gateway, options, progress)

    async def resume(self, purchase: Purchase, gateway: Gateway, progress: Progress | None = None) -> ImageResult:
        """Return the images of an open purchase, continuing with its own payment."""
        progress = progress or Progress()
        request = await run_cpu(request_from_record, purchase.request, self.store)
        agreed = max((payment.amount for payment in await run_io(self.ledger.payments, purchase.id)), default=None)
        options = Options(take=purchase.take, unchecked=True, private=purchase.private, agreed=agreed, collect=True)
        return await self._run(None, request, gateway, options, progress)

    async def reconcile(self, gateway: Gateway) -> int:
        """Ask the witness of every open payment in the gateway's realm; return how many were decided."""
        return await self.reconciler.reconcile(gateway)

    async def balance(self, gateway: Gateway) -> Balance | None:
        """Return the balance of the wallet or account that pays at `gateway`, or None when it is unknown."""
        return await balance_of(self._services, gateway)

    def prunable(self, *, older_than: float | None = None, larger_than: int | None = None) -> PrunePlan:
        """Return the files that may be removed from the store: by age in seconds, by total size in bytes."""
        return plan_pruning(
            self.ledger, self.store, self._services.clock(), older_than=older_than, larger_than=larger_than
        )

    def prune(self, plan: PrunePlan) -> None:
        """Remove the files of `plan`; their receipts stay in the ledger."""
        remove_files(plan)

    async def wait_idle(self) -> None:
        """Wait until every running purchase has ended, including those of stopped cells."""
        await self.running.wait_idle()

    async def close(self) -> None:
        """Wait a moment for purchases that are already paid, then close the client and the ledger."""
        await self.running.close()
        await self.client.aclose()
        self.ledger.close()

    def stored_result(self, realm: str, digest: str, take: int) -> ImageResult | None:
        """Return a finished purchase at no cost, or None; its files are not looked at. Raises StoreError."""
        purchase = self.ledger.purchase(realm, digest, take)
        if purchase is None or purchase.finished_at is None:
            return None
        return self._stored_results.load(purchase, checked=False)

    async def _run(
        self,
        key: tuple[str, str, int | None] | None,
        request: ImageRequest,
        gateway: Gateway,
        options: Options,
        progress: Progress,
    ) -> ImageResult:
        making = partial(self._claim_and_make, request, gateway, options, progress)
        result = await self.running.run(key, making, progress)
        self.lessons.note(result)
        if options.draw is not None:
            await run_cpu(options.draw, result)
        return result

    async def _claim_and_make(
        self, request: ImageRequest, gateway: Gateway, options: Options, progress: Progress
    ) -> ImageResult:
        begin = partial(self._finished_or_begun, request, gateway, options)
        wanted: dict[str, Any] = {"take": options.take, "fresh": options.fresh, "gateway": gateway.name}
        async with self._locks.acquire(gateway.realm, request.digest, progress, begin, **wanted) as known:
            purchase = known
            if purchase.finished_at is not None:
                try:
                    if not (options.collect and has_missing_images(purchase)):
                        return await run_cpu(self._stored_results.load, purchase)
                except StoreError as error:
                    purchase = await run_io(self._stored_results.reopen, purchase, error)
                await run_io(self._check_spending, gateway, options)
                purchase = await run_io(self._begun, purchase, request, gateway, purchase.take, options)
            return await self._buy(request, gateway, purchase, options, progress)

    def _finished_or_begun(self, request: ImageRequest, gateway: Gateway, options: Options, take: int) -> Purchase:
        """Return the purchase of this take: a finished one as it is, else one to buy at `gateway`."""
        purchase = self.ledger.purchase(gateway.realm, request.digest, take)
        if purchase is not None and purchase.finished_at is not None:
            return purchase
        self._check_spending(gateway, options)
        return self._begun(purchase, request, gateway, take, options)

    def _begun(
        self, purchase: Purchase | None, request: ImageRequest, gateway: Gateway, take: int, options: Options
    ) -> Purchase:
        if purchase is not None:
            return purchase if purchase.gateway == gateway.name else self._purchaser.begin_here(purchase, gateway)
        record = request_to_record(request, self.store)
        return self.ledger.create_purchase(
            gateway.realm, gateway.name, request.digest, take, record, private=options.private
        )

    def _fresh_take(
        self, request: ImageRequest, gateway: Gateway, options: Options
    ) -> AbstractAsyncContextManager[Purchase]:
        realm, digest = gateway.realm, request.digest

        def begin(take: int) -> Purchase:
            return self._begun(self.ledger.purchase(realm, digest, take), request, gateway, take, options)

        return self._locks.acquire(realm, digest, Progress(), begin, take=None, fresh=True, gateway=gateway.name)

    def _check_spending(self, gateway: Gateway, options: Options) -> None:
        """Raise BlockrunError where buying is forbidden or no key can pay, before anything is written or sent."""
        self.ledger.check_guards(gateway.realm)
        if options.cache_only:
            raise StoreError(
                "This image is not stored, and only stored images may be used here.",
                "Buy it where that is allowed, or turn off the cache-only mode.",
                Money.nothing_sent(),
            )
        self.check_payer(gateway)

    async def _buy(
        self, request: ImageRequest, gateway: Gateway, purchase: Purchase, options: Options, progress: Progress
    ) -> ImageResult:
        try:
            async with self.catalogs.explain_unavailable_model(gateway, request):
                return await self._purchaser.buy(request, gateway, purchase, options, progress)
        except BaseException as error:
            if isinstance(error, LedgerError) and progress.sent:
                error.money = Money.unknown(progress.price or 0)
            await run_io(append_settled, self.ledger)  # a delivery does it, too
            raise
