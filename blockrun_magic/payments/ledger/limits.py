"""Caps on what may be spent: per image, per session, per day (UTC), each in micro-USDC.

A cap counts what was settled and what is at risk: reserved, signed or sent with an open end.
The check runs inside the ledger's reservation, in one transaction over all kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from blockrun_magic.errors import BudgetError, Money
from blockrun_magic.payments.money import format_usd

__all__ = ["DEFAULT_CAPS", "Caps", "Usage", "check_caps", "check_markup", "check_price"]

MAX_MARKUP_TENTHS = 15
MARKUP_ALLOWANCE = 20_000


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that one image, one session and one UTC day may cost, in micro-USDC."""

    image: int = 500_000
    session: int = 5_000_000
    day: int = 20_000_000


DEFAULT_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a session and a day have committed so far, settled and at risk, in micro-USDC."""

    session: int
    day: int


def check_price(total: int, n: int, caps: Caps, max_price: int | None) -> None:
    """Raise BudgetError when `total` for `n` pictures is above the cap per image or `max_price`.

    `max_price` bounds the whole request and, being the user's word for this one cell, stands
    in place of the cap per image.
    """
    if max_price is not None:
        if total > max_price:
            raise BudgetError(
                f"This costs {format_usd(total)}, more than --max-price {format_usd(max_price)}.",
                f"Allow it with --max-price {format_usd(total)}, or choose another model or size.",
                Money.nothing_signed(),
            )
        return
    if total > caps.image * n:
        each = "" if n == 1 else f" for {n} pictures"
        raise BudgetError(
            f"This costs {format_usd(total)}{each}, more than the cap of {format_usd(caps.image)} an image.",
            f"Allow this one with --max-price {format_usd(total)}, or raise the limit with `%blockrun budget --image`.",
            Money.nothing_signed(),
        )


def check_markup(total: int, list_price: int | None, max_price: int | None) -> None:
    """Raise BudgetError for a quote suspiciously above the list price, unless `max_price` covers it.

    Suspicious is more than half as much again, and by more than two cents.
    """
    if list_price is None or max_price is not None:
        return
    if total * 10 > list_price * MAX_MARKUP_TENTHS and total - list_price > MARKUP_ALLOWANCE:
        raise BudgetError(
            f"The gateway asks {format_usd(total)} for a picture listed at {format_usd(list_price)}.",
            f"If you agree to that, allow it with --max-price {format_usd(total)}.",
            Money.nothing_signed(),
        )


def check_caps(total: int, committed: Usage, caps: Caps) -> None:
    """Raise BudgetError when `total` more would pass the session's or the day's cap."""
    for name, spent, cap in (
        ("session", committed.session, caps.session),
        ("day", committed.day, caps.day),
    ):
        if spent + total > cap:
            raise BudgetError(
                f"{format_usd(total)} more would pass this {name}'s cap of {format_usd(cap)}"
                f" ({format_usd(spent)} is spent or at risk).",
                f"Raise the limit with `%blockrun budget --{name} {format_usd(spent + total)}`.",
                Money.nothing_signed(),
            )
