"""`%blockrun jobs`, `resume` and `resolve`: payments without an image yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from blockrun_magic.errors import BlockrunError, UsageError
from blockrun_magic.gateway.gateways import Payer
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table, format_amount, short
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.money import format_usd
from blockrun_magic.text import quoted

__all__ = ["JOBS", "RESOLVE", "RESUME", "jobs", "resolve", "resume"]


def jobs(context: Context, _arguments: Arguments) -> Card:
    """Return the payments without an image, after checking whether they were charged."""
    studio, gateway = context.session.studio_and_gateway()
    with suppress(BlockrunError):  # the classroom may answer later
        _adopt_orders(context)
    decided = context.session.run(studio.reconcile(gateway))
    rows = [_job_row(purchase, studio.records.payments_of(purchase)) for purchase in studio.records.resumable()]
    news = [f"{decided} settled or released just now."] if decided else []
    running = [repr(handle) for handle in context.session.backgrounds if not handle.done()]
    news += [f"In the background: {', '.join(running)}."] if running else []
    if not rows:
        return Message(" ".join(["No open payments.", *news]))
    advice = "`%blockrun resume ID` collects one, `%blockrun resume` all of them."
    if any(p.prepaid and p.state is State.UNKNOWN for p in studio.records.open_payments()):
        advice += " If you know the outcome, record it: `%blockrun resolve ID --charged` or `--not-charged`."
    note = " ".join([advice, *news])
    header = ("id", "begun", "model", "prompt", "gateway", "amount", "state")
    return Table(header, rows, title="Open payments", note=note, left=5)


def _adopt_orders(context: Context) -> None:
    """Add a classroom's orders that are missing in this ledger: those of a kernel whose disk was lost."""
    studio, gateway = context.session.studio_and_gateway()
    if gateway.paid_by is Payer.CLASSROOM:
        context.session.run(studio.reconciler.adopt_orders(gateway))


def _job_row(purchase: Purchase, payments: Sequence[Payment]) -> tuple[str, ...]:
    payment = next((p for p in reversed(payments) if p.state is not State.RELEASED), payments[-1])
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(purchase.purchased_at))
    state = str(payment.state)
    if purchase.finished_at is not None:
        missing = sum(bool(entry.get("missing")) for entry in purchase.answer or ())
        state = f"delivered, {missing} of {purchase.request['n']} missing"
    elif payment.state is State.SETTLED:
        state = f"paid, image to be fetched{f' ({payment.note})' if payment.note else ''}"
    elif payment.note:
        state = f"{state}: {payment.note}"
    prompt = short(str(purchase.request["prompt"]), 40)
    model = str(purchase.request["model"])
    amount = f"about {format_usd(payment.amount)}" if payment.estimated else format_usd(payment.amount)
    return purchase.id, begun, model, prompt, purchase.gateway, amount, state[:90]


def resume(context: Context, arguments: Arguments) -> Card:
    """Collect one open purchase, or all; show each image, and return a report."""
    from blockrun_magic.notebook.cells.run import resume_purchase

    _, gateway = context.session.studio_and_gateway()
    _adopt_orders(context)
    purchases = _wanted(context, arguments["ID"])
    lines = []
    for purchase in purchases:
        if purchase.realm != gateway.realm:
            lines.append(
                f"{purchase.id}: was started with another kind of money; `%blockrun use {purchase.gateway}` first."
            )
            continue
        try:
            result = resume_purchase(context, purchase)
        except BlockrunError as error:
            lines.append(f"{purchase.id}: {' '.join(error.lines)}")
        else:
            lines.append(f"{purchase.id}: collected, {format_amount(result.receipt.amount, purchase.realm)}.")
    return Message("\n".join(lines) or "No open payments.")


def _wanted(context: Context, name: str | None) -> list[Purchase]:
    records = context.session.studio_and_gateway()[0].records
    if name is None:
        return records.resumable()
    purchase = records.find(name)
    if purchase is None:
        raise UsageError(f"There is no open payment {quoted(name)}.", "`%blockrun jobs` lists them.")
    return [purchase]


def resolve(context: Context, arguments: Arguments) -> Card:
    """Record the user's answer about a payment whose outcome is unknown."""
    studio, _ = context.session.studio_and_gateway()
    name, charged, amount = _decision(arguments)
    purchase = studio.records.find(name)
    if purchase is None:
        raise UsageError(f"There is no purchase {quoted(name)}.", "`%blockrun jobs` lists open payments.")
    booked = context.session.run(studio.reconciler.resolve(purchase, charged=charged, amount=amount))
    if not booked:
        return Message(
            f"{purchase.id} has no payment to resolve: the chain decides payments that were signed here;"
            " see `%blockrun jobs`."
        )
    total = format_usd(sum(payment.amount for payment in booked))
    after = "--fresh buys the image again." if charged else "Its cell buys the image when it is run again."
    return Message(f"{purchase.id}: {total} booked as {'charged' if charged else 'not charged'}. {after}")


def _decision(arguments: Arguments) -> tuple[str, bool, int | None]:
    """Return the purchase's id, whether it was charged, and the amount if it was given."""
    charged = "--charged" in arguments
    if charged == bool(arguments["--not-charged"]):
        raise UsageError(
            "`resolve` needs to know whether the payment was charged.",
            "For example: `%blockrun resolve 3fa9 --charged 0.0535`, or `%blockrun resolve 3fa9 --not-charged`.",
        )
    return arguments["ID"], charged, arguments["--charged"] if charged and arguments["--charged"] != "" else None


JOBS = Command("jobs", "List payments without an image, after checking whether they were charged.", jobs)
RESUME = Command(
    "resume",
    "Download paid images that have not arrived; nothing is paid twice.",
    resume,
    (Argument("ID", "id", "The payment, as `%blockrun jobs` lists it; all of them otherwise."),),
)
RESOLVE = Command(
    "resolve",
    "Record whether a payment made by ClawRouter or an account was charged.",
    resolve,
    (
        Argument("ID", "id", "The id of the purchase.", required=True),
        Argument("--charged", "usd", "It was charged; give the amount if you know it.", "USD", optional=True),
        Argument("--not-charged", "switch", "It was not charged."),
    ),
)
