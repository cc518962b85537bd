"""`%blockrun jobs`, `resume` and `resolve`: payments without an image yet."""

from __future__ import annotations

import time
from collections.abc import Sequence

from blockrun_magic.errors import BlockrunError, FlagError
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table, format_amount
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.money import format_usd, parse_usd

__all__ = ["jobs", "resolve", "resume"]


def jobs(context: Context, _words: Sequence[str]) -> Card:
    """Return what is paid or at risk and has no picture yet, after asking what became of it."""
    studio, gateway = context.session.studio_and_gateway()
    decided = context.session.run(studio.reconcile(gateway))
    rows = []
    for purchase in studio.ledger.open_purchases():
        payment = [p for p in studio.ledger.payments(purchase.id) if p.state is not State.RELEASED][-1]
        rows.append(_job_row(purchase, payment))
    said = [f"{decided} found settled or released just now."] if decided else []
    running = [repr(handle) for handle in context.session.backgrounds if not handle.done()]
    said += [f"In the background: {', '.join(running)}."] if running else []
    if not rows:
        return Message(" ".join(["Nothing is open: every payment has its picture or was released.", *said]))
    advice = "`%blockrun resume ID` collects one, `%blockrun resume` all of them."
    if any(p.prepaid and p.state is State.UNKNOWN for p in studio.ledger.open_payments()):
        advice += " What nobody can tell, you can: `%blockrun resolve ID --charged` or `--not-charged`."
    note = " ".join([advice, *said])
    header = ("id", "begun", "model", "prompt", "gateway", "amount", "state")
    return Table(header, rows, title="Open payments", note=note, left=5)


def _job_row(purchase: Purchase, payment: Payment) -> tuple[str, ...]:
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(purchase.purchased_at))
    prompt = " ".join(str(purchase.request["prompt"]).split())
    state = str(payment.state)
    if payment.state is State.SETTLED:
        state = f"paid, picture to be fetched{f' ({payment.note})' if payment.note else ''}"
    elif payment.note:
        state = f"{state}: {payment.note}"
    short = prompt if len(prompt) <= 40 else f"{prompt[:39]}…"
    model = str(purchase.request["model"])
    amount = f"about {format_usd(payment.amount)}" if payment.estimated else format_usd(payment.amount)
    return purchase.id, begun, model, short, purchase.gateway, amount, state[:90]


def resume(context: Context, words: Sequence[str]) -> Card:
    """Collect one open purchase, or all; show each picture, and return how it went."""
    from blockrun_magic.notebook.cells.run import resume_purchase

    _, gateway = context.session.studio_and_gateway()
    wanted = _wanted(context, words)
    lines = []
    for purchase in wanted:
        if purchase.realm != gateway.realm:
            lines.append(f"{purchase.id}: was begun with other money; `%blockrun use {purchase.gateway}` first.")
            continue
        try:
            result = resume_purchase(context, purchase)
        except BlockrunError as error:
            lines.append(f"{purchase.id}: {' '.join(error.lines)}")
        else:
            lines.append(f"{purchase.id}: collected, {format_amount(result.receipt.amount, purchase.realm)}.")
    return Message("\n".join(lines) or "Nothing is open: every payment has its picture or was released.")


def _wanted(context: Context, words: Sequence[str]) -> list[Purchase]:
    ledger = context.session.studio_and_gateway()[0].ledger
    if not words:
        return ledger.open_purchases()
    purchase = ledger.purchase_by_id(words[0])
    if purchase is None or len(words) > 1:
        raise FlagError(f"There is no open payment {' '.join(words)[:40]!r}.", "`%blockrun jobs` lists them.")
    return [purchase]


def resolve(context: Context, words: Sequence[str]) -> Card:
    """Book what the user knows of a payment that nobody else can tell of."""
    studio, _ = context.session.studio_and_gateway()
    name, charged, amount = _parse_arguments(words)
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


def _parse_arguments(words: Sequence[str]) -> tuple[str, bool, int | None]:
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
