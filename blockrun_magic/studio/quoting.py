"""Quotes of requests: their prices at a gateway, before anything is signed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from blockrun_magic.gateway.catalog.catalog import Catalog
from blockrun_magic.gateway.gateways import Capability, Gateway, Payer
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.studio.lessons.open_lessons import OpenLessons
from blockrun_magic.studio.options import Options
from blockrun_magic.studio.payment.pricing import Price, cached_price, classroom_price, list_price
from blockrun_magic.studio.purchase import Purchaser
from blockrun_magic.studio.results.result import Quote
from blockrun_magic.studio.results.stored import StoredResults
from blockrun_magic.studio.services import PurchaseServices
from blockrun_magic.studio.takes.takes import Takes
from blockrun_magic.threads import run_io

__all__ = ["Quotes"]


@dataclass(frozen=True, slots=True)
class Quotes:
    """The price of a request: zero if it is stored, otherwise the gateway's price or an estimate."""

    services: PurchaseServices
    purchaser: Purchaser
    takes: Takes
    stored: StoredResults
    lessons: OpenLessons

    async def quote(self, request: ImageRequest, gateway: Gateway, options: Options, *, ahead: bool) -> Quote:
        """Return the price of `request` at `gateway`; with `ahead`, quotes of the last hour are used again."""
        catalog = self.services.catalogs.at(gateway)
        if not options.unchecked:
            catalog.check(request)
        price = await self._price(request, gateway, options, catalog, ahead=ahead)
        return Quote(
            total=price.amount,
            list_price=catalog.list_price(request.price_key),
            n=request.n,
            network=price.money,
            realm=gateway.realm,
            gateway=gateway.name,
            cached=await run_io(self.is_stored, request, gateway, options),
            estimated=price.estimated,
        )

    def is_stored(self, request: ImageRequest, gateway: Gateway, options: Options) -> bool:
        """Return whether the take of `request` to use is stored, and so costs nothing."""
        if not options.fresh and self.lessons.has(request.digest, options.take):
            return True
        purchase = self.takes.purchase(request, gateway, options)
        return purchase is not None and purchase.finished_at is not None and self.stored.is_complete(purchase)

    async def _price(
        self, request: ImageRequest, gateway: Gateway, options: Options, catalog: Catalog, *, ahead: bool
    ) -> Price:
        services = self.services
        if gateway.paid_by is Payer.CLASSROOM:
            return await classroom_price(services.wallets.account(), gateway, request, ahead=ahead)
        if Capability.QUOTE not in gateway.capabilities:
            return list_price(gateway, request, catalog, options.max_price)
        terms = await run_io(cached_price, services.ledger, gateway, request, payer="") if ahead else None
        if terms is None:
            fresh_take = partial(self.takes.start_fresh, request, gateway, options)
            terms = await self.purchaser.ask_price(request, gateway, fresh_take)
        return Price(terms.amount, terms.network.label, terms)
