"""Books that somebody else keeps: ClawRouter's log beside ours, and the user's word where nobody knows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.cards import Card, Message, Table
from blockrun_magic.notebook.context import Context
from blockrun_magic.payments.money import format_usd, parse_usd

if TYPE_CHECKING:
    from blockrun_magic.payments.ledger import Ledger
    from blockrun_magic.payments.usage_log import Comparison, Spent

__all__ = ["laid_side_by_side", "resolve"]

_DAY = 86_400


def laid_side_by_side(context: Context, when: str) -> Card:
    """Return where ClawRouter's log and our ledger differ, after it has decided what it can."""
    studio, gateway = context.session.ready()
    decided = context.session.run(studio.reconcile(gateway))
    found = studio.books.compare(_since(studio.ledger, when))
    rows = _rows(found)
    theirs = sum(entry.micros for _, entry in found.agreed) + sum(entry.micros for entry in found.only_theirs)
    ours = sum(spent.payment.amount for spent, _ in found.agreed) + sum(s.payment.amount for s in found.only_ours)
    note = (
        f"{len(found.agreed)} payments are in both books. Ours: {format_usd(ours)}, at risk included; ClawRouter's log:"
        f" {format_usd(theirs)}. Its log holds the price that it signed, and no requests that failed."
    )
    note += f" {decided} found settled or released just now." if decided else ""
    if not rows:
        return Message(f"No differences. {note}")
    header = ("when", "model", "difference", "ours", "ClawRouter's")
    return Table(header, rows, title="Where the books differ", note=note, left=3)


def _since(ledger: Ledger, when: str) -> float:
    now = ledger.clock()
    if when == "session":
        [row] = ledger.query("SELECT min(created_at) AS begun FROM authorizations WHERE session = ?", (ledger.session,))
        return float(row["begun"] or now)
    return now - now % _DAY if when == "today" else 0.0


def _rows(found: Comparison) -> list[tuple[str, str, str, str, str]]:
    rows = [
        (ours.payment.created_at, ours.model, "other amounts", _ours(ours), format_usd(theirs.micros))
        for ours, theirs in found.differing
    ]
    rows += [(s.payment.created_at, s.model, "not in its log", _ours(s), "-") for s in found.only_ours]
    rows += [(entry.at, entry.model, "not in ours", "-", format_usd(entry.micros)) for entry in found.only_theirs]
    return [
        (time.strftime("%Y-%m-%d %H:%M", time.localtime(at)), model, what, ours, theirs)
        for at, model, what, ours, theirs in sorted(rows)
    ]


def _ours(spent: Spent) -> str:
    payment = spent.payment
    return f"{format_usd(payment.amount)}{', estimated' if payment.estimated else ''}, {payment.state}"


def resolve(context: Context, words: Sequence[str]) -> Card:
    """Book what the user knows of a payment that nobody else can tell of."""
    studio, _ = context.session.ready()
    name, charged, amount = _said(words)
    purchase = studio.ledger.purchase_by_id(name)
    if purchase is None:
        raise FlagError(f"There is no purchase {name[:40]!r}.", "`%blockrun jobs` lists what is open.")
    booked = context.session.run(studio.books.resolve(purchase, charged=charged, amount=amount))
    if not booked:
        return Message(
            f"{purchase.id} has no payment that you could decide: what was signed here is decided by the chain;"
            " see `%blockrun jobs`."
        )
    total = format_usd(sum(payment.amount for payment in booked))
    after = "--fresh buys the picture anew." if charged else "Its cell buys the picture when it is run again."
    return Message(f"{purchase.id}: {total} booked as {'charged' if charged else 'not charged'}. {after}")


def _said(words: Sequence[str]) -> tuple[str, bool, int | None]:
    """Return the purchase's id, whether it was charged, and how much if that was said."""
    parts = " ".join(words).replace("=", " ").split()
    try:
        if len(parts) == 2 and parts[1] in ("--charged", "--not-charged"):
            return parts[0], parts[1] == "--charged", None
        if len(parts) == 3 and parts[1] == "--charged":
            return parts[0], True, parse_usd(parts[2])
    except ValueError as error:
        raise FlagError(f"--charged is followed by dollars: {error}.", "For example: --charged 0.0535.") from None
    raise FlagError(
        "`resolve` takes the id of a purchase and what became of it.",
        "For example: %blockrun resolve 3fa9 --charged, --charged 0.0535, or --not-charged.",
    )
