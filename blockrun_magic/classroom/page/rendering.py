"""Templates, always escaped, and the formats of times and of text from outside."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined

from blockrun_magic.classroom.page.charts import columns
from blockrun_magic.text import format_usd

__all__ = ["PERIODS", "ago", "clock_time", "render", "visible"]

PERIODS = {"total": "in total", "month": "this month", "week": "this week", "day": "today"}
"""The periods of limits, in the words of the page."""

_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("blockrun_magic.classroom.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(usd=format_usd, amount=_amount, visible=visible, subject=subject_words)
    environment.globals.update(columns=columns, periods=PERIODS)
    return environment


def render(name: str, **values: Any) -> str:
    """Return a page."""
    return _environment().get_template(name).render(values)


def visible(text: str) -> str:
    """Return text from outside for display: invisible characters and direction marks are replaced by their codes."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\n\t":
        return character
    if character in _DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs"):
        return f"⟨U+{ord(character):04X}⟩"
    return character


def clock_time(at: float | None, zone: str) -> str:
    """Return a moment in the class's own time, to the minute."""
    return "" if at is None else datetime.fromtimestamp(at, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def ago(at: float | None, now: float) -> str:
    """Return the time since a moment as words."""
    if at is None:
        return "never"
    seconds = max(0, int(now - at))
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def subject_words(subject: str) -> str:
    """Return the subject of a limit as words."""
    kind, _, name = subject.partition(":")
    words = {"all": "the ceiling", "class": "the class", "each": "each person", "member": "this person"}
    return f"group {visible(name)}" if kind == "group" else words.get(kind, visible(subject))


def _amount(micros: int) -> str:
    return format_usd(micros).removeprefix("$")
