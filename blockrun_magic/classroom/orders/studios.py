"""Studios of the members: one wallet, one store and one gateway, and a view of the ledger for each person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.classroom.storage.order_records import Order
from blockrun_magic.database.locks import Locks
from blockrun_magic.gateway.catalog.catalog import Catalog
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.studio import ImageResult, Options, Studio
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.results.result import Quote
from blockrun_magic.studio.services import PurchaseServices
from blockrun_magic.threads import run_io

__all__ = ["MemberStudios"]

_SHUTDOWN_TIMEOUT = 1.0


class MemberStudios:
    """Makes images for members; each has separate purchases, paid by the one wallet.

    `member` returns a person by id: each reservation uses their current groups.
    """

    def __init__(
        self, services: PurchaseServices, locks: Locks, gateway: Gateway, member: Callable[[int], Member | None]
    ) -> None:
        self.gateway = gateway
        self.store = services.store
        self.client = services.client
        self._services = services
        self._locks = locks
        self._member = member
        self._owner = self._studio(services.ledger)
        self._studios: dict[int, Studio] = {}

    @property
    def catalog(self) -> Catalog:
        """The models of the gateway."""
        return self._owner.catalogs.at(self.gateway)

    async def make(
        self, member_id: int, request: ImageRequest, take: int, max_price: int | None, progress: Progress
    ) -> ImageResult:
        """Return the images of a person's request, bought at most once; raises BlockrunError."""
        options = Options(take=take, max_price=max_price, private=True, unchecked=True)  # checked at its acceptance
        return await self._of(member_id).make(request, self.gateway, options, progress)

    async def quote(self, member_id: int, request: ImageRequest, take: int | None) -> Quote:
        """Return the price of a request; signs nothing."""
        return await self._of(member_id).quote(request, self.gateway, Options(take=take), ahead=True)

    def payments(self, member_id: int, digest: str, take: int) -> tuple[str | None, list[Payment]]:
        """Return the purchase's id and its payments, oldest first."""
        ledger = self.ledger(member_id)
        purchase = ledger.purchase(self.gateway.realm, digest, take)
        return (None, []) if purchase is None else (purchase.id, ledger.payments(purchase.id))

    def paid_for(self, order: Order) -> list[Payment]:
        """Return the payments of an order's purchase without their signatures, oldest first."""
        ledger, purchase_id = self.ledger(order.member_id), order.purchase_id
        if purchase_id is None:
            purchase = ledger.purchase(self.gateway.realm, order.digest, order.take)
            purchase_id = None if purchase is None else purchase.id
        return [] if purchase_id is None else ledger.payments(purchase_id, signatures=False)

    def ledger(self, member_id: int) -> Ledger:
        """Return a person's view of the ledger."""
        return self._of(member_id).ledger

    def check_payer(self) -> None:
        """Raise WalletError when there is no key to pay with, or when it stays locked; sends nothing."""
        self._owner.wallets.check(self.gateway)

    async def refresh_models(self) -> None:
        """Read the gateway's models again if the list is older than a day."""
        await self._owner.catalogs.refresh_if_stale(self.gateway)

    async def reconcile_member(self, member_id: int) -> int:
        """Ask the witness of a person's open payments; return how many were decided."""
        return await self._of(member_id).reconcile(self.gateway)

    async def reconcile(self) -> int:
        """Ask the witness of every open payment that no process is working on; return how many were decided."""
        decided = 0
        for owner in await run_io(self._services.ledger.owners_of_open_payments):
            kind, _, number = owner.partition(":")
            if kind == "member":
                decided += await self.reconcile_member(int(number))
        return decided

    async def close(self) -> None:
        """Wait a moment for sent requests, then close the client."""
        idle = [asyncio.ensure_future(studio.running.wait_idle()) for studio in self._studios.values()]
        if idle:
            await asyncio.wait(idle, timeout=_SHUTDOWN_TIMEOUT)
        await self.client.aclose()

    def _of(self, member_id: int) -> Studio:
        studio = self._studios.get(member_id)
        if studio is None:
            ledger = self._services.ledger.for_owner(f"member:{member_id}", lambda: self._subjects(member_id))
            studio = self._studios[member_id] = self._studio(ledger)
        return studio

    def _subjects(self, member_id: int) -> tuple[str, ...]:
        member = self._member(member_id)
        return (f"member:{member_id}", "class", "all") if member is None else member.subjects

    def _studio(self, ledger: Ledger) -> Studio:
        studio = Studio(replace(self._services, ledger=ledger), self._locks)
        studio.lessons.close()  # lessons in the service's folder are ignored
        return studio
