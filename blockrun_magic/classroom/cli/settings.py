"""Settings on the command line: `class=50 each/day=0.50 group:red=10 group:red/models=a,b`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from blockrun_magic.classroom.policy import MAX_N, OF_THE_CLASS, Policy
from blockrun_magic.classroom.storage.actions import MAX_LIMIT
from blockrun_magic.classroom.storage.members import check_name
from blockrun_magic.errors import UsageError
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT, dimensions
from blockrun_magic.payments.ledger.windows import PERIODS
from blockrun_magic.payments.money import format_usd, parse_usd
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["LimitSetting", "RuleSetting", "moment_of", "read_setting", "rule_texts"]

_EXAMPLE = "Write it like class=50, each/day=0.50, group:red=10 or member:ada=5."
_NONE = ("none", "off")
_MAX_COUNT = 100_000
_SPAN = re.compile(r"(\d{1,5})\s*(m|h|d|w)", re.ASCII)
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@dataclass(frozen=True, slots=True)
class LimitSetting:
    """A limit to set: `subject` names a member by name, `micros` None removes the limit."""

    subject: str
    period: str
    micros: int | None


@dataclass(frozen=True, slots=True)
class RuleSetting:
    """A rule to change, of the class or of a group or member."""

    subject: str
    name: str
    value: Any


def read_setting(text: str, zone: tzinfo = UTC) -> LimitSetting | RuleSetting:
    """Return the setting in one argument; raises UsageError."""
    target, equals, value = text.rpartition("=")  # a name may contain the sign as well
    subject, slash, period = target.strip().rpartition("/") if "/" in target else (target.strip(), "", "")
    if not equals or not subject:
        raise UsageError(f"{quoted(text)} is not a setting.", _EXAMPLE)
    if subject in _RULES and not slash:
        return RuleSetting("class", subject, _RULES[subject](value.strip(), zone))
    kind, colon, name = subject.partition(":")
    if kind == "group" and name.strip():
        subject = f"group:{check_name(name, 'group')}"
    if slash and period in _RULES and (kind in ("group", "member") or subject == "class"):
        if subject != "class" and period in OF_THE_CLASS:
            raise UsageError(f"{period} is a rule of the whole class.", f"Write {period}={value.strip()}.")
        return RuleSetting(subject, period, _RULES[period](value.strip(), zone))
    if not (subject in ("all", "class", "each") or (kind in ("group", "member") and colon and name.strip())):
        subjects = ("all", "class", "each", "group:NAME", "member:NAME", *_RULES)
        raise UsageError(f"Unknown limit: {quoted(subject)}.", f"{did_you_mean(subject, subjects)}{_EXAMPLE}")
    if slash and period not in PERIODS:
        raise UsageError(
            f"Unknown period: {quoted(period)}.", f"{did_you_mean(period, PERIODS)}Use {', '.join(PERIODS)}."
        )
    return LimitSetting(subject, period or "total", _amount(text, value.strip()))


def moment_of(text: str, now: float, zone: tzinfo = UTC) -> float:
    """Return the Unix time of "7d", "12h" (from `now`) or "2027-01-31 12:00"; raises UsageError."""
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        return now + int(span[1]) * _SECONDS[span[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"{quoted(text)} is not a time.", "Write it like 7d, 12h or 2027-01-31.") from None


def _amount(text: str, value: str) -> int | None:
    if value.lower() in _NONE:
        return None
    try:
        micros = parse_usd(value)
    except ValueError:
        raise UsageError(f"{quoted(text)} is not an amount in US dollars.", _EXAMPLE) from None
    if micros > MAX_LIMIT:
        raise UsageError(f"{quoted(text)} is too much for a limit.", f"Use at most {format_usd(MAX_LIMIT)}.")
    return micros


def _models(value: str, _: tzinfo) -> tuple[str, ...] | None:
    if value.lower() == "all":
        return None
    models = tuple(dict.fromkeys(SNAPSHOT.resolve(name) for name in value.split(",") if name.strip()))
    if not models:
        raise UsageError("models= names no model.", "Write models=nano-banana,cogview, or models=all.")
    return models


def _size(value: str, _: tzinfo) -> str | None:
    if value.lower() in ("all", *_NONE):
        return None
    if dimensions(value) is None:
        raise UsageError(f"{quoted(value)} is not a size.", "Write it like 1024x1024.")
    return value


def _count(low: int, high: int) -> Callable[[str, tzinfo], int]:
    def read(value: str, _: tzinfo) -> int:
        if value.isascii() and value.isdigit() and low <= int(value[:9]) <= high:
            return int(value)
        raise UsageError(f"{quoted(value)} is not a number in the allowed range.", f"Choose one from {low} to {high}.")

    return read


def _n(value: str, zone: tzinfo) -> int | None:
    return None if value.lower() in _NONE else _count(1, MAX_N)(value, zone)


def _yes(value: str, _: tzinfo) -> bool:
    if value.lower() in ("yes", "on", "true", "no", "off", "false"):
        return value.lower() in ("yes", "on", "true")
    raise UsageError(f"{quoted(value)} is neither yes nor no.", "Write edits=yes or edits=no.")


def _moment(value: str, zone: tzinfo) -> float | None:
    return None if value.lower() in _NONE else moment_of(value, datetime.now(UTC).timestamp(), zone)


def _see(value: str, _: tzinfo) -> str:
    if value not in ("all", "amounts"):
        raise UsageError(f"{quoted(value)} is not a value of `see`.", "Write see=all or see=amounts.")
    return value


_RULES: dict[str, Callable[[str, tzinfo], Any]] = {
    "models": _models,
    "max_size": _size,
    "max_n": _n,
    "edits": _yes,
    "starts_at": _moment,
    "ends_at": _moment,
    "rate": _count(1, _MAX_COUNT),
    "at_a_time": _count(1, 64),
    "keep_days": _count(1, _MAX_COUNT),
    "see": _see,
}


def rule_texts(scope: str, policy: Policy, zone: tzinfo) -> list[str]:
    """Return the rules of a scope that differ from the defaults, as they are typed; a pause is left out."""
    usual = Policy()
    changed = [(name, getattr(policy, name)) for name in _RULES if getattr(policy, name) != getattr(usual, name)]
    return [f"{scope}/{name}={_rule_text(value, zone)}" for name, value in changed]


def _rule_text(value: object, zone: tzinfo) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return datetime.fromtimestamp(value, zone).isoformat(timespec="minutes")
    return str(value)
