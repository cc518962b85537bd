"""Limits of many people: subjects, periods, and the windows of time in which a reservation counts.

A subject is `member:ID`, `group:NAME`, `class` or `all`; the row of `each` stands for every member without one of
their own. Windows begin and end in the class's time zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from blockrun_magic.errors import BudgetError, LedgerError, Money, UsageError
from blockrun_magic.payments.money import format_usd

__all__ = [
    "EACH",
    "PERIODS",
    "LimitReached",
    "Standing",
    "Window",
    "check_subject",
    "find_zone",
    "in_order",
    "limit_reached",
    "rank",
    "standings_of",
    "windows_of",
]

PERIODS = ("day", "week", "month", "total")
"""From the shortest to the longest."""
EACH = "each"
_WHOLE = ("class", "all", EACH)
_RANKS = {"member": 0, "group": 1, "class": 2, "all": 3}


@dataclass(frozen=True, slots=True)
class Window:
    """One window of time: its period, its name in the counters, and the Unix time at which the next one begins."""

    period: str
    key: str
    resets_at: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit and what counts against it, in micro-USDC; `limit` and `left` are None without one.

    `used` includes `at_risk`, whose outcome is not known yet.
    """

    subject: str
    period: str
    limit: int | None
    used: int
    at_risk: int
    left: int | None
    resets_at: float | None


class LimitReached(BudgetError):
    """A reservation would exceed a limit; nothing was reserved. Amounts are in micro-USDC."""

    subject: str = ""
    period: str = ""
    limit: int = 0
    left: int = 0
    resets_at: float | None = None


def limit_reached(amount: int, standing: Standing) -> LimitReached:
    """Return the error for `amount` more than the limit of `standing` allows."""
    limit, left = standing.limit or 0, standing.left or 0
    span = "in all" if standing.period == "total" else f"a {standing.period}"
    reset = "" if standing.resets_at is None else f", or wait until {_time(standing.resets_at)}"
    error = LimitReached(
        f"{format_usd(amount)} more would exceed the limit of {format_usd(limit)} {span} for"
        f" {_in_words(standing.subject)} ({format_usd(left)} is left).",
        f"Ask your teacher to raise the limit{reset}.",
        Money.nothing_signed(),
    )
    error.subject, error.period, error.limit, error.left = standing.subject, standing.period, limit, left
    error.resets_at = standing.resets_at
    return error


def _in_words(subject: str) -> str:
    kind, _, name = subject.partition(":")
    return {"member": "one person", "group": f"the group {name}", "class": "the class"}.get(kind, "this service")


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")


def rank(subject: str) -> tuple[int, str]:
    """Return the rank of a subject in the locking order of all reservations: members first, then groups."""
    return _RANKS.get(subject.partition(":")[0], -1), subject


def check_subject(subject: str, period: str) -> None:
    """Raise UsageError unless a limit can be set for `subject` and `period`."""
    kind, colon, name = subject.partition(":")
    if not (subject in _WHOLE or (kind in ("member", "group") and colon and name)):
        raise UsageError(
            f"Unknown subject of a limit: {subject!r}.", "Set one for class, each, group:NAME, member:ID or all."
        )
    if period not in PERIODS:
        raise UsageError(f"Unknown period: {period!r}.", f"Choose one of {', '.join(PERIODS)}.")


def find_zone(name: str | None) -> tzinfo:
    """Return the time zone called `name`, like Europe/Berlin; UTC without one. Raises LedgerError."""
    if not name or name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise LedgerError(
            f"The time zone {name!r} is unknown here.", "Set class.timezone to a name like Europe/Berlin, or to UTC."
        ) from error


def windows_of(now: float, zone: tzinfo) -> list[Window]:
    """Return the windows that contain the Unix time `now`, the shortest first."""
    today = datetime.fromtimestamp(now, zone).date()
    monday = today - timedelta(days=today.weekday())
    year, week, _ = today.isocalendar()
    month = date(today.year + today.month // 12, today.month % 12 + 1, 1)
    return [
        Window("day", today.isoformat(), _midnight(today + timedelta(days=1), zone)),
        Window("week", f"{year}-W{week:02}", _midnight(monday + timedelta(days=7), zone)),
        Window("month", today.isoformat()[:7], _midnight(month, zone)),
        Window("total", "", None),
    ]


def _midnight(day: date, zone: tzinfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def standings_of(
    subjects: Iterable[str],
    windows: Sequence[Window],
    limits: Mapping[tuple[str, str], int],
    used: Mapping[tuple[str, str], int],
    at_risk: Mapping[tuple[str, str], int],
) -> list[Standing]:
    """Return the standing of each subject in each period: members first, then groups, and short periods first."""
    standings = []
    for subject in subjects:
        for window in windows:
            place = (subject, window.period)
            limit = _limit_of(limits, subject, window.period)
            left = None if limit is None else max(0, limit - used.get(place, 0))
            standings.append(Standing(*place, limit, used.get(place, 0), at_risk.get(place, 0), left, window.resets_at))
    return standings


def _limit_of(limits: Mapping[tuple[str, str], int], subject: str, period: str) -> int | None:
    """Return the limit of a subject; a member without their own has that of `each`."""
    limit = limits.get((subject, period))
    if limit is None and subject.startswith("member:"):
        limit = limits.get((EACH, period))
    return limit


def in_order(subjects: Sequence[str]) -> list[str]:
    """Return the distinct subjects in the locking order of all reservations."""
    return sorted(set(subjects), key=rank)
