"""When a price is too much: by the cap per image, by the user's word, by the list, by session and day."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import BudgetError
from blockrun_magic.payments.budget import (
    DEFAULT_CAPS,
    Caps,
    Committed,
    check_caps,
    check_price,
    check_surprise,
)

amounts = st.integers(min_value=0, max_value=10**12)


def refuses(check: Callable[..., None], *arguments: Any) -> bool:
    """Return whether a check raises BudgetError."""
    try:
        check(*arguments)
    except BudgetError:
        return True
    return False


def test_the_defaults_are_a_beginners() -> None:
    """Half a dollar an image, five a session, twenty a day."""
    assert Caps(image=500_000, session=5_000_000, day=20_000_000) == DEFAULT_CAPS


@given(amounts, st.integers(1, 10), amounts)
def test_the_cap_is_per_image(total: int, n: int, cap: int) -> None:
    """Without a word from the user, `n` pictures may cost `n` caps and no more."""
    assert (total > cap * n) == refuses(check_price, total, n, Caps(image=cap), None)


@given(amounts, st.integers(1, 10), amounts, amounts)
def test_the_users_word_stands_in_place_of_the_cap(total: int, n: int, cap: int, max_price: int) -> None:
    """--max-price bounds the whole request, above the cap and below it."""
    assert (total > max_price) == refuses(check_price, total, n, Caps(image=cap), max_price)


@pytest.mark.parametrize(
    ("total", "n", "max_price", "words"),
    [
        (500_001, 1, None, "$0.500001, more than the cap of $0.50 an image"),
        (1_000_001, 2, None, "$1.000001 for 2 pictures, more than the cap of $0.50 an image"),
        (60_000, 1, 50_000, "$0.06, more than --max-price $0.05"),
    ],
)
def test_the_refusal_names_both_sums(total: int, n: int, max_price: int | None, words: str) -> None:
    """The error says what it costs, what is allowed, and the flag that would allow it."""
    with pytest.raises(BudgetError) as caught:
        check_price(total, n, DEFAULT_CAPS, max_price)

    assert words in caught.value.what
    assert caught.value.do.startswith("Nothing was signed. Allow ")
    assert "--max-price $" in caught.value.do


@pytest.mark.parametrize(
    ("total", "listed", "surprising"),
    [
        (52_500, 52_500, False),
        (53_500, 52_500, False),
        (78_750, 52_500, False),  # half as much again, exactly
        (78_751, 52_500, True),
        (31_501, 21_000, False),  # more than half as much again, and not two cents more
        (41_000, 21_000, False),  # two cents more, exactly
        (41_001, 21_000, True),
        (1, 0, False),
        (20_001, 0, True),
        (1_000, 52_500, False),
        (10**12, None, False),
    ],
)
def test_a_quote_far_above_the_list_is_refused(total: int, listed: int | None, surprising: bool) -> None:
    """More than half as much again *and* more than two cents: then the user has to say so."""
    assert surprising == refuses(check_surprise, total, listed, None)


@given(amounts, amounts)
def test_no_surprise_where_the_user_named_a_price(total: int, listed: int) -> None:
    """--max-price is the user's own judgement of the quote; the list has no say then."""
    assert not refuses(check_surprise, total, listed, total)


@given(amounts, amounts, amounts, amounts, amounts)
def test_session_and_day_are_never_passed(total: int, session: int, day: int, session_cap: int, day_cap: int) -> None:
    """What is committed and what comes on top stay within both caps, to the micro-dollar."""
    caps = Caps(session=session_cap, day=day_cap)
    expected = session + total > session_cap or day + total > day_cap

    assert expected == refuses(check_caps, total, Committed(session, day), caps)


@pytest.mark.parametrize(
    ("committed", "name", "cap", "spent"),
    [(Committed(4_990_000, 0), "session", "$5.00", "$4.99"), (Committed(0, 19_990_000), "day", "$20.00", "$19.99")],
)
def test_the_refusal_names_the_cap(committed: Committed, name: str, cap: str, spent: str) -> None:
    """The error says which cap, how full it is, and the command that raises it far enough."""
    with pytest.raises(BudgetError) as caught:
        check_caps(20_000, committed, DEFAULT_CAPS)

    assert f"this {name}'s cap of {cap} ({spent} is spent or at risk)" in caught.value.what
    assert f"`%blockrun budget --{name} " in caught.value.do
