"""Rules of the class and of its groups: models, sizes, counts, edits, times, pause and rate.

All rules apply together: those of the class, and those of each of a person's groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from blockrun_magic.classroom.refusals import Refusal
from blockrun_magic.gateway.catalog.catalog import dimensions
from blockrun_magic.gateway.request import ImageRequest

__all__ = ["CLASS", "MAX_N", "OF_THE_CLASS", "Policy", "check_policy", "combined", "policy_from_json", "policy_to_json"]

CLASS = "class"
"""The scope of the rules for everyone; a group's is "group:NAME"."""
MAX_N = 10
OF_THE_CLASS = ("rate", "at_a_time", "keep_days", "see")
"""The rules that exist only for the whole class."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one scope; None allows everything. Times are Unix seconds.

    `rate` (orders a minute), `at_a_time`, `keep_days` and `see` are rules of the class only.
    """

    models: tuple[str, ...] | None = None
    max_size: str | None = None
    max_n: int | None = None
    edits: bool = True
    starts_at: float | None = None
    ends_at: float | None = None
    paused: bool = False
    rate: int = 10
    at_a_time: int = 2
    keep_days: int = 180
    see: str = "all"

    def public(self) -> dict[str, Any]:
        """Return the rules that a student sees."""
        return {
            "models": None if self.models is None else list(self.models),
            "max_size": self.max_size,
            "max_n": self.max_n,
            "edits": self.edits,
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
            "paused": self.paused,
        }


_DEFAULT = Policy()
_NAMES = frozenset(field.name for field in fields(Policy))


def policy_to_json(policy: Policy) -> str:
    """Return the rules that differ from the defaults, as JSON."""
    rules = {name: value for name, value in asdict(policy).items() if value != getattr(_DEFAULT, name)}
    return json.dumps(rules, sort_keys=True)


def policy_from_json(text: str | None) -> Policy:
    """Return the rules that `policy_to_json` wrote; rules of a newer version are ignored."""
    rules = {name: value for name, value in json.loads(text or "{}").items() if name in _NAMES}
    if rules.get("models") is not None:
        rules["models"] = tuple(rules["models"])
    return Policy(**rules)


def combined(policies: Iterable[Policy]) -> Policy:
    """Return the combination of all `policies`, the first of which is the class's."""
    first, *others = policies
    for other in others:
        first = replace(
            first,
            models=_common(first.models, other.models),
            max_size=_smaller(first.max_size, other.max_size),
            max_n=min((n for n in (first.max_n, other.max_n) if n is not None), default=None),
            edits=first.edits and other.edits,
            starts_at=max((at for at in (first.starts_at, other.starts_at) if at is not None), default=None),
            ends_at=min((at for at in (first.ends_at, other.ends_at) if at is not None), default=None),
            paused=first.paused or other.paused,
        )
    return first


def _common(first: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if first is None or other is None:
        return other if first is None else first
    return tuple(model for model in first if model in other)


def _smaller(first: str | None, other: str | None) -> str | None:
    """Return the size within both bounds, in either orientation."""
    if first is None or other is None:
        return other if first is None else first
    sides = [min(pair) for pair in zip(_sides(first), _sides(other), strict=True)]
    return f"{sides[1]}x{sides[0]}"


def _sides(size: str) -> list[int]:
    return sorted(dimensions(size) or (0, 0))


def check_policy(policy: Policy, request: ImageRequest, now: float) -> None:
    """Raise Refusal (403) if the rules do not allow a request; `now` is in Unix seconds."""
    check_times(policy, now)
    if policy.models is not None and request.model not in policy.models:
        allowed = ", ".join(policy.models) or "none"
        raise Refusal(
            403,
            "model",
            f"{request.model} is not allowed in this class.",
            f"Choose one of: {allowed}.",
            models=list(policy.models),
        )
    if policy.max_size is not None and not _fits(request.size, policy.max_size):
        raise Refusal(
            403,
            "size",
            f"{request.size} is larger than this class allows.",
            f"Use at most {policy.max_size}.",
            max_size=policy.max_size,
        )
    if policy.max_n is not None and request.n > policy.max_n:
        raise Refusal(
            403,
            "n",
            f"{request.n} images at once are more than this class allows.",
            f"Ask for at most {policy.max_n}.",
            max_n=policy.max_n,
        )
    if request.operation == "edit" and not policy.edits:
        raise Refusal(403, "edits", "This class does not allow edits.", "Ask your teacher to allow edits.")


def check_times(policy: Policy, now: float) -> None:
    """Raise Refusal (403) while the class is paused, before it starts and after it ends."""
    if policy.paused:
        raise Refusal(403, "paused", "Your teacher has paused the class.", "Run the cell again when it continues.")
    if policy.starts_at is not None and now < policy.starts_at:
        raise Refusal(
            403, "not_started", "The class has not started.", "Run the cell again then.", starts_at=policy.starts_at
        )
    if policy.ends_at is not None and now >= policy.ends_at:
        raise Refusal(403, "ended", "The class has ended.", "Ask your teacher.", ends_at=policy.ends_at)


def _fits(size: str, largest: str) -> bool:
    return (
        all(side <= bound for side, bound in zip(_sides(size), _sides(largest), strict=True))
        and dimensions(size) is not None
    )
