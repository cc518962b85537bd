"""`%blockrun spend` and `%blockrun budget`: spend, limits and the comparison with ClawRouter's log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import UsageError
from blockrun_magic.gateway.gateways import Payer
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.config_file import ask_above, remember_ask_above
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Bars, Card, CardGroup, Message, Table
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, NO_CAPS
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.user_records import UserRecords
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from blockrun_magic.studio.clawrouter_log import Comparison, ProxyPayment

__all__ = ["BUDGET", "SPEND", "budget", "reconciliation_report", "spend"]

_PERIODS = {"session": "this session", "today": "today (UTC)", "all": "since the first payment"}
_MAX_BARS = 31
_CAPS = ("image", "session", "day")


def spend(context: Context, arguments: Arguments) -> Card:
    """Return the spend of a period, by model and over time.

    `--csv FILE` writes its payments to a file; `--reconcile` compares them with ClawRouter's own log.
    """
    reconcile, target = arguments["--reconcile"], arguments["--csv"]
    when = arguments["PERIOD"] or ("today" if reconcile else "session")
    if reconcile:
        return reconciliation_report(context, when)
    studio, gateway = context.session.studio_and_gateway()
    records, realm = studio.records, gateway.realm
    if target is not None:
        return _write_csv(records, realm, when, Path(target).expanduser())
    by_model = records.spending_by_model(realm, when)
    rows = [
        (model, str(count), format_usd(settled), format_usd(at_risk)) for model, count, settled, at_risk in by_model
    ]
    total = records.spending(realm, when)
    rows.append(("total", str(total.payments), format_usd(total.settled), format_usd(total.at_risk)))
    kind = {Realm.PRACTICE: "Play money", Realm.TESTNET: "Test money"}.get(realm, "Real USDC")
    others = [
        f"{words}: {format_usd(records.spending(realm, name).settled)}"
        for name, words in _PERIODS.items()
        if name != when
    ]
    if total.estimated:
        others.append(f"{format_usd(total.estimated)} of it is estimated: the answers named no price")
    header = ("model", "payments", "spent", "at risk")
    table = Table(header, rows, title=f"{kind} spent {_PERIODS[when]}", note=" · ".join(others))
    return CardGroup(table, *_charts(records, realm, when, by_model))


def _charts(
    records: UserRecords, realm: str, when: str, by_model: Sequence[tuple[str, int, int, int]]
) -> Iterator[Card]:
    """Yield bar charts: by model if there are several, and by day if there are several."""
    models = [(model, settled) for model, _, settled, _ in by_model if settled]
    if len(models) > 1:
        yield Bars("by model", models)
    days = [(time.strftime("%Y-%m-%d", time.gmtime(at)), micros) for at, micros in records.spending_by_day(realm, when)]
    if len(days) > 1:
        yield Bars("by day (UTC)", days[-_MAX_BARS:])


def _write_csv(records: UserRecords, realm: str, when: str, target: Path) -> Card:
    payments = records.payment_list(realm, when)
    try:
        with target.open("x", encoding="utf-8", newline="") as file:
            payments.to_csv(file)
    except FileExistsError:
        raise UsageError(f"{target} exists already.", "Nothing was overwritten. Choose another name.") from None
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}.", "Choose another folder.") from error
    return Message(f"{target}: {len(payments)} payments, {_PERIODS[when]}.")


def budget(context: Context, arguments: Arguments) -> Card:
    """Return the limits, after changing those that are given."""
    studio, gateway = context.session.studio_and_gateway()
    records, in_class = studio.records, gateway.paid_by is Payer.CLASSROOM
    defaults = NO_CAPS if in_class else DEFAULT_CAPS
    changes = {name: arguments[f"--{name}"] for name in _CAPS if f"--{name}" in arguments}
    if changes:
        records.set_limits(**changes)
    caps = records.limits(defaults)
    if "--ask" in arguments:
        remember_ask_above(blockrun_home(), arguments["--ask"])
    ask = ask_above(blockrun_home())
    unset = {name for name in _CAPS if getattr(caps, name) == getattr(NO_CAPS, name)}
    rows = [(name, "not set" if name in unset else format_usd(getattr(caps, name))) for name in _CAPS]
    rows.append(("a cell asks above", "never" if ask is None else format_usd(ask)))
    note = "Shared by all kernels; a day is a UTC day."
    note += " The limits of your class also apply: `%blockrun` shows them." if in_class else ""
    return Table(("limit", "dollars"), rows, title="Never more than", note=note)


def reconciliation_report(context: Context, when: str) -> Card:
    """Return the differences between ClawRouter's log and our ledger, after settling payments that the log decides."""
    studio, gateway = context.session.studio_and_gateway()
    decided = context.session.run(studio.reconcile(gateway))
    comparison = studio.reconciler.compare(studio.records.start_of(when))
    rows = _rows(comparison)
    log_total = sum(entry.micros for _, entry in comparison.agreed) + sum(
        entry.micros for entry in comparison.only_theirs
    )
    ledger_total = sum(spent.payment.amount for spent, _ in comparison.agreed) + sum(
        s.payment.amount for s in comparison.only_ours
    )
    note = (
        f"{len(comparison.agreed)} payments are in both books. Ours: {format_usd(ledger_total)}, at risk included; "
        f"ClawRouter's log: {format_usd(log_total)}. Its log has the prices that it signed, but no failed requests."
    )
    note += f" {decided} settled or released just now." if decided else ""
    if not rows:
        return Message(f"No differences. {note}")
    header = ("when", "model", "difference", "ours", "ClawRouter's")
    return Table(header, rows, title="Where the books differ", note=note, left=3)


def _rows(comparison: Comparison) -> list[tuple[str, str, str, str, str]]:
    rows = [
        (payment.payment.created_at, payment.model, "other amounts", _ours(payment), format_usd(log_entry.micros))
        for payment, log_entry in comparison.differing
    ]
    rows += [(s.payment.created_at, s.model, "not in its log", _ours(s), "-") for s in comparison.only_ours]
    rows += [(entry.at, entry.model, "not in ours", "-", format_usd(entry.micros)) for entry in comparison.only_theirs]
    return [
        (time.strftime("%Y-%m-%d %H:%M", time.localtime(at)), model, difference, payment, log_entry)
        for at, model, difference, payment, log_entry in sorted(rows)
    ]


def _ours(spent: ProxyPayment) -> str:
    payment = spent.payment
    return f"{format_usd(payment.amount)}{', estimated' if payment.estimated else ''}, {payment.state}"


SPEND = Command(
    "spend",
    "Show the spend by model and over time.",
    spend,
    (
        Argument("PERIOD", "text", "The period.", choices=tuple(_PERIODS)),
        Argument("--csv", "path", "Write every payment to a new CSV file.", "FILE"),
        Argument("--reconcile", "switch", "Compare our ledger with ClawRouter's log."),
    ),
)
BUDGET = Command(
    "budget",
    "Show or change the limits.",
    budget,
    (
        Argument("--image", "usd", "At most this much for one image.", "USD"),
        Argument("--session", "usd", "At most this much in one session.", "USD"),
        Argument("--day", "usd", "At most this much in one UTC day.", "USD"),
        Argument("--ask", "threshold", "A cell that costs more asks first; never turns that off.", "USD"),
    ),
)
