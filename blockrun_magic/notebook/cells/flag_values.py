"""The values of flags, from what was typed to what is meant; each refusal says how to write it."""

from __future__ import annotations

import re
from collections.abc import Callable
from keyword import iskeyword
from typing import Literal
from unicodedata import normalize

from blockrun_magic.errors import FlagError
from blockrun_magic.gateway.catalog.catalog import DEFAULT_SIZE, MAX_N
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.text import quoted

__all__ = ["CONVERTERS", "MAX_JOBS", "Kind"]

MAX_JOBS = 32

Kind = Literal[
    "switch",
    "model",
    "size",
    "count",
    "quality",
    "name",
    "path",
    "usd",
    "image",
    "mask",
    "take",
    "style",
    "prompts",
    "jobs",
    "gateway",
]

_SIZE = re.compile(r"0*([1-9]\d{0,4})\s*[xX*\u00d7]\s*0*([1-9]\d{0,4})", re.ASCII)
_WHOLE = re.compile(r"0*([1-9]\d{0,5})", re.ASCII)
_MAX_AMOUNT = 24
_SUGGESTED_NAME = 30


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise FlagError(
            f"{quoted(text)} has nothing before or after a comma.",
            "Write several values with commas and no spaces: a,b,c.",
        )
    return names


def _sizes(text: str) -> tuple[str, ...]:
    sizes = []
    for name in _names(text):
        match = _SIZE.fullmatch(name)
        if match is None:
            side = _whole(name)
            example = f"{side}x{side}" if side else DEFAULT_SIZE
            raise FlagError(f"{quoted(name)} is not a size.", f"Write width x height in pixels: --size {example}.")
        sizes.append(f"{match[1]}x{match[2]}")
    return tuple(sizes)


def _count(text: str) -> int:
    count = _whole(text)
    if count is None or count > MAX_N:
        raise FlagError(f"{quoted(text)} is not a number of pictures.", f"Give a whole number from 1 to {MAX_N}: -n 4.")
    return count


def _jobs(text: str) -> int:
    match = _WHOLE.fullmatch(text)
    if match is None or int(match[1]) > MAX_JOBS:
        raise FlagError(
            f"{quoted(text)} is not a number of jobs.", f"Give a whole number from 1 to {MAX_JOBS}: --jobs 8."
        )
    return int(match[1])


def _take(text: str) -> int:
    take = _whole(text)
    if take is None:
        raise FlagError(
            f"{quoted(text)} is not the number of a take.", "Give a whole number, counted from 1: --take 2."
        )
    return take


def _whole(text: str) -> int | None:
    match = _WHOLE.fullmatch(text)
    return int(match[1]) if match else None


def _variable(text: str) -> str:
    # Python reads identifiers in this normal form, so a picture bound in another could not be found.
    name = normalize("NFKC", text)
    if name.isidentifier() and not iskeyword(name):
        return name
    likely = re.sub(r"\W+", "_", name).strip("_")[:_SUGGESTED_NAME]
    likely = f"{likely}_" if iskeyword(likely) else likely
    raise FlagError(
        f"{quoted(text)} cannot be the name of a variable.",
        f"Choose a plain name: --as {likely if likely.isidentifier() else 'picture'}.",
    )


def _amount(text: str) -> int:
    try:
        # Longer ones are past every budget, and past the precision of decimals.
        return parse_usd(text if len(text) <= _MAX_AMOUNT else "")
    except ValueError:
        raise FlagError(
            f"{quoted(text)} is not an amount in dollars.",
            "Write it with a point and at most six decimals: --max-price 0.05.",
        ) from None


CONVERTERS: dict[Kind, Callable[[str], object]] = {
    "switch": lambda _: True,
    "model": _names,
    "size": _sizes,
    "count": _count,
    "take": _take,
    "jobs": _jobs,
    "quality": lambda text: text.strip().lower(),
    "name": _variable,
    "usd": _amount,
}
