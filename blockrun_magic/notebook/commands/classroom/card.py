"""`%blockrun` in a classroom: your name, and your limits as bars with spent, at risk, left and reset."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.commands.classroom.join import membership_lines
from blockrun_magic.notebook.display.overview import Overview, Spend, overview_card
from blockrun_magic.payments.money import format_usd

if TYPE_CHECKING:
    from blockrun_magic.gateway.classroom.protocol import ClassLimit, Membership
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.notebook.context import Context
    from blockrun_magic.notebook.display.cards import Card
    from blockrun_magic.payments.user_records import UserRecords

__all__ = ["classroom_card", "enter", "limit_spends", "own_limits"]

_PERIODS = {"total": "", "day": ", today", "week": ", this week", "month": ", this month"}


def enter(context: Context, gateway: Gateway) -> tuple[Gateway, list[str]]:
    """Return the classroom as it is now, and a message for the student.

    A classroom that does not answer, or no longer accepts the student, remains in use for stored images.
    """
    from blockrun_magic.gateway.gateways import classroom_at

    session = context.session
    account = session.studio.wallets.account()
    try:
        membership = session.run(account.membership(gateway))
    except BlockrunError as error:
        return gateway, [error.message, f"Stored images still work. {error.hint}"]
    if membership.money != gateway.realm:
        gateway = classroom_at(gateway.base_url, membership.money)
        session.selection.set_classroom(gateway)
    with suppress(BlockrunError):  # the next cell uses the models that the class allows now
        session.run(session.studio.catalogs.refresh(gateway))
    return gateway, membership_lines(membership)


def classroom_card(context: Context, gateway: Gateway) -> Card:
    """Return the overview of a student: the limits as the class counts them, and the money at risk in this ledger."""
    studio = context.session.studio
    account = studio.wallets.account()
    at_risk = studio.records.spending(gateway.realm, "today").at_risk  # it counts today, even if signed earlier
    rows = [("gateway", f"{gateway.label}, {context.session.selection.reason}"), ("paid by", gateway.money)]
    spends: list[Spend] = []
    try:
        membership = context.session.run(account.membership(gateway))
    except BlockrunError as error:
        rows.append(("note", " ".join(error.lines)))
    else:
        rows += _who(membership)
        spends += limit_spends(membership)
    if not spends:
        sums = ((words, studio.records.spending(gateway.realm, when)) for words, when in _SUMS)
        rows += [(words, format_usd(spent.settled)) for words, spent in sums]
    rows += [("at risk", f"{format_usd(at_risk)}; see `%blockrun jobs`")] if at_risk else []
    spends += own_limits(studio.records, gateway)
    steps = ["`%blockrun jobs` checks whether the money at risk was charged."] if at_risk else []
    return overview_card(Overview(gateway.realm, rows, spends, steps))


_SUMS = (("this session", "session"), ("today (UTC)", "today"))


def limit_spends(membership: Membership) -> list[Spend]:
    """Return the limits that apply to a student, the student's own first."""
    return [_spend(limit) for limit in membership.limits if limit.limit is not None]


def _spend(limit: ClassLimit) -> Spend:
    from blockrun_magic.gateway.classroom.refusals import time_left

    kind, _, name = limit.subject.partition(":")
    whose = f"group {name}" if kind == "group" else "class" if kind in ("class", "all") else "you"
    left = "" if limit.left is None else f", {format_usd(limit.left)} left"
    resets = "" if limit.resets_at is None else f", resets in {time_left(limit.resets_at)}"
    words = f"{whose}{_PERIODS.get(limit.period, f', {limit.period}')}"
    return Spend(words, limit.spent, limit.at_risk, limit.limit or 0, f"{left}{resets}")


def _who(membership: Membership) -> list[tuple[str, str]]:
    groups = f" ({', '.join(membership.groups)})" if membership.groups else ""
    rows = [("you are", f"{membership.name}{groups}")] if membership.name or groups else []
    return rows + [("note", line) for line in membership_lines(membership) if not line.startswith("You are ")]


def own_limits(records: UserRecords, gateway: Gateway) -> list[Spend]:
    """Return the limits that the student has set with `%blockrun budget`, in addition to those of the class."""
    from blockrun_magic.payments.ledger.limits import NO_CAPS

    caps = records.limits(NO_CAPS)
    spends = []
    for words, when, cap, none in (
        ("your own, this session", "session", caps.session, NO_CAPS.session),
        ("your own, today (UTC)", "today", caps.day, NO_CAPS.day),
    ):
        if cap != none:
            sums = records.spending(gateway.realm, when)
            spends.append(Spend(words, sums.settled, sums.at_risk, cap))
    return spends
