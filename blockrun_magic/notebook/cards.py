"""Every output of ours: one object with a text face and an escaped HTML face.

The HTML uses inline styles and inherits the theme's colours, so that it reads in light and dark,
and survives the sanitising of an untrusted notebook.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from blockrun_magic.payments.money import format_usd
from blockrun_magic.studio.result import ImageResult, Quote
from blockrun_magic.studio.results import ImageResults

if TYPE_CHECKING:
    from blockrun_magic.gateway.request import ImageRequest

__all__ = [
    "Bars",
    "Card",
    "Message",
    "Stack",
    "Table",
    "bar",
    "caption_of",
    "html_words",
    "money_words",
    "quotes_card",
    "results_card",
    "short",
]

_QUIET = "font-size:0.9em;opacity:0.8"
_LONGEST_TABLE = 100
_BAR = "min-width:2px;height:12px;background:currentColor;opacity:0.5;border-radius:2px"
_BADGE = "border:1px solid currentColor;border-radius:3px;padding:0 4px;font-size:0.85em"


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
    """A few lines of plain words."""

    def __init__(self, text: str) -> None:
        lines = "<br>".join(html_words(line) for line in text.splitlines())
        super().__init__(text, f'<div style="{_QUIET}">{lines}</div>')


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
            f"{html_words(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(styled)}</tr>"

    above = f"<div><b>{html_words(title)}</b></div>" if title else ""
    below = f'<div style="{_QUIET}">{html_words(note)}</div>' if note else ""
    body = "".join(row_of(cells, "td") for cells in rows)
    head = row_of(header, "th") if any(header) else ""
    return f"<div>{above}<table>{head}{body}</table>{below}</div>"


def html_words(text: str) -> str:
    """Return `text` as HTML; JupyterLab would read what stands between two dollars of one element as a formula."""
    return escape(text).replace("$", "<span>$</span>")


def money_words(micros: int, realm: str) -> str:
    """Return an amount with the kind of its money, where that is not real: "$0.04 play money"."""
    kind = {"practice": " play money", "testnet": " test money"}.get(realm, "")
    return f"{format_usd(micros)}{kind}"


def caption_of(result: ImageResult, saved: Sequence[str] = (), note: str = "") -> Card:
    """Return the line under a picture: model, size, price, seconds, and what else is worth knowing."""
    receipt, request = result.receipt, result.request
    facts = [str(request["model"]), _size_words(result)]
    if request["quality"]:
        facts.append(str(request["quality"]))
    if receipt.take > 1:
        facts.append(f"take {receipt.take}")
    if receipt.lesson is not None:
        facts.append(f"$0.00: from the lesson {receipt.lesson}")
    elif receipt.from_store:
        bought = time.strftime("%Y-%m-%d %H:%M", time.localtime(receipt.bought_at))
        facts.append(f"$0.00: bought {bought} for {money_words(receipt.amount, receipt.realm)}")
    else:
        paid = money_words(receipt.amount, receipt.realm)
        doubt = " (estimated)" if receipt.estimated else ""
        facts.append(f"{paid}{doubt}" if receipt.settled else f"{paid} (not confirmed yet)")
        facts.append(f"{result.seconds:.1f} s")
    revised = list(dict.fromkeys(kept.revised_prompt for kept in result.pictures if kept.revised_prompt))
    lines = [" · ".join(facts)]
    if len(result.pictures) < request["n"]:
        lines.append(f"Only {len(result.pictures)} of the {request['n']} pictures asked and paid for came.")
    lines += [f"The model read: {text}" for text in revised]
    lines += [f"Saved to {path}" for path in saved]
    lines += [note] if note else []
    badge = f' <span style="{_BADGE}">PRACTICE</span>' if receipt.realm == "practice" else ""
    first, *others = (html_words(line) for line in lines)
    html = "<br>".join([f"{first}{badge}", *others])
    return Card("\n".join(lines), f'<div style="{_QUIET}">{html}</div>')


def _size_words(result: ImageResult) -> str:
    sizes = list(dict.fromkeys(f"{kept.width}x{kept.height}" for kept in result.pictures))
    count = len(result.pictures)
    return (f"{count} x " if count > 1 else "") + ", ".join(sizes)


def quotes_card(requests: Sequence[ImageRequest], quotes: Sequence[Quote]) -> Card:
    """Return what requests would cost, in words for one and in a table for several."""
    if len(requests) == 1:
        return _quote_card(requests[0], quotes[0])
    realm = quotes[0].realm
    rows = [
        (request.model, request.size, short(request.prompt), "$0.00, kept" if quote.kept else format_usd(quote.total))
        for request, quote in zip(requests, quotes, strict=True)
    ]
    total = sum(quote.total for quote in quotes if not quote.kept)
    guess = ", estimated," if any(quote.estimated for quote in quotes) else ""
    note = f"{len(rows)} requests, {money_words(total, realm)}{guess} at {quotes[0].gateway}. Nothing was signed."
    return Table(("model", "size", "prompt", "price"), rows, note=note, left=3)


def _quote_card(request: ImageRequest, quote: Quote) -> Card:
    each = "" if quote.n == 1 else f" ({quote.n} x {format_usd(quote.total // quote.n)})"
    price = f"{money_words(quote.total, quote.realm)}{', estimated,' if quote.estimated else ''}"
    lines = [f"{request.model} · {request.size} · {price}{each} at {quote.gateway}"]
    if quote.list_price is not None and quote.list_price != quote.total:
        lines.append(f"The list price is {format_usd(quote.list_price)}.")
    if quote.kept:
        lines.append("This picture is kept already: running the cell costs $0.00.")
    lines.append("Nothing was signed.")
    return Message("\n".join(lines))


def results_card(results: ImageResults) -> Card:
    """Return the table under a batch: each request's model, size, prompt, price and seconds, or why it failed."""
    rows = [
        (
            str(result.request["model"]),
            str(result.request["size"]),
            short(result.prompt),
            _cost_words(result),
            f"{result.seconds:.1f}",
        )
        for result in results
    ]
    for failure in results.failures:
        asked = failure.request
        row = (str(asked["model"]), str(asked["size"]), short(asked["prompt"]), f"failed: {failure.error.what}", "")
        rows.insert(failure.index, row)
    realm = results[0].receipt.realm
    failed = f" {len(results.failures)} failed; run the cell again for them." if results.failures else ""
    note = f"{len(results)} of {len(rows)} made for {money_words(results.cost_micros, realm)}.{failed}"
    header = ("model", "size", "prompt", "price", "seconds")
    return Table(header, rows[:_LONGEST_TABLE], note=note, left=3)


