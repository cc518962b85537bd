"""Arithmetic of the caps: limits for an image, a session and a day, and suspicious prices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import BudgetError, Money
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, Caps, Usage, check_caps, check_markup, check_price

CENT = 10_000
SUMS = st.integers(min_value=0, max_value=10**12)


def allowed(check: object, *arguments: object) -> bool:
    """Return whether a check allows an amount."""
    try:
        check(*arguments)  # type: ignore[operator]
    except BudgetError:
        return False
    return True


def test_the_defaults_are_a_beginners() -> None:
    """The default caps are half a dollar an image, five a session and twenty a day."""
    assert Caps(image=500_000, session=5_000_000, day=20_000_000) == DEFAULT_CAPS


@pytest.mark.parametrize(
    ("total", "n", "max_price", "passes"),
    [
        (500_000, 1, None, True),
        (500_001, 1, None, False),
        (2_000_000, 4, None, True),
        (2_000_001, 4, None, False),
        (500_001, 1, 500_001, True),
        (52_501, 1, 52_500, False),
        (52_500, 1, 52_500, True),
        (9_000_000, 1, 10_000_000, True),
        (1, 1, 0, False),
        (0, 1, 0, True),
    ],
)
def test_a_price_is_capped_by_image_or_by_the_users_word(
    total: int, n: int, max_price: int | None, passes: bool
) -> None:
    """The cap applies to each image; `--max-price` limits the whole request instead."""
    assert passes is allowed(check_price, total, n, DEFAULT_CAPS, max_price)


def test_a_price_above_the_cap_is_told_with_the_way_out() -> None:
    """The refusal names both amounts, says that nothing was signed, and gives the flag to type."""
    with pytest.raises(BudgetError) as caught:
        check_price(1_050_000, 2, DEFAULT_CAPS, None)

    assert "$1.05" in caught.value.message
    assert "$0.50" in caught.value.message
    assert "--max-price $1.05" in caught.value.hint
    assert Money.nothing_signed() == caught.value.money


@pytest.mark.parametrize(
    ("total", "list_price", "max_price", "passes"),
    [
        (42_000, 42_000, None, True),
        (63_000, 42_000, None, True),
        (63_001, 42_000, None, False),
        (40_000, 20_000, None, True),
        (40_001, 20_000, None, False),
        (22_000, 2_000, None, True),
        (22_001, 2_000, None, False),
        (20_000, 0, None, True),
        (20_001, 0, None, False),
        (99_000_000, None, None, True),
        (99_000_000, 42_000, 99_000_000, True),
        (1, 42_000, None, True),
    ],
)
def test_a_price_far_above_the_list_is_suspicious(
    total: int, list_price: int | None, max_price: int | None, passes: bool
) -> None:
    """A price over 1.5 times the list price, and over it by more than two cents, needs `--max-price`."""
    assert passes is allowed(check_markup, total, list_price, max_price)


@given(SUMS, SUMS)
def test_suspicion_is_exact(total: int, list_price: int) -> None:
    """The rule is exact to the micro-dollar."""
    suspicious = 2 * total > 3 * list_price and total > list_price + 2 * CENT

    assert suspicious is not allowed(check_markup, total, list_price, None)


@given(SUMS, SUMS, SUMS, SUMS, SUMS)
def test_the_caps_hold_exactly(total: int, in_session: int, in_day: int, session: int, day: int) -> None:
    """An amount is allowed if and only if it fits both caps, to the micro-dollar."""
    fits = in_session + total <= session and in_day + total <= day

    assert fits is allowed(check_caps, total, Usage(in_session, in_day), Caps(session=session, day=day))


@pytest.mark.parametrize("name", ["session", "day"])
def test_a_full_cap_is_told_with_the_way_out(name: str) -> None:
    """The refusal names the cap and the amount used, and gives the command that raises the cap far enough."""
    committed = Usage(session=4_990_000, day=4_990_000)

    with pytest.raises(BudgetError) as caught:
        check_caps(52_500, committed, Caps(**{"session": 10**9, "day": 10**9, name: 5_000_000}))

    assert all(part in caught.value.message for part in (name, "$0.0525", "$5.00", "$4.99"))
    assert f"%blockrun budget --{name} $5.0425" in caught.value.hint
    assert Money.nothing_signed() == caught.value.money
