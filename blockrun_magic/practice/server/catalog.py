"""The catalog in the format of /v1/models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blockrun_magic.gateway.request import ENDPOINTS, PriceKey
from blockrun_magic.practice.server.challenge import price_of

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog, Model

__all__ = ["model_entries"]


def model_entries(catalog: Catalog) -> list[dict[str, Any]]:
    """Return one entry for each model: id, categories, sizes, and the price of an image in US dollars."""
    return [_entry(catalog, model) for model in catalog.models]


def _entry(catalog: Catalog, model: Model) -> dict[str, Any]:
    prices = {}
    for size in model.sizes:
        price = catalog.list_price(PriceKey(ENDPOINTS["generate"], model.id, size, None, 1))
        if price is not None:
            prices[size] = price_of(price)["amount"]
    return {
        "id": model.id,
        "object": "model",
        "owned_by": model.id.partition("/")[0],
        "categories": ["image"],
        "sizes": list(model.sizes),
        "supports_editing": model.edits,
        "pricing": {"per_image": next(iter(prices.values()), None), "by_size": prices, "currency": "USDC"},
    }
