"""Values for the page: people with their limits, orders, days; money is in micro-USDC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Bar", "ClassState", "Day", "OrderView", "PersonView", "Share", "Stuck", "tightest"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One limit and its use: `used` includes `at_risk`; `limit` and `left` are None without a limit."""

    subject: str
    period: str
    limit: int | None
    used: int
    at_risk: int = 0
    resets_at: float | None = None

    @property
    def left(self) -> int | None:
        """The amount that may still be spent; never below zero."""
        return None if self.limit is None else max(0, self.limit - self.used)

    @property
    def spent(self) -> int:
        """The amount that is used and not at risk."""
        return self.used - self.at_risk

    @property
    def spent_width(self) -> float:
        """The part of the bar that is spent, in percent."""
        return _percent(self.spent, self.limit)

    @property
    def risk_width(self) -> float:
        """The part of the bar that is at risk, in percent."""
        return min(_percent(self.at_risk, self.limit), 100 - self.spent_width)


@dataclass(frozen=True, slots=True)
class PersonView:
    """A person: state is "active", "paused", "revoked" or "forgotten"."""

    id: int
    name: str
    role: str
    groups: tuple[str, ...]
    state: str
    spent: int
    at_risk: int
    today: int
    orders: int
    images: int
    last_order_at: float | None
    bars: tuple[Bar, ...] = ()

    @property
    def bar(self) -> Bar | None:
        """The person's own limit with the least left."""
        return tightest([bar for bar in self.bars if bar.subject == f"member:{self.id}"])


@dataclass(frozen=True, slots=True)
class OrderView:
    """One order; `prompt` is None if it is hidden or deleted, `images` are SHA-256 in hex."""

    id: int
    person_id: int
    person: str
    state: str
    model: str
    size: str
    n: int
    kind: str
    prompt: str | None
    charged: int
    at_risk: int
    created_at: float
    finished_at: float | None
    problem: str | None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Day:
    """One day: its spend, and its money at risk."""

    label: str
    spent: int
    at_risk: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """One group, and its spend."""

    name: str
    people: int
    spent: int
    at_risk: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """A person who cannot continue, and the reason."""

    person_id: int
    person: str
    reason: str
    since: float | None = None


@dataclass(frozen=True, slots=True)
class ClassState:
    """The whole class: its limits, its spend, its money at risk, and today's events."""

    spent: int
    at_risk: int
    today: int
    people: int
    active_today: int
    images_today: int
    open_orders: int
    paused: bool
    bars: tuple[Bar, ...] = ()
    days: Sequence[Day] = ()
    shares: Sequence[Share] = ()
    stuck: Sequence[Stuck] = field(default=())

    @property
    def bar(self) -> Bar | None:
        """The limit of the class, or the ceiling, with the least left."""
        return tightest(self.bars)


def tightest(bars: Sequence[Bar]) -> Bar | None:
    """Return the limit with the least left, or None without any."""
    limited = [bar for bar in bars if bar.limit is not None]
    return min(limited, key=lambda bar: bar.left or 0, default=None)


def _percent(part: int, whole: int | None) -> float:
    if not whole:
        return 100.0 if whole == 0 and part > 0 else 0.0
    return round(min(100.0, max(0.0, part * 100 / whole)), 2)
