"""What was spent, what may be, and what is still open."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Bars, Card, CardGroup, Message, Table
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.money import format_usd, parse_usd

if TYPE_CHECKING:
    from blockrun_magic.payments.ledger.clawrouter_log import Comparison, ProxyPayment

__all__ = ["budget", "reconciliation_report", "spend"]

_PERIODS = {"session": "this session", "today": "today (UTC)", "all": "since the beginning"}
_RECONCILE = "--reconcile"
_CSV = "--csv"
_MAX_BARS = 31
_STEPS = {
    60: ("minute", "%H:%M"),
    600: ("ten minutes", "%H:%M"),
    3600: ("hour", "%Y-%m-%d %H:00"),
    86_400: ("day", "%Y-%m-%d"),
}
_CAPS = ("image", "session", "day")


def spend(context: Context, words: Sequence[str]) -> Card:
    """Return what was spent in a period, by model and over time.

    `--csv FILE` writes every payment of it into a file, `--reconcile` lays ClawRouter's own log beside it.
    """
    from blockrun_magic.payments.ledger.reports import spending_by_model, spending_summary

    reconcile = _RECONCILE in words
    words, target = _without_csv([word for word in words if word != _RECONCILE])
    when = words[0] if words else "today" if reconcile else "session"
    if when not in _PERIODS or len(words) > 1:
        raise FlagError(f"`spend` knows no period {' '.join(words)[:40]!r}.", f"Use one of {', '.join(_PERIODS)}.")
    if reconcile:
        return reconciliation_report(context, when)
    studio, gateway = context.session.studio_and_gateway()
    ledger, realm = studio.ledger, gateway.realm
    if target is not None:
        return _write_csv(ledger, realm, when, target)
    by_model = spending_by_model(ledger, realm, when)
    rows = [
        (model, str(count), format_usd(settled), format_usd(at_risk)) for model, count, settled, at_risk in by_model
    ]
    total = spending_summary(ledger, realm, when)
    rows.append(("total", str(total.payments), format_usd(total.settled), format_usd(total.at_risk)))
    kind = {"practice": "Play money", "testnet": "Test money"}.get(realm, "Real USDC")
    others = [
        f"{words}: {format_usd(spending_summary(ledger, realm, name).settled)}"
        for name, words in _PERIODS.items()
        if name != when
    ]
    if total.estimated:
        others.append(f"{format_usd(total.estimated)} of it is estimated: no answer named the price")
    header = ("model", "payments", "spent", "at risk")
    table = Table(header, rows, title=f"{kind} spent {_PERIODS[when]}", note=" · ".join(others))
    return CardGroup(table, *_drawn(ledger, realm, when, by_model))


def _drawn(ledger: Ledger, realm: str, when: str, by_model: Sequence[tuple[str, int, int, int]]) -> Iterator[Card]:
    """Yield what tells more as a drawing: the models where there are several, and its course over time likewise."""
    from blockrun_magic.payments.ledger.reports import spending_over_time

    models = [(model, settled) for model, _, settled, _ in by_model if settled]
    if len(models) > 1:
        yield Bars("by model", models)
    step, spent = spending_over_time(ledger, realm, when)
    words, form = _STEPS[step]
    if len(spent) > 1:
        times = [(time.strftime(form, time.gmtime(at)), micros) for at, micros in spent]
        yield Bars(f"by {words} (UTC)", times[-_MAX_BARS:])


def _without_csv(words: Sequence[str]) -> tuple[list[str], Path | None]:
    rest = list(words)
    if _CSV not in rest:
        return rest, None
    at = rest.index(_CSV)
    if at + 1 >= len(rest):
        raise FlagError(f"{_CSV} needs the name of a file.", f"For example: %blockrun spend all {_CSV} spend.csv.")
    return rest[:at] + rest[at + 2 :], Path(rest[at + 1]).expanduser()


def _write_csv(ledger: Ledger, realm: str, when: str, target: Path) -> Card:
    from blockrun_magic.payments.ledger.reports import list_payments

    found = list_payments(ledger, realm, when)
    try:
        with target.open("x", encoding="utf-8", newline="") as file:
            found.to_csv(file)
    except FileExistsError:
        raise FlagError(f"{target} exists already.", "Nothing was written over. Choose another name.") from None
    except OSError as error:
        raise FlagError(f"{target} cannot be written: {error.strerror}.", "Choose another place.") from error
    return Message(f"{target}: {len(found)} payments, {_PERIODS[when]}.")


def budget(context: Context, words: Sequence[str]) -> Card:
    """Return the caps, after changing those that are named."""
    ledger = context.session.studio_and_gateway()[0].ledger
    changes: dict[str, int] = {}
    pairs = iter(" ".join(words).replace("=", " ").split())
    for word in pairs:
        name = word.removeprefix("--")
        if not word.startswith("--") or name not in _CAPS:
            raise FlagError(
                f"`budget` knows no cap {word[:40]!r}.",
                "For example: %blockrun budget --image 0.10 --session 2 --day 5.",
            )
        try:
            changes[name] = parse_usd(next(pairs, ""))
        except ValueError as error:
            raise FlagError(f"{word} needs an amount in dollars: {error}.", f"For example: {word} 0.50.") from None
    caps = ledger.set_caps(**changes) if changes else ledger.caps()
    rows = [(name, format_usd(getattr(caps, name))) for name in _CAPS]
    return Table(("cap", "dollars"), rows, title="Never more than", note="Shared by all kernels; a day is a UTC day.")


_DAY = 86_400


def reconciliation_report(context: Context, when: str) -> Card:
    """Return where ClawRouter's log and our ledger differ, after it has decided what it can."""
    studio, gateway = context.session.studio_and_gateway()
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


def _ours(spent: ProxyPayment) -> str:
    payment = spent.payment
    return f"{format_usd(payment.amount)}{', estimated' if payment.estimated else ''}, {payment.state}"
