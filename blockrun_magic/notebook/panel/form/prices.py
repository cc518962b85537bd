"""Prices for the buttons: list prices at once, then the gateway's own when it has answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from blockrun_magic.gateway.request import ENDPOINTS, ImageRequest, PriceKey
from blockrun_magic.notebook.display.cards import format_amount
from blockrun_magic.payments.money import format_usd
from blockrun_magic.studio.payment.pricing import placeholder_image

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.notebook.cells.plan import RequestPlan
    from blockrun_magic.studio import Studio
    from blockrun_magic.studio.results.result import Quote

__all__ = ["LISTED", "Prices", "price_keys", "price_words"]

LISTED = "list price"
"""The note beside prices that the gateway has not confirmed."""

_HOUR = 3600.0


class Prices:
    """Prices that gateways have quoted to the panel; each is valid for an hour."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, PriceKey], tuple[Quote, float]] = {}

    def known(self, studio: Studio, gateway: Gateway, keys: Sequence[PriceKey]) -> tuple[list[int | None], str]:
        """Return the known prices in micro-USDC, and the note beside them."""
        catalog = studio.catalogs.at(gateway)
        quotes = [self._remembered(gateway, key) for key in keys]
        prices = [
            catalog.list_price(key) if quote is None else quote.total for key, quote in zip(keys, quotes, strict=True)
        ]
        if None in quotes:
            return prices, LISTED
        return prices, "estimated" if any(quote.estimated for quote in quotes if quote) else ""

    async def ask(self, studio: Studio, gateway: Gateway, keys: Sequence[PriceKey]) -> None:
        """Ask the gateway for prices that it has not quoted within the last hour.

        Raises GatewayError, RequestError or TermsRefused. The prompt and the images stay here:
        the price does not depend on them.
        """
        for key in keys:
            if self._remembered(gateway, key) is None:
                self._asked[gateway.base_url, key] = await studio.quote(_probe(key), gateway), time.monotonic()

    def forget(self, gateway: Gateway, keys: Sequence[PriceKey]) -> None:
        """Ask for these prices again: the gateway has just demanded more."""
        for key in keys:
            self._asked.pop((gateway.base_url, key), None)

    def _remembered(self, gateway: Gateway, key: PriceKey) -> Quote | None:
        quote, when = self._asked.get((gateway.base_url, key), (None, 0.0))
        return quote if time.monotonic() - when < _HOUR else None


def price_keys(plan: RequestPlan) -> list[PriceKey]:
    """Return the key of each request of `plan`: the fields that decide its price."""
    endpoint = ENDPOINTS[plan.operation]
    return [PriceKey(endpoint, model, size, plan.quality, plan.n) for _, model, size in plan.variants]


def price_words(n: int, prices: Sequence[int | None], realm: str) -> str:
    """Return the sum as text: "4 x $0.0525 = $0.21" for `n` images of one price."""
    if not prices:
        return ""
    if None in prices:
        return "The gateway quotes the price."
    total = sum(price or 0 for price in prices)
    count = n * len(prices)
    if count > 1 and total % count == 0 and len(set(prices)) == 1:
        return f"{count} x {format_usd(total // count)} = {format_amount(total, realm)}"
    return format_amount(total, realm)


def _probe(key: PriceKey) -> ImageRequest:
    editing = key.endpoint == ENDPOINTS["edit"]
    return ImageRequest(
        operation="edit" if editing else "generate",
        prompt="an image",
        model=key.model,
        size=key.size,
        quality=key.quality,
        n=key.n,
        images=(placeholder_image(),) if editing else (),
    )
