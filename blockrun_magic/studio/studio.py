"""The studio's order of steps: stored? open? price? limits? sign, send, wait, store.

Magics, panel, scripts and the endpoint all go through `Studio.make`, which receives its services from outside.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from blockrun_magic.database.locks import Locks
from blockrun_magic.errors import StoreError
from blockrun_magic.gateway.chain.status import Balance
from blockrun_magic.gateway.clawrouter import Health, clawrouter_health
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.records import Purchase
from blockrun_magic.payments.user_records import UserRecords
from blockrun_magic.studio.lessons.open_lessons import OpenLessons
from blockrun_magic.studio.options import Handling, Options
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.purchase import Purchaser
from blockrun_magic.studio.quoting import Quotes
from blockrun_magic.studio.reconciliation import Reconciler
from blockrun_magic.studio.results.delivery import has_missing_images
from blockrun_magic.studio.results.requests import request_from_record
from blockrun_magic.studio.results.result import ImageResult, Quote
from blockrun_magic.studio.results.stored import StoredResults
from blockrun_magic.studio.results.stored_files import StoredFiles
from blockrun_magic.studio.running import RunningPurchases
from blockrun_magic.studio.services import PurchaseServices, balance_of, prepare
from blockrun_magic.studio.takes.locks import PurchaseLocks
from blockrun_magic.studio.takes.takes import Takes
from blockrun_magic.threads import run_cpu, run_io

__all__ = ["Options", "Studio"]


class Studio:
    """Makes and edits images: each is bought at most once, within the limits, and stored.

    `locks` are those of purchases: a folder, or the database of the ledger. `usage_logs` is the folder of ClawRouter's
    logs. All coroutines run on one event loop, the client's. What is not an order is asked of `records`, `catalogs`,
    `wallets`, `files`, `lessons`, `reconciler` and `running`.
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
        self.files = StoredFiles(services.store, services.ledger, services.clock)
        self.fetch = services.client.fetch
        """Fetches the source image at a URL; raises SourceError."""
        self.running = RunningPurchases()
        self.lessons = OpenLessons() if lessons is None else lessons
        """Open lessons; their images are used before anything is bought."""
        services.ledger.guards.append(self.lessons.check)
        self._services = services
        purchase_locks = PurchaseLocks(services.ledger, locks)
        self.reconciler = Reconciler(
            *(services.client, services.ledger, purchase_locks, services.clock),
            *(usage_logs, self.wallets.headers, self.wallets.classroom),
        )
        self._takes = Takes(services, purchase_locks)
        self._stored = StoredResults(services.ledger, services.store)
        self._purchaser = Purchaser(services, self.reconciler.reconcile_prepaid)
        self._quotes = Quotes(services, self._purchaser, self._takes, self._stored, self.lessons)

    async def prewarm(self, gateway: Gateway) -> None:
        """Prepare the first image at `gateway`: load the signing library and open a connection."""
        await prepare(self._services, gateway)

    async def quote(
        self, request: ImageRequest, gateway: Gateway, options: Options | None = None, *, ahead: bool = False
    ) -> Quote:
        """Return the price of `request` at `gateway`, quoted or estimated; signs nothing.

        With `ahead`, quotes of the last hour are used again. Raises RequestError, TermsRefused or GatewayError.
        """
        return await self._quotes.quote(request, gateway, options or Options(), ahead=ahead)

    def is_stored(self, request: ImageRequest, gateway: Gateway, options: Options) -> bool:
        """Return whether the take of `request` to use is stored, and so costs nothing."""
        return self._quotes.is_stored(request, gateway, options)

    def stored_result(self, realm: str, digest: str, take: int) -> ImageResult | None:
        """Return a finished purchase at no cost, or None; its files are not checked. Raises StoreError."""
        return self._stored.find(realm, digest, take)

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
            self.catalogs.at(gateway).check(request)
        again = options.fresh or options.handling.collect
        key = None if again else (gateway.realm, request.digest, options.take)
        return await self._run(key, request, gateway, options, progress)

    async def resume(self, purchase: Purchase, gateway: Gateway, progress: Progress | None = None) -> ImageResult:
        """Return the images of an open purchase, continuing with its own payment."""
        progress = progress or Progress()
        request = await run_cpu(request_from_record, purchase.request, self.store)
        agreed = max((payment.amount for payment in await run_io(self.ledger.payments, purchase.id)), default=None)
        handling = Handling(agreed=agreed, collect=True)
        options = Options(take=purchase.take, unchecked=True, private=purchase.private, handling=handling)
        return await self._run(None, request, gateway, options, progress)

    async def reconcile(self, gateway: Gateway) -> int:
        """Ask the witness of every open payment in the gateway's realm; return how many were decided."""
        return await self.reconciler.reconcile(gateway)

    async def balance(self, gateway: Gateway) -> Balance | None:
        """Return the balance of the wallet or account that pays at `gateway`, or None when it is unknown."""
        return await balance_of(self._services, gateway)

    async def clawrouter(self, gateway: Gateway) -> Health | None:
        """Return the health of the ClawRouter at `gateway`, with its balance, or None if none answers."""
        return await clawrouter_health(self.client, gateway, full=True)

    async def close(self) -> None:
        """Wait a moment for purchases that are already paid, then close the client and the ledger."""
        await self.running.close()
        await self.client.aclose()
        self.ledger.close()

    async def _run(
        self,
        key: tuple[str, str, int | None] | None,
        request: ImageRequest,
        gateway: Gateway,
        options: Options,
        progress: Progress,
    ) -> ImageResult:
        making = partial(self._load_or_buy, request, gateway, options, progress)
        result = await self.running.run(key, making, progress)
        self.lessons.note(result)
        if options.handling.draw is not None:
            await run_cpu(options.handling.draw, result)
        return result

    async def _load_or_buy(
        self, request: ImageRequest, gateway: Gateway, options: Options, progress: Progress
    ) -> ImageResult:
        async with self._takes.start(request, gateway, options, progress) as started:
            purchase = started
            if purchase.finished_at is not None:
                try:
                    if not (options.handling.collect and has_missing_images(purchase)):
                        return await run_cpu(self._stored.load, purchase)
                except StoreError as error:
                    purchase = await run_io(self._stored.reopen, purchase, error)
                purchase = await run_io(self._takes.continue_at, gateway, purchase, options)
            return await self._purchaser.buy(request, gateway, purchase, options, progress)
