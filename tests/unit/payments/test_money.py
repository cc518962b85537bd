"""Amounts of money: reading and printing dollars to the micro-dollar, and refusing anything else."""

from __future__ import annotations

import re
from decimal import Decimal, Inexact, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.payments.money import format_usd, parse_usd, read_micros, to_decimal

micros = st.integers(min_value=0, max_value=10**18)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.05", 50_000),
        ("$0.05", 50_000),
        ("$ 0.05", 50_000),
        (" 0.0525 ", 52_500),
        (".5", 500_000),
        ("5.", 5_000_000),
        ("5 USDC", 5_000_000),
        ("5usd", 5_000_000),
        ("5$", 5_000_000),
        ("0", 0),
        ("0.000001", 1),
        ("1.0000000", 1_000_000),
        (5, 5_000_000),
        (Decimal("0.01575"), 15_750),
    ],
)
def test_amounts_are_read(text: str | int | Decimal, expected: int) -> None:
    """Every common spelling of dollars gives exact micro-dollars."""
    actual = parse_usd(text)

    assert expected == actual


@pytest.mark.parametrize(
    "text",
    [
        *["", "$", ".", "-1", "+1", "$-1", "1,5", "1 000", "1.2.3", "1e5", "0x10"],
        *["nan", "inf", "five", "5 EUR", "0.0000001", "\u0665"],
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    """Signs, commas, exponents, other currencies and fractions of a micro-dollar are refused."""
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_usd(text)


@pytest.mark.parametrize("value", [True, 0.1, None, b"1"])
def test_floats_and_strangers_are_refused(value: object) -> None:
    """Floats, booleans, bytes and None are never money."""
    with pytest.raises(ValueError, match=re.escape(repr(value))):
        parse_usd(value)  # type: ignore[arg-type]


@given(micros)
def test_what_is_printed_reads_back(amount: int) -> None:
    """Printing and reading an amount loses nothing."""
    assert amount == parse_usd(format_usd(amount))
    assert amount == parse_usd(to_decimal(amount))


@given(st.text())
def test_reading_raises_value_error_only(text: str) -> None:
    """Any text is an amount of zero or more, or causes a ValueError."""
    try:
        actual = parse_usd(text)
    except ValueError:
        return

    assert actual >= 0


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (52_500, "$0.0525"),
        (50_000, "$0.05"),
        (5_000_000, "$5.00"),
        (-40_000, "-$0.04"),
        (12_345_678_900_000, "$12345678.90"),
    ],
)
def test_amounts_are_printed_for_people(amount: int, expected: str) -> None:
    """A printed amount has at least two decimals, no needless zeros, and its sign before the dollar sign."""
    assert expected == format_usd(amount)


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_decimals_are_exact_dollars(amount: int) -> None:
    """A Decimal has the same amount in dollars."""
    assert amount == to_decimal(amount) * 1_000_000


def test_amounts_do_not_depend_on_the_callers_decimal_context() -> None:
    """No amount is rounded, even if a notebook sets a decimal context of two digits."""
    with localcontext() as context:
        context.prec = 2

        assert 15_751 == parse_usd("0.015751")
        assert Decimal("0.015751") == to_decimal(15_751)
        assert 123_456_789_012_345_123_456 == parse_usd("123456789012345.123456")


@pytest.mark.parametrize(
    ("dollars", "expected"),
    [
        ("0.0525", 52_500),
        (" $0.05", 50_000),
        (0.042, 42_000),
        (1, 1_000_000),
        ("1e-6", 1),
        ("1e-999999999", 0),
        (1e-300, 0),
        ("1e999999999", None),
        ("-1", None),
        (10**6, None),
        pytest.param(10**5000, None, id="thousands of digits"),
        (float("nan"), None),
        (float("inf"), None),
        ("NaN", None),
        ("sNaN123", None),
        ("five", None),
        ("", None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_an_amount_of_a_stranger_is_read_or_none(dollars: object, expected: int | None) -> None:
    """Reading a server's amount never raises, whatever the caller's decimal context is."""
    with localcontext() as context:
        context.prec = 1
        context.traps[Inexact] = True

        assert expected == read_micros(dollars, 999_999_999_999)
