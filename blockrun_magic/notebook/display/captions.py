"""Captions of results, and cards of prices."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from blockrun_magic.errors import (
    BudgetError,
    ContentPolicyViolation,
    RequestError,
    RequestRejected,
    SourceError,
    TermsRefused,
    WalletError,
)
from blockrun_magic.notebook.display.cards import _QUIET, Card, Message, Table, format_amount, short, to_html
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.realm import Realm
from blockrun_magic.studio.results.batch import ImageResults
from blockrun_magic.studio.results.result import ImageResult, Quote

if TYPE_CHECKING:
    from blockrun_magic.gateway.request import ImageRequest

__all__ = ["caption_of", "quotes_card", "results_card"]


_MAX_TABLE = 100
_MAX_WORDS = 5
_FINAL = (ContentPolicyViolation, RequestRejected, RequestError, SourceError, BudgetError, WalletError, TermsRefused)
"""Errors that the same request would raise again."""


_BADGE = "border:1px solid #8a8a8a;border-radius:3px;padding:0 4px;font-size:0.85em"


def caption_of(result: ImageResult, saved: Sequence[str] = (), note: str = "") -> Card:
    """Return the line under an image: model, size, price, seconds, and remarks."""
    receipt, request = result.receipt, result.request
    facts = [str(request["model"]), describe_size(result)]
    if request["quality"]:
        facts.append(str(request["quality"]))
    if receipt.take > 1:
        facts.append(f"take {receipt.take}")
    if receipt.lesson is not None:
        facts.append(f"$0.00: from the lesson {receipt.lesson}")
    elif receipt.cached:
        bought = time.strftime("%Y-%m-%d %H:%M", time.localtime(receipt.purchased_at))
        facts.append(f"$0.00: bought {bought} for {format_amount(receipt.amount, receipt.realm)}")
    else:
        paid = format_amount(receipt.amount, receipt.realm)
        doubt = " (estimated)" if receipt.estimated else ""
        facts.append(f"{paid}{doubt}" if receipt.settled else f"{paid} (not confirmed yet)")
        facts.append(f"{result.seconds:.1f} s")
    revised = list(dict.fromkeys(image.revised_prompt for image in result.stored if image.revised_prompt))
    lines = [" · ".join(facts)]
    lines += result.notes
    lines += [f"The model read: {text}" for text in revised]
    lines += [f"Saved to {path}" for path in saved]
    lines += [note] if note else []
    lines += _practice_note(receipt.realm, result.prompt)
    badge = f' <span style="{_BADGE}">PRACTICE</span>' if receipt.realm == Realm.PRACTICE else ""
    first, *others = (to_html(line) for line in lines)
    html = "<br>".join([f"{first}{badge}", *others])
    return Card("\n".join(lines), f'<div style="{_QUIET}">{html}</div>')


def _practice_note(realm: str, prompt: str) -> list[str]:
    """Return a line about words that practice does not draw: a user could think that a model ignored them."""
    if realm != Realm.PRACTICE:
        return []
    from blockrun_magic.practice.painter.scenes import undrawn_words

    words = undrawn_words(prompt)
    if not words:
        return []
    more = f" and {len(words) - _MAX_WORDS} more words" if len(words) > _MAX_WORDS else ""
    return [f"Practice does not know how to draw: {', '.join(words[:_MAX_WORDS])}{more}. A real model can."]


def describe_size(result: ImageResult) -> str:
    sizes = list(dict.fromkeys(f"{image.width}x{image.height}" for image in result.stored))
    count = len(result.stored)
    return (f"{count} x " if count > 1 else "") + ", ".join(sizes)


def quotes_card(requests: Sequence[ImageRequest], quotes: Sequence[Quote]) -> Card:
    """Return a card with the price of requests: a sentence for one, a table for several."""
    if len(requests) == 1:
        return _quote_card(requests[0], quotes[0])
    realm = quotes[0].realm
    rows = [
        (
            request.model,
            request.size,
            short(request.prompt),
            "$0.00, stored" if quote.cached else format_usd(quote.total),
        )
        for request, quote in zip(requests, quotes, strict=True)
    ]
    total = sum(quote.total for quote in quotes if not quote.cached)
    guess = ", estimated," if any(quote.estimated for quote in quotes) else ""
    note = f"{len(rows)} requests, {format_amount(total, realm)}{guess} at {quotes[0].gateway}. Nothing was signed."
    return Table(("model", "size", "prompt", "price"), rows, note=note, left=3)


def _quote_card(request: ImageRequest, quote: Quote) -> Card:
    each = "" if quote.n == 1 else f" ({quote.n} x {format_usd(quote.total // quote.n)})"
    price = f"{format_amount(quote.total, quote.realm)}{', estimated,' if quote.estimated else ''}"
    lines = [f"{request.model} · {request.size} · {price}{each} at {quote.gateway}"]
    if quote.list_price is not None and quote.list_price != quote.total:
        lines.append(f"The list price is {format_usd(quote.list_price)}.")
    if quote.cached:
        lines.append("This image is already stored: running the cell costs $0.00.")
    lines.append("Nothing was signed.")
    return Message("\n".join(lines))


def results_card(results: ImageResults, note: str = "") -> Card:
    """Return the card below the images of a batch: a sentence in HTML; as text, a row for each request."""
    rows = [
        [
            str(number),
            str(result.request["model"]),
            str(result.request["size"]),
            short(result.prompt),
            _cost_words(result),
            f"{result.seconds:.1f}",
            "",
        ]
        for number, result in enumerate(results)
    ]
    for failure in results.failures:
        request = failure.request
        reason = short(failure.error.message, 90)
        row = ["", str(request["model"]), str(request["size"]), short(request["prompt"]), "", "", reason]
        rows.insert(failure.index, row)
    summary = "\n".join([_summary(results, len(rows), note), *(line for result in results for line in result.notes)])
    header = ("", "model", "size", "prompt", "price", "seconds", "why it failed")
    columns = [column for column in range(len(header)) if column == 0 or any(row[column] for row in rows)]
    table = Table(
        [header[column] for column in columns],
        [[row[column] for column in columns] for row in rows[:_MAX_TABLE]],
        note=summary,
        left=4,
    )
    return Card(table.text, Message(summary).html)


def _summary(results: ImageResults, count: int, note: str) -> str:
    """Return a sentence about the images made, their cost, and what to do about failures."""
    realm = results[0].receipt.realm
    cost = format_amount(results.cost_micros, realm)
    sentences = [f"{len(results)} of {count} made for {cost}."]
    failed = len(results.failures)
    again = sum(not isinstance(failure.error, _FINAL) for failure in results.failures)
    if failed == again and failed:
        sentences.append(f"{failed} failed; run the cell again for {'it' if failed == 1 else 'them'}.")
    elif failed and again:
        sentences.append(f"{failed} failed; run the cell again for {again} of them, and change the other requests.")
    elif failed:
        sentences.append(f"{failed} failed, and would fail again: change {'its request' if failed == 1 else 'them'}.")
    drawn = _practice_note(realm, " ".join(result.prompt for result in results))
    return " ".join([*sentences, *drawn, note]).strip()


def _cost_words(result: ImageResult) -> str:
    if result.receipt.cached:
        return "stored, $0.00"
    return f"{format_usd(result.receipt.amount)}{', estimated' if result.receipt.estimated else ''}"
