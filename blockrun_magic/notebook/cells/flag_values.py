"""Values of flags, converted from text; an error shows how to write the value."""

from __future__ import annotations

import re
from collections.abc import Callable
from keyword import iskeyword
from typing import Literal
from unicodedata import normalize

from blockrun_magic.errors import FlagError
from blockrun_magic.gateway.catalog.catalog import DEFAULT_SIZE, MAX_N
from blockrun_magic.gateway.catalog.sizes import SIZE_WORDS, is_size_word
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.text import did_you_mean, quoted

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
            f"{quoted(text)} has an empty value before or after a comma.",
            "Separate several values by commas without spaces: a,b,c.",
        )
    return names


def _sizes(text: str) -> tuple[str, ...]:
    return tuple(_size(name) for name in _names(text))


def _size(name: str) -> str:
    match = _SIZE.fullmatch(name)
    if match is not None:
        return f"{match[1]}x{match[2]}"
    if is_size_word(name.lower()):
        return name.lower()
    side = _whole(name)
    example = f"{side}x{side}" if side else DEFAULT_SIZE
    raise FlagError(
        f"{quoted(name)} is not a size.",
        f"{did_you_mean(name, SIZE_WORDS)}Write width x height, a ratio or a word: --size {example}, 16:9 or portrait.",
    )


def _count(text: str) -> int:
    count = _whole(text)
    if count is None or count > MAX_N:
        raise FlagError(f"{quoted(text)} is not a number of images.", f"Give a whole number from 1 to {MAX_N}: -n 4.")
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
        raise FlagError(f"{quoted(text)} is not the number of a take.", "Give a whole number from 1: --take 2.")
    return take


def _whole(text: str) -> int | None:
    match = _WHOLE.fullmatch(text)
    return int(match[1]) if match else None


def _variable(text: str) -> str:
    # Python reads identifiers in this normal form, so an image bound in another could not be found.
    name = normalize("NFKC", text)
    if not name.strip("_"):
        raise FlagError(f"{quoted(text)} belongs to IPython, for the last result.", "Choose a name: --as image.")
    if name.isidentifier() and not iskeyword(name):
        return name
    likely = re.sub(r"\W+", "_", name).strip("_")[:_SUGGESTED_NAME]
    likely = f"{likely}_" if iskeyword(likely) else likely
    raise FlagError(
        f"{quoted(text)} is not a valid variable name.",
        f"Choose another name: --as {likely if likely.isidentifier() else 'image'}.",
    )


def _amount(text: str) -> int:
    try:
        # Longer amounts are above every limit, and beyond the precision of decimals.
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
