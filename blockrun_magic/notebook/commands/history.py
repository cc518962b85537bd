"""`%blockrun history`, `star` and `reuse`: a gallery of all sessions, and the cell that made an image."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import UsageError
from blockrun_magic.notebook.cells.rerun import cell_notes, cell_of, set_star
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Preformatted, format_amount
from blockrun_magic.notebook.display.gallery import GalleryRow, gallery_card
from blockrun_magic.notebook.display.thumbnails import thumbnail
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from blockrun_magic.payments.ledger.records import Purchase
    from blockrun_magic.payments.ledger.years.search import HistorySearch
    from blockrun_magic.studio import Studio

__all__ = ["HISTORY", "REUSE", "STAR", "history", "reuse", "star"]

_PAGE = 20
_THUMBNAIL = 88
_MAX_THUMBNAILS = 4
_SHORTEST_ID = 4
"""Fewer characters of an id would often match another image by chance."""


def history(context: Context, arguments: Arguments) -> Card:
    """Return the images made in all sessions, newest first; words search prompts and models."""
    studio, gateway = context.session.studio_and_gateway()
    page = arguments["--page"] or 1
    notes = cell_notes(blockrun_home())
    search = _search(gateway.realm, arguments, notes)
    purchases = studio.records.search(search, _PAGE + 1, (page - 1) * _PAGE)
    if not purchases:
        asked = any(name != "--page" for name in arguments) or page > 1
        return Message("No image matches." if asked else "No images yet.")
    rows = [_row(studio, purchase, notes.get(purchase.id, {})) for purchase in purchases[:_PAGE]]
    note = f"Older images: add --page {page + 1}." if len(purchases) > _PAGE else ""
    return gallery_card(rows, note)


def reuse(context: Context, arguments: Arguments) -> Card:
    """Write the cell that made an image as the next input, and return its text."""
    studio = context.session.studio_and_gateway()[0]
    purchase = _purchase_of(context, studio, arguments["IMAGE|ID"])
    text, note = cell_of(context, studio, purchase, cell_notes(blockrun_home()).get(purchase.id, {}))
    context.shell.set_next_input(text)
    return Preformatted(f"{text}\n{note}".strip())


def star(context: Context, arguments: Arguments) -> Card:
    """Star an image, or remove its star."""
    studio = context.session.studio_and_gateway()[0]
    purchase = _purchase_of(context, studio, arguments["IMAGE|ID"])
    starred = not arguments["--off"]
    set_star(blockrun_home(), purchase.id, starred=starred)
    return Message(
        f"{purchase.id} {'has a star' if starred else 'has no star'} now. `%blockrun history --starred` lists them."
    )


def _search(realm: str, arguments: Arguments, notes: Mapping[str, Mapping[str, Any]]) -> HistorySearch:
    """Return the images that match the arguments."""
    from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
    from blockrun_magic.payments.ledger.years.search import HistorySearch

    entry = SNAPSHOT.find(arguments["--model"]) if arguments["--model"] else None
    model = entry.id if entry else (arguments["--model"] or "")
    day, starred = arguments["--day"], [name for name, note in notes.items() if note.get("star")]
    return HistorySearch(
        realm,
        words=arguments["WORDS"] or "",
        model=model.lower(),
        since=day and _midnight(day),
        until=day and _midnight(day + timedelta(days=1)),
        only=starred if arguments["--starred"] else None,
    )


def _midnight(day: date) -> float:
    return datetime.combine(day, clock_time()).timestamp()  # days are in local time


def _row(studio: Studio, purchase: Purchase, note: Mapping[str, Any]) -> GalleryRow:
    images = studio.records.images_of(purchase)
    return GalleryRow(
        id=purchase.id,
        prompt=" ".join(str(purchase.request["prompt"]).split()),
        model=str(purchase.request["model"]).rpartition("/")[2],
        size=str(purchase.request["size"]),
        price=format_amount(studio.records.cost_of(purchase), purchase.realm),
        made=time.strftime("%Y-%m-%d %H:%M", time.localtime(purchase.purchased_at)),
        thumbnails=[thumbnail(studio.files, image, _THUMBNAIL * 2) for image in images[:_MAX_THUMBNAILS]],
        starred=bool(note.get("star")),
    )


def _purchase_of(context: Context, studio: Studio, text: str) -> Purchase:
    """Return the purchase with the id `text`, or of the image `text` with its receipt."""
    from blockrun_magic.images.provenance import read
    from blockrun_magic.images.source import find_source

    is_id = len(text) >= _SHORTEST_ID and text not in context.namespace
    purchase = studio.records.find(text) if is_id else None
    if purchase is not None:
        return purchase
    source: Any = find_source(text, context.namespace)
    receipt = getattr(source, "receipt", None)
    if receipt is not None:
        purchase = studio.records.find(receipt.purchase_id)
    else:
        record = read(source) if isinstance(source, Path | bytes) or hasattr(source, "info") else None
        if record is not None:
            realm, digest, take = (record.get(name) for name in ("money", "request", "take"))
            purchase = studio.records.purchase(str(realm), str(digest), take if isinstance(take, int) else 1)
    if purchase is None:
        raise UsageError(
            f"{text} has no receipt of an image in the ledger.",
            "Give its id from `%blockrun history`: an image made with --private, or changed since, has no receipt.",
        )
    return purchase


HISTORY = Command(
    "history",
    "Show the images made in all sessions, newest first.",
    history,
    (
        Argument("WORDS", "text", "Only prompts and models that mention these words.", many=True),
        Argument("--model", "model", "Only images of this model.", "NAME"),
        Argument("--day", "day", "Only images of this day: today, yesterday or 2026-11-26.", "DAY"),
        Argument("--starred", "switch", "Only images with a star."),
        Argument("--page", "count", "The page; page 1 has the newest images.", "K"),
    ),
)
_IMAGE = Argument(
    "IMAGE|ID", "image", "The image: a variable, a path or an id from `%blockrun history`.", required=True
)
STAR = Command(
    "star",
    "Give an image a star, to find it again with `%blockrun history --starred`.",
    star,
    (_IMAGE, Argument("--off", "switch", "Remove the star.")),
)
REUSE = Command("reuse", "Write the cell that made an image as the next cell.", reuse, (_IMAGE,))
