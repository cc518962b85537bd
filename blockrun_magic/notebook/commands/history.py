"""What was made before: a gallery of it, the cell that made a picture, and the styles to choose from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.cells.rerun import cell_of
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table, format_amount, to_html
from blockrun_magic.notebook.display.thumbnails import thumbnail

if TYPE_CHECKING:
    from blockrun_magic.payments.ledger.records import Purchase
    from blockrun_magic.studio import Studio

__all__ = ["history", "reuse"]

_PAGE = 20
_THUMBNAIL = 96


def history(context: Context, words: Sequence[str]) -> Card:
    """Return what was made, newest first, with thumbnails; words search prompts and models."""
    studio, gateway = context.session.studio_and_gateway()
    page, wanted = _page_and_words(words)
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


def reuse(context: Context, words: Sequence[str]) -> Card:
    """Write the cell that made a picture as the next input, and return its text."""
    if len(words) != 1:
        raise FlagError("`reuse` takes one picture.", "For example: %blockrun reuse img, or an id from history.")
    studio = context.session.studio_and_gateway()[0]
    text, note = cell_of(studio, _purchase_of(context, studio, words[0]))
    context.shell.set_next_input(text)
    return Message(f"{text}\n{note}".strip())


def _page_and_words(words: Sequence[str]) -> tuple[int, str]:
    if "--page" not in words:
        return 1, " ".join(words)
    at = list(words).index("--page")
    number = words[at + 1] if at + 1 < len(words) else ""
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise FlagError("--page needs a number from 1.", "For example: %blockrun history --page 2.")
    return int(number), " ".join([*words[:at], *words[at + 2 :]])


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

    purchase = studio.ledger.purchase_by_id(text) if text not in context.shell.user_ns else None
    if purchase is not None:
        return purchase
    source: Any = find_source(text, context.shell.user_ns)
    receipt = getattr(source, "receipt", None)
    if receipt is not None:
        purchase = studio.ledger.purchase_by_id(receipt.purchase_id)
    else:
        record = read(source) if isinstance(source, Path | bytes) or hasattr(source, "info") else None
        if record is not None:
            realm, digest, take = (record.get(name) for name in ("money", "request", "take"))
            purchase = studio.ledger.purchase(str(realm), str(digest), take if isinstance(take, int) else 1)
    if purchase is None:
        raise FlagError(
            f"The ledger does not know how {text[:60]} was made.", "`%blockrun history` lists what it knows."
        )
    return purchase
