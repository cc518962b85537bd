"""`%blockrun models` and `%blockrun price`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.captions import quotes_card
from blockrun_magic.notebook.display.cards import Card, Table
from blockrun_magic.payments.money import format_usd
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.snapshot import Model

__all__ = ["models", "price"]


_REFRESH = "--refresh"


def models(context: Context, words: Sequence[str]) -> Card:
    """Return the catalog, or the part of it that has a word in it; `--refresh` asks the gateway for its own list."""
    studio, gateway = context.session.studio_and_gateway()
    refresh = _REFRESH in words
    words = [word for word in words if word != _REFRESH]
    if refresh:
        context.session.run(studio.catalogs.refresh(gateway))
    else:
        context.session.refresh_catalog(gateway)
    catalog = studio.catalog_at(gateway)
    found = catalog.search(" ".join(words)) if words else catalog.models
    source = f"{gateway.name}'s own list" if catalog.live else "List prices"
    quoted = "the gateway's quote decides and is shown before you pay"
    if not gateway.can("quote"):
        quoted = "they are reserved, and booked as estimated unless the answer names its own"
    return Table(
        ("--model", "id", "good for", "sizes", "edits", "a picture"),
        [_model_row(model) for model in found],
        title=f"{len(found)} image models",
        note=f"{source} of {catalog.as_of}; {quoted}.",
        left=5,
    )


def _model_row(model: Model) -> tuple[str, ...]:
    prices = sorted({price for size in model.sizes if (price := model.price(size, None)) is not None})
    cost = " to ".join(format_usd(price) for price in dict.fromkeys((prices[0], prices[-1]))) if prices else "by quote"
    edits = f"up to {model.max_images}{', mask' if model.takes_mask else ''}" if model.edits else "no"
    edits = "not known" if model.unverified else edits
    good_for = model.good_for if model.served else "not served here any more"
    return model.name, model.id, good_for, ", ".join(model.sizes[:3]), edits, cost


def price(context: Context, words: Sequence[str]) -> Card:
    """Return what a request, or Run All of a notebook, would cost; asking is free."""
    if words and words[0].lower().endswith(".ipynb"):
        return _notebook_price(context, words)
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.notebook.cells.flags import parse_flags

    flags = parse_flags("imagegen", " ".join(words))
    studio, gateway = context.session.studio_and_gateway(flags.gateway)
    catalog = studio.catalog_at(gateway)
    model = catalog.resolve(flags.models[0]) if flags.models else catalog.default_model("generate")
    request = ImageRequest(
        operation="generate",
        prompt=flags.prompt or "a picture",
        model=model,
        size=flags.sizes[0] if flags.sizes else catalog.default_size(model),
        quality=flags.quality,
        n=flags.n or 1,
    )
    quote = context.session.run(studio.quote(request, gateway))
    return quotes_card([request], [quote])


def _notebook_price(context: Context, words: Sequence[str]) -> Card:
    from blockrun_magic.notebook.cells.forecast import estimate_notebook, forecast_card

    if len(words) > 1:
        raise FlagError("`price` takes one notebook.", "For example: %blockrun price lesson.ipynb.")
    return forecast_card(estimate_notebook(Path(words[0]).expanduser(), context.session, blockrun_home()))
