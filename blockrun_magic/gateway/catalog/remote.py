"""A gateway's own list of models, merged over the snapshot.

The list is untrusted: only a limited number of image models with a plain id are read, and only plausible prices.
Source: gateway protocol, sections 2 and 9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blockrun_magic.gateway.catalog.catalog import DEFAULT_SIZE, Catalog
from blockrun_magic.gateway.catalog.snapshot import Model, PriceRule, dimensions
from blockrun_magic.payments.money import read_micros, to_decimal
from blockrun_magic.text import sanitize

__all__ = ["LiveModel", "overlay", "read_models", "to_record"]

_MAX_MODELS = 500
_MAX_SIZES = 40
_MAX_QUALITIES = 10
_MAX_PRICE = 100_000_000
_WORD = re.compile(r"[A-Za-z]{1,20}")
_ID = re.compile(r"[a-z0-9][\w.-]{0,60}/[a-z0-9][\w.:-]{0,100}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LiveModel:
    """One image model of a gateway's list; prices are micro-USDC per image, for all sizes or by size."""

    id: str
    provider: str
    sizes: tuple[str, ...]
    edits: bool | None
    price: int | None
    by_size: tuple[tuple[str, int], ...]
    qualities: tuple[str, ...] = ()


def read_models(body: Any, *, all_images: bool = False) -> tuple[LiveModel, ...]:
    """Return the image models of a gateway's list; raises ValueError for a body that is not a list.

    `/v1/models` lists every kind of model, and `categories` contains "image" for those that count. The older
    `/v1/images/models` lists images only (`all_images`), and its entries may come without `categories`.
    """
    entries = next((body[name] for name in ("models", "data") if name in body), None) if _is_map(body) else body
    if not isinstance(entries, list):
        raise ValueError("not a list of models")  # noqa: TRY004  of JSON, not of an argument
    models: dict[str, LiveModel] = {}
    for entry in entries:
        model = _read_model(entry, all_images)
        if model is not None and len(models) < _MAX_MODELS:
            models.setdefault(model.id, model)
    return tuple(models.values())


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _read_model(entry: Any, all_images: bool) -> LiveModel | None:
    if not isinstance(entry, Mapping) or entry.get("available") is False:
        return None
    name, categories = entry.get("id"), entry.get("categories", ["image"] if all_images else None)
    if not isinstance(name, str) or not _ID.fullmatch(name):
        return None
    if not isinstance(categories, list) or "image" not in categories:
        return None
    pricing = entry.get("pricing")
    pricing = pricing if isinstance(pricing, Mapping) else {}
    by_size = pricing.get("by_size")
    prices = by_size if isinstance(by_size, Mapping) else {}
    sizes = next((entry[key] for key in ("sizes", "supportedSizes") if isinstance(entry.get(key), list)), list(prices))
    qualities = next((entry[key] for key in ("qualities", "supportedQualities") if key in entry), None)
    edits = entry.get("supports_editing")
    flat = (pricing.get("per_image"), entry.get("pricePerImage"), pricing.get("flat"))
    return LiveModel(
        id=name,
        provider=sanitize(entry.get("owned_by") or entry.get("provider") or name.partition("/")[0], 40),
        sizes=_sizes(sizes),
        edits=edits if isinstance(edits, bool) else None,
        price=next((micros for price in flat if (micros := read_micros(price, _MAX_PRICE, 1)) is not None), None),
        by_size=tuple(
            (size, micros)
            for size in _sizes(list(prices))
            if (micros := read_micros(prices[size], _MAX_PRICE, 1)) is not None
        ),
        qualities=_words(qualities),
    )


def _words(values: Any) -> tuple[str, ...]:
    words = values if isinstance(values, list) else []
    plain = (word.lower() for word in words if isinstance(word, str) and _WORD.fullmatch(word))
    return tuple(dict.fromkeys(plain))[:_MAX_QUALITIES]


def _sizes(values: Sequence[Any]) -> tuple[str, ...]:
    sizes = (value for value in values if isinstance(value, str) and dimensions(value))
    return tuple(dict.fromkeys(sizes))[:_MAX_SIZES]


def to_record(models: Sequence[LiveModel]) -> list[dict[str, Any]]:
    """Return the models as JSON values that `read_models` reads back."""
    return [
        {
            "id": model.id,
            "owned_by": model.provider,
            "sizes": list(model.sizes),
            "supports_editing": model.edits,
            "qualities": list(model.qualities),
            "pricing": {
                "per_image": None if model.price is None else str(to_decimal(model.price)),
                "by_size": {size: str(to_decimal(micros)) for size, micros in model.by_size},
            },
        }
        for model in models
    ]


def overlay(snapshot: Catalog, live: Sequence[LiveModel], as_of: str) -> Catalog:
    """Return the snapshot with the live list's prices, sizes and new models; unlisted models are not served."""
    listed = {model.id.casefold(): model for model in live}
    models = []
    for model in snapshot.models:
        entry = listed.pop(model.id.casefold(), None)
        models.append(replace(model, served=False) if entry is None else _updated(model, entry))
    return replace(snapshot, models=(*models, *map(_unknown, listed.values())), as_of=as_of, live=True)


def _updated(model: Model, live: LiveModel) -> Model:
    """Return `model` updated from the list."""
    sizes = tuple(dict.fromkeys((*model.sizes, *live.sizes)))
    return replace(_with_prices(model, live), served=True, sizes=sizes, qualities=live.qualities or model.qualities)


def _with_prices(model: Model, live: LiveModel) -> Model:
    """Return `model` with the live prices; a single price is that of the default size."""
    if live.by_size:
        rules = tuple(PriceRule(micros, sizes=(size,)) for size, micros in live.by_size)
        # Rules of a quality stay ahead: the list knows prices by size only.
        by_quality = tuple(rule for rule in model.prices if rule.quality is not None)
        return replace(model, prices=(*by_quality, *rules, *(rule for rule in model.prices if rule.quality is None)))
    if live.price is not None and live.price != model.price(model.sizes[0]):
        return replace(model, prices=(*model.prices[:-1], replace(model.prices[-1], micros=live.price)))
    return model


def _unknown(live: LiveModel) -> Model:
    rules = [PriceRule(micros, sizes=(size,)) for size, micros in live.by_size]
    if live.price is not None:
        rules.append(PriceRule(live.price))
    return Model(
        id=live.id,
        shorthands=(),
        provider=live.provider,
        sizes=live.sizes or (DEFAULT_SIZE,),
        prices=tuple(rules),
        good_for="new in the gateway's list",
        qualities=live.qualities,
        max_images=1 if live.edits else 0,
        unverified=True,
    )
