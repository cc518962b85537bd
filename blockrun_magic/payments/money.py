"""Amounts of USDC as whole micro-dollars (`int`): parsing and formatting.

USDC has six decimals on every network we pay on, so one micro-dollar is the token's own
unit. Floats are never used, because they are not exact.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Any

from blockrun_magic.text import MICROS_PER_USD, format_usd

__all__ = ["MICROS_PER_USD", "format_usd", "parse_usd", "read_micros", "scaled", "to_decimal"]

_CONTEXT = Context(prec=100, Emin=-999_999, Emax=999_999)
_LENIENT = Context(prec=100, traps=[])
_AMOUNT = re.compile(r"\$?\s*(\d{1,15}(?:\.\d{0,18})?|\.\d{1,18})\s*(?:usd|usdc|\$)?", re.IGNORECASE | re.ASCII)


def scaled(amount: Decimal, places: int) -> Decimal:
    """Return `amount` times a power of ten, exact in every decimal context."""
    return amount.scaleb(places, _CONTEXT)


def parse_usd(text: str | int | Decimal) -> int:
    """Return `text` dollars ("$0.05", "0.05", "5 USDC", 5) in micro-dollars.

    Raises ValueError for anything else: signs, commas, exponents, more than six decimals or fifteen
    digits before them.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | Decimal):
        raise ValueError(f"{text!r} is not an amount in dollars")  # noqa: TRY004  one error to catch
    match = _AMOUNT.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not an amount in dollars, such as 0.05 or $0.05")
    micros = scaled(Decimal(match[1]), 6)
    if micros != micros.to_integral_value():
        raise ValueError(f"{text!r} is finer than a micro-dollar (six decimals)")
    return int(micros)


def read_micros(dollars: Any, most: int, least: int = 0) -> int | None:
    """Return an external amount of dollars in micro-dollars, if it is from `least` to `most`.

    Returns None for anything else of any type, and never raises; fractions of a micro-dollar are rounded.
    """
    if isinstance(dollars, bool) or not isinstance(dollars, str | int | float):
        return None
    try:
        text = str(dollars).strip()[:40].removeprefix("$")
    except ValueError:  # an int of thousands of digits
        return None
    micros = _LENIENT.create_decimal(text).scaleb(6, _LENIENT)
    return round(micros) if micros.is_finite() and least <= micros <= most else None


def to_decimal(micros: int) -> Decimal:
    """Return micro-dollars as an exact `Decimal` of dollars, six decimals."""
    return scaled(Decimal(micros), -6)
