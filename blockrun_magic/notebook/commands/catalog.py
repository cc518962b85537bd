"""`%blockrun models`, `%blockrun price` and `%blockrun styles`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import UsageError
from blockrun_magic.gateway.gateways import Capability
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.captions import quotes_card
from blockrun_magic.notebook.display.cards import Card, Table
from blockrun_magic.payments.money import format_usd
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.snapshot import Model

__all__ = ["MODELS", "PRICE", "STYLES", "models", "price", "styles"]


def models(context: Context, arguments: Arguments) -> Card:
    """Return the catalog, or its models that mention the words; `--refresh` asks the gateway for its list."""
    studio, gateway = context.session.studio_and_gateway()
    words = arguments["WORDS"]
    if arguments["--refresh"]:
        context.session.run(studio.catalogs.refresh(gateway))
    else:
        context.session.refresh_catalog(gateway)
    catalog = studio.catalogs.at(gateway)
    matches = catalog.search(words) if words else catalog.offered
    source = f"{gateway.name}'s own list" if catalog.live else "List prices"
    quoted = "the gateway's quote decides, and is shown before you pay"
    if Capability.QUOTE not in gateway.capabilities:
        quoted = "they are reserved, and booked as estimates unless the answer names a price"
    return Table(
        ("--model", "id", "good for", "sizes", "edits", "an image"),
        [_model_row(model) for model in matches],
        title=f"{len(matches)} image models",
        note=f"{source} of {catalog.as_of}; {quoted}.",
        left=5,
    )


def _model_row(model: Model) -> tuple[str, ...]:
    prices = sorted({price for size in model.sizes if (price := model.price(size, None)) is not None})
    cost = " to ".join(format_usd(price) for price in dict.fromkeys((prices[0], prices[-1]))) if prices else "by quote"
    edits = f"up to {model.max_images}{', mask' if model.takes_mask else ''}" if model.edits else "no"
    edits = "not known" if model.unverified else edits
    good_for = model.good_for if model.served else "no longer served here"
    return model.name, model.id, good_for, ", ".join(model.sizes[:3]), edits, cost


def price(context: Context, arguments: Arguments) -> Card:
    """Return the price of a request, or of Run All of a notebook; asking is free."""
    from blockrun_magic.gateway.catalog.sizes import resolve_size
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.notebook.cells.flag_values import CONVERTERS
    from blockrun_magic.studio import Options
    from blockrun_magic.studio.batch import quote_all

    target = arguments["MODEL|NOTEBOOK"]
    if target is not None and target.lower().endswith(".ipynb"):
        return _notebook_price(context, arguments)
    if target is not None and arguments["--model"]:
        raise UsageError("The model is given twice.", f"Write `%blockrun price {target}`, or use --model.")
    studio, gateway = context.session.studio_and_gateway(arguments["--gateway"])
    catalog = studio.catalogs.at(gateway)
    names = target or arguments["--model"]
    requested: Any = CONVERTERS["model"](names) if names else ()
    chosen = [catalog.resolve(name) for name in requested]
    sizes: Any = CONVERTERS["size"](arguments["--size"]) if arguments["--size"] else ()
    requests = [
        ImageRequest(
            operation="generate",
            prompt="an image",
            model=model,
            size=resolve_size(size, model, catalog),
            quality=arguments["--quality"],
            n=arguments["-n"] or 1,
        )
        for model in chosen or [catalog.default_model("generate")]
        for size in sizes or (catalog.default_size(model),)
    ]
    quotes = context.session.run(quote_all(studio, requests, gateway, Options()))
    return quotes_card(requests, quotes)


def _notebook_price(context: Context, arguments: Arguments) -> Card:
    from blockrun_magic.notebook.cells.forecast import estimate_notebook, forecast_card

    path = arguments.pop("MODEL|NOTEBOOK")
    if arguments:
        raise UsageError(f"{next(iter(arguments))} does not apply to a notebook.", f"Write: `%blockrun price {path}`.")
    return forecast_card(estimate_notebook(Path(path).expanduser(), context.session, blockrun_home()))


def styles(_context: Context, arguments: Arguments) -> Card:
    """Return the styles for `--style`, and where to add your own."""
    from blockrun_magic.notebook.cells.styles import load_styles, styles_file

    term = (arguments["WORDS"] or "").lower()
    rows = [
        (style.name, style.look, style.words)
        for style in load_styles(blockrun_home()).values()
        if term in f"{style.name} {style.look} {style.words}".lower()
    ]
    note = f"Add your own in {styles_file(blockrun_home())}."
    return Table(("--style", "looks like", "adds to the prompt"), rows, note=note, left=3)


MODELS = Command(
    "models",
    "List the image models with prices, sizes and abilities.",
    models,
    (
        Argument("WORDS", "model", "Only models that mention these words.", many=True),
        Argument("--refresh", "switch", "Ask the gateway for its current list."),
    ),
)
PRICE = Command(
    "price",
    "Show the price of a request or of a whole notebook; asking is free.",
    price,
    (
        Argument("MODEL|NOTEBOOK", "model", "A model (a,b for several), or an .ipynb file."),
        Argument("--model", "model", "The model; several are separated by commas.", "NAME"),
        Argument("--size", "size", "The size, as in 1216x832, 16:9 or portrait.", "WxH"),
        Argument("-n", "count", "The number of images.", "K"),
        Argument("--quality", "quality", "The quality.", "WORD", choices=("standard", "hd")),
        Argument("--gateway", "gateway", "Ask another gateway.", "NAME"),
    ),
)
STYLES = Command(
    "styles",
    "List the styles for --style, and where to add your own.",
    styles,
    (Argument("WORDS", "text", "Only styles that mention these words.", many=True),),
)
