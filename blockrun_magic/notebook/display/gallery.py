"""The gallery of `%blockrun history`: a row for each request, with its thumbnails, prompt and price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from blockrun_magic.notebook.display.cards import Card, Table, short, to_html

__all__ = ["GalleryRow", "gallery_card"]

_SIDE = 88
_ROW = "display:flex;gap:12px;align-items:flex-start;padding:8px 0;border-bottom:1px solid #8a8a8a"
_IMAGES = f"display:flex;flex-wrap:wrap;gap:4px;width:{2 * _SIDE + 4}px;flex:none"
_TEXT = "text-align:left;font-size:0.9em;line-height:1.4;overflow-wrap:anywhere"
_STAR = "color:#c98a00"


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """One request: its id, prompt, facts and thumbnails (data URIs, None for an image that is no longer stored)."""

    id: str
    prompt: str
    model: str
    size: str
    price: str
    made: str
    thumbnails: Sequence[str | None]
    starred: bool = False


def gallery_card(rows: Sequence[GalleryRow], note: str) -> Card:
    """Return the rows as a gallery, and as a table of text."""
    header = ("id", "made", "", "model", "images", "prompt", "price")
    cells = [
        (
            row.id,
            row.made,
            "*" if row.starred else "",
            row.model,
            str(len(row.thumbnails)),
            short(row.prompt),
            row.price,
        )
        for row in rows
    ]
    text = Table(header, cells, note=note, left=6).text
    below = f'<div style="{_TEXT};padding-top:6px">{to_html(note)}</div>' if note else ""
    return Card(text, f"<div>{''.join(_row_html(row) for row in rows)}{below}</div>")


def _row_html(row: GalleryRow) -> str:
    images = "".join(_thumbnail(uri, row.prompt) for uri in row.thumbnails)
    star = f'<span style="{_STAR}">\u2605</span> ' if row.starred else ""
    facts = " \u00b7 ".join(map(to_html, (row.model, row.size, row.price, row.made)))
    reuse = f"<code>%blockrun reuse {escape(row.id)}</code>"
    words = (
        f'<div style="{_TEXT}"><div>{star}{to_html(short(row.prompt, 300))}</div>'
        f'<div style="opacity:0.75">{facts}<br>{reuse}</div></div>'
    )
    return f'<div style="{_ROW}"><div style="{_IMAGES}">{images}</div>{words}</div>'


def _thumbnail(uri: str | None, prompt: str) -> str:
    if uri is None:
        return f'<div style="width:{_SIDE}px;{_TEXT};opacity:0.75">no longer stored</div>'
    text = escape(short(prompt), quote=True).replace("$", "&#36;")
    return f'<img src="{uri}" alt="{text}" title="{text}" style="max-width:{_SIDE}px;max-height:{_SIDE}px">'
