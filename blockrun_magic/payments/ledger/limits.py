"""Limits on spending: per image, per session, per day (UTC), each in micro-USDC.

A limit counts settled payments and payments at risk: reserved, signed, or sent and undecided.
The ledger checks them inside the transaction that reserves money.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from blockrun_magic.errors import BudgetError, Money
from blockrun_magic.payments.money import format_usd

__all__ = [
    "DEFAULT_CAPS",
    "NO_CAPS",
    "Caps",
    "Usage",
    "check_agreed",
    "check_caps",
    "check_markup",
    "check_price",
    "is_credible",
]

MAX_MARKUP_TENTHS = 15
MARKUP_ALLOWANCE = 20_000


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that one image, one session and one UTC day may cost, in micro-USDC."""

    image: int = 500_000
    session: int = 5_000_000
    day: int = 20_000_000


DEFAULT_CAPS = Caps()
NO_CAPS = Caps(image=2**60, session=2**60, day=2**60)
"""The default in a classroom, which has its own limits: only those that the user has set apply."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Micro-USDC that count against the limits of a session and of a day: settled, at risk and held for batches.

    `at_risk` and `held` are the parts of all sessions in them.
    """

    session: int
    day: int
    at_risk: int = field(default=0, compare=False)
    held: int = field(default=0, compare=False)


def check_price(total: int, n: int, caps: Caps, max_price: int | None) -> None:
    """Raise BudgetError when `total` for `n` images is above the limit per image or `max_price`.

    `max_price` limits the whole request. The user sets it for one cell, so it replaces the limit per image.
    """
    if max_price is not None:
        if total > max_price:
            raise BudgetError(
                f"This costs {format_usd(total)}, more than the {format_usd(max_price)} that you allowed.",
                f"Allow it with --max-price {format_usd(total)}, or choose another model or size.",
                Money.nothing_signed(),
            )
        return
    if total > caps.image * n:
        each = "" if n == 1 else f" for {n} images"
        raise BudgetError(
            f"This costs {format_usd(total)}{each}, more than the limit of {format_usd(caps.image)} an image.",
            f"Allow this one with --max-price {format_usd(total)}, "
            f"or raise the limit with `%blockrun budget --image {format_usd(-(-total // n))}`.",
            Money.nothing_signed(),
        )


def check_markup(total: int, list_price: int | None, max_price: int | None) -> None:
    """Raise BudgetError for a quote suspiciously above the list price, unless `max_price` covers it.

    A quote is suspicious if it is over 150 % of the list price and more than two cents above it.
    """
    if list_price is None or max_price is not None:
        return
    if total * 10 > list_price * MAX_MARKUP_TENTHS and total - list_price > MARKUP_ALLOWANCE:
        raise BudgetError(
            f"The gateway asks {format_usd(total)} for an image listed at {format_usd(list_price)}.",
            f"If you agree to that, allow it with --max-price {format_usd(total)}.",
            Money.nothing_signed(),
        )


def is_credible(charged: int, reserved: int, listed: int | None = None) -> bool:
    """Return whether a reported charge is plausible for a payment with `reserved` micro-USDC.

    The charge may be at most 150 % of the reservation, and the list price `listed` at most 150 % of the charge.
    """
    tenths = MAX_MARKUP_TENTHS
    return 0 < charged and charged * 10 <= reserved * tenths and (listed or 0) * 10 <= charged * tenths


def check_agreed(total: int, agreed: int | None) -> None:
    """Raise BudgetError when `total` is above the sum that the user saw and agreed to."""
    if agreed is not None and total > agreed:
        raise BudgetError(
            f"The price is now {format_usd(total)}, more than the {format_usd(agreed)} that was shown.",
            "Run it again to agree to the new price.",
            Money.nothing_signed(),
        )


def check_caps(total: int, committed: Usage, caps: Caps) -> None:
    """Raise BudgetError when `total` more would exceed the session's or the day's limit."""
    for name, spent, cap in (
        ("session", committed.session, caps.session),
        ("day", committed.day, caps.day),
    ):
        if spent + total > cap:
            raise BudgetError(
                f"{format_usd(total)} more would exceed this {name}'s limit of {format_usd(cap)}"
                f" ({format_usd(spent)} is spent, at risk or held).",
                f"Raise the limit with `%blockrun budget --{name} {format_usd(spent + total)}`.",
                Money.nothing_signed(),
            )