def _cost_words(result: ImageResult) -> str:
    if result.receipt.from_store:
        return "kept, $0.00"
    return f"{format_usd(result.receipt.amount)}{', estimated' if result.receipt.estimated else ''}"


class Bars(Card):
    """Amounts as bars, a line each: a label, a bar in proportion to the largest, the amount.

    Inline styles only, so that it survives in a notebook that is not trusted.
    """

    def __init__(self, title: str, amounts: Sequence[tuple[str, int]]) -> None:
        most = max((micros for _, micros in amounts), default=0) or 1
        width = max((len(label) for label, _ in amounts), default=0)
        text, rows = [title], []
        for label, micros in amounts:
            part, money = micros / most, format_usd(micros)
            text.append(f"{label.ljust(width)}  {'#' * max(1, round(part * 30))} {money}")
            rows.append(
                f'<tr><td style="text-align:left;padding:1px 12px 1px 0">{html_words(label)}</td>'
                f'<td style="width:260px;padding:1px 0"><div style="{_BAR};width:{part:.1%}"></div></td>'
                f'<td style="text-align:right;padding:1px 0 1px 12px">{html_words(money)}</td></tr>'
            )
        html = f'<div style="{_QUIET}">{html_words(title)}<table>{"".join(rows)}</table></div>'
        super().__init__("\n".join(text), html)


class Stack(Card):
    """Several cards, one below the other."""

    def __init__(self, *cards: Card) -> None:
        super().__init__("\n\n".join(card.text for card in cards), "".join(card.html for card in cards))


def bar(part: float, text: str) -> Card:
    """Return a progress bar filled to `part` (0 to 1), with words beside it."""
    filled = round(part * 20)
    html = (
        '<div style="display:inline-block;width:200px;height:10px;border:1px solid currentColor;border-radius:5px;'
        f'margin-right:8px;opacity:0.7"><div style="width:{part:.0%};height:10px;background:currentColor;'
        f'border-radius:5px"></div></div><span style="{_QUIET}">{html_words(text)}</span>'
    )
    return Card(f"[{'#' * filled}{'.' * (20 - filled)}] {text}", html)


def short(text: str, limit: int = 60) -> str:
    """Return `text` on one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
