"""What was made before: a gallery of it, the cell that made a picture, and the styles to choose from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import UsageError
from blockrun_magic.notebook.cells.rerun import cell_of
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table, format_amount, to_html
from blockrun_magic.notebook.display.thumbnails import thumbnail

if TYPE_CHECKING:
    from blockrun_magic.payments.ledger.records import Purchase
    from blockrun_magic.studio import Studio

__all__ = ["HISTORY", "REUSE", "history", "reuse"]

_PAGE = 20
_THUMBNAIL = 96


def history(context: Context, arguments: Arguments) -> Card:
    """Return what was made, newest first, with thumbnails; words search prompts and models."""
    studio, gateway = context.session.studio_and_gateway()
    page, wanted = arguments["--page"] or 1, arguments["WORDS"] or ""
    found = studio.ledger.search_finished(gateway.realm, wanted, _PAGE + 1, (page - 1) * _PAGE)
    more = f"More: %blockrun history {wanted} --page {page + 1}".replace("  ", " ") if len(found) > _PAGE else ""
    if not found:
        return Message("Nothing was made here yet." if not wanted else f"Nothing made here mentions {wanted!r}.")
    entries = [(purchase, _facts(studio, purchase)) for purchase in found[:_PAGE]]
    rows = [(purchase.id, *facts) for purchase, facts in entries]
    text = Table(("id", "made", "model", "prompt", "price"), rows, note=more, left=4).text
    pictures = "".join(_figure(studio, purchase, facts) for purchase, facts in entries)
    html = f'<div style="display:flex;flex-wrap:wrap;gap:8px">{pictures}</div><div>{escape(more)}</div>'
    return Card(text, html)


def reuse(context: Context, arguments: Arguments) -> Card:
    """Write the cell that made an image as the next input, and return its text."""
    studio = context.session.studio_and_gateway()[0]
    text, note = cell_of(studio, _purchase_of(context, studio, arguments["IMAGE|ID"]))
    context.shell.set_next_input(text)
    return Message(f"{text}\n{note}".strip())


def _facts(studio: Studio, purchase: Purchase) -> tuple[str, str, str, str]:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(purchase.purchased_at))
    prompt = " ".join(str(purchase.request["prompt"]).split())
    paid = studio.ledger.amount_paid(purchase.id)
    model = str(purchase.request["model"]).rpartition("/")[2]
    return made, model, prompt if len(prompt) <= 60 else f"{prompt[:59]}…", format_amount(paid, purchase.realm)


def _figure(studio: Studio, purchase: Purchase, facts: Sequence[str]) -> str:
    made, model, prompt, price = facts
    picture = thumbnail(studio.store, studio.ledger.images(purchase.id)[0], _THUMBNAIL)
    alt = escape(prompt)
    image = f'<img src="{picture}" alt="{alt}" title="{alt}">' if picture else "<div>-</div>"
    words = "<br>".join(map(to_html, (purchase.id, made, model, price)))
    return f'<div style="width:{_THUMBNAIL + 24}px;font-size:0.8em">{image}<br>{words}</div>'


def _purchase_of(context: Context, studio: Studio, text: str) -> Purchase:
    """Return the purchase that `text` means: its id, or the picture that carries its receipt."""
    from blockrun_magic.images.provenance import read
    from blockrun_magic.images.source import find_source

    purchase = studio.ledger.purchase_by_id(text) if text not in context.namespace else None
    if purchase is not None:
        return purchase
    source: Any = find_source(text, context.namespace)
    receipt = getattr(source, "receipt", None)
    if receipt is not None:
        purchase = studio.ledger.purchase_by_id(receipt.purchase_id)
    else:
        record = read(source) if isinstance(source, Path | bytes) or hasattr(source, "info") else None
        if record is not None:
            realm, digest, take = (record.get(name) for name in ("money", "request", "take"))
            purchase = studio.ledger.purchase(str(realm), str(digest), take if isinstance(take, int) else 1)
    if purchase is None:
        raise UsageError(
            f"The ledger does not know how {text[:60]} was made.", "`%blockrun history` lists what it knows."
        )
    return purchase


HISTORY = Command(
    "history",
    "List the images made here, newest first.",
    history,
    (
        Argument("WORDS", "text", "Only prompts and models that mention these words.", many=True),
        Argument("--page", "count", "An older page.", "K"),
    ),
)
REUSE = Command(
    "reuse",
    "Write the cell that made an image as the next cell.",
    reuse,
    (Argument("IMAGE|ID", "image", "The image: a variable, a path or an id from `%blockrun history`.", required=True),),
)
