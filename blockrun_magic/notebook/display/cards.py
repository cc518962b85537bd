"""Cards, the objects of all our output: each has a text face and an escaped HTML face.

The HTML uses inline styles. Its text has the theme's color; bars and borders have literal colors that read on light
and dark, because the sanitizer of an untrusted notebook drops `currentColor`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.realm import Realm

__all__ = [
    "Bars",
    "Card",
    "CardGroup",
    "Message",
    "Preformatted",
    "Table",
    "bar",
    "format_amount",
    "short",
    "to_html",
    "with_code",
]

_CODE = re.compile(r"`([^`\n]{1,200})`")
_QUIET = "font-size:0.9em;opacity:0.8"
_BAR = "min-width:2px;height:12px;background:#5b8def;border-radius:2px"


@dataclass(frozen=True, slots=True)
class Card:
    """A text face and an HTML face of one output."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


class Message(Card):
    """A few lines of plain text."""

    def __init__(self, text: str) -> None:
        lines = "<br>".join(with_code(line) for line in text.splitlines())
        super().__init__(text, f'<div style="{_QUIET}">{lines}</div>')


class Preformatted(Card):
    """A text that keeps its spaces and line breaks."""

    def __init__(self, text: str) -> None:
        super().__init__(text, f'<pre style="margin:0">{to_html(text)}</pre>')


class Table(Card):
    """Rows under a header (none when all of it is empty), a title above and a note below.

    Columns after the first `left` align right.
    """

    def __init__(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        title: str = "",
        note: str = "",
        left: int = 1,
    ) -> None:
        super().__init__(_table_text(header, rows, title, note, left), _table_html(header, rows, title, note, left))


def _table_text(header: Sequence[str], rows: Sequence[Sequence[str]], title: str, note: str, left: int) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [title] if title else []
    head = (header, ["-" * width for width in widths]) if any(header) else ()
    for row in (*head, *rows):
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, *([note] if note else [])])


def _table_html(header: Sequence[str], rows: Sequence[Sequence[str]], title: str, note: str, left: int) -> str:
    def row_of(cells: Sequence[str], tag: str) -> str:
        styled = (
            f'<{tag} style="text-align:{"left" if column < left else "right"};padding:2px 12px 2px 0">'
            f"{to_html(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(styled)}</tr>"

    above = f"<div><b>{to_html(title)}</b></div>" if title else ""
    below = f'<div style="{_QUIET}">{with_code(note)}</div>' if note else ""
    body = "".join(row_of(cells, "td") for cells in rows)
    head = row_of(header, "th") if any(header) else ""
    return f"<div>{above}<table>{head}{body}</table>{below}</div>"


def to_html(text: str) -> str:
    """Return `text` as HTML; JupyterLab would read text between two dollars of one element as a formula."""
    return escape(text).replace("$", "<span>$</span>")


def with_code(text: str) -> str:
    """Return `text` as HTML, with text between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", to_html(text))


def format_amount(micros: int, realm: str) -> str:
    """Return an amount, with the kind of money if it is not real: "$0.04 play money"."""
    kinds: dict[str, str] = {Realm.PRACTICE: " play money", Realm.TESTNET: " test money"}
    kind = kinds.get(realm, "")
    return f"{format_usd(micros)}{kind}"


class Bars(Card):
    """A bar chart of amounts: each line has a label, a bar in proportion to the largest, and the amount.

    It uses inline styles only, which untrusted notebooks keep.
    """

    def __init__(self, title: str, amounts: Sequence[tuple[str, int]]) -> None:
        most = max((micros for _, micros in amounts), default=0) or 1
        width = max((len(label) for label, _ in amounts), default=0)
        text, rows = [title], []
        for label, micros in amounts:
            part, money = micros / most, format_usd(micros)
            text.append(f"{label.ljust(width)}  {'#' * max(1, round(part * 30))} {money}")
            rows.append(
                f'<tr><td style="text-align:left;padding:1px 12px 1px 0">{to_html(label)}</td>'
                f'<td style="width:260px;padding:1px 0"><div style="{_BAR};width:{part:.1%}"></div></td>'
                f'<td style="text-align:right;padding:1px 0 1px 12px">{to_html(money)}</td></tr>'
            )
        html = f'<div style="{_QUIET}">{to_html(title)}<table>{"".join(rows)}</table></div>'
        super().__init__("\n".join(text), html)


class CardGroup(Card):
    """Several cards, one below the other."""

    def __init__(self, *cards: Card) -> None:
        super().__init__("\n\n".join(card.text for card in cards), "".join(card.html for card in cards))


def bar(part: float, text: str) -> Card:
    """Return a progress bar filled to `part` (0 to 1), with `text` beside it."""
    filled = round(part * 20)
    html = (
        '<div style="display:inline-block;width:200px;height:10px;border:1px solid #8a8a8a;border-radius:5px;'
        f'margin-right:8px"><div style="width:{part:.0%};height:10px;background:#5b8def;'
        f'border-radius:5px"></div></div><span style="{_QUIET}">{to_html(text)}</span>'
    )
    return Card(f"[{'#' * filled}{'.' * (20 - filled)}] {text}", html)


def short(text: str, limit: int = 60) -> str:
    """Return `text` on one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
