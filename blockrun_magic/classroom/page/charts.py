"""Geometry of the charts that the templates draw as inline SVG: columns of days, and their scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockrun_magic.classroom.page.records import Day

__all__ = ["Column", "Columns", "columns"]

WIDTH, HEIGHT = 640, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 6, 20, 26
_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the spent amount below the amount at risk."""

    day: Day
    x: float
    width: float
    spent_y: float
    spent_height: float
    risk_y: float
    risk_height: float
    is_labeled: bool


@dataclass(frozen=True, slots=True)
class Columns:
    """A chart of days: its columns, and the lines of its scale as (y, micro-USDC)."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[float, int], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT

    @property
    def base(self) -> int:
        """The height of the base line of the columns."""
        return HEIGHT - _BOTTOM


def columns(days: Sequence[Day]) -> Columns:
    """Return the chart of some days, oldest first."""
    step = _step(max((day.spent + day.at_risk for day in days), default=0))
    top = max(1, -(-max((day.spent + day.at_risk for day in days), default=0) // step)) * step
    room = HEIGHT - _TOP - _BOTTOM
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(days))

    def up(amount: int) -> float:
        return round(room * amount / top, 2)

    drawn = []
    for number, day in enumerate(days):
        spent, risk = up(day.spent), up(day.at_risk)
        base = HEIGHT - _BOTTOM
        drawn.append(
            Column(
                day=day,
                x=round(_LEFT + number * slot + slot * 0.16, 2),
                width=round(slot * 0.68, 2),
                spent_y=round(base - spent, 2),
                spent_height=spent,
                risk_y=round(base - spent - risk, 2),
                risk_height=risk,
                is_labeled=(len(days) - 1 - number) % max(1, len(days) // 7) == 0,
            )
        )
    lines = tuple((round(HEIGHT - _BOTTOM - up(amount), 2), amount) for amount in range(0, top + 1, step))
    return Columns(tuple(drawn), lines)


def _step(most: int) -> int:
    """Return a round distance between lines, for at most five lines."""
    size = 1000
    while True:
        for factor in _STEPS:
            if most <= 4 * size * factor:
                return size * factor
        size *= 10
