"""`--fill`: names in braces are replaced by the notebook's variables, and nothing else is evaluated."""

from __future__ import annotations

import string
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.cells.prompts import fill


def test_a_name_and_its_format_are_filled_in() -> None:
    """A format after the colon works as in Python."""
    filled = fill("{animal} number {k:03d}, {share:.0%}", {"animal": "fox", "k": 7, "share": 0.5})

    assert ["fox number 007, 50%"] == filled


def test_doubled_braces_mean_themselves() -> None:
    """Doubled braces stand for literal braces."""
    assert ["{x} fox"] == fill("{{x}} {a}", {"a": "fox"})


def test_lists_make_every_combination_the_first_name_slowest() -> None:
    """Several lists give every combination; the first name in the prompt changes slowest."""
    filled = fill("{a} {b} {a}", {"a": ["fox", "cat"], "b": (1, 2)})

    assert ["fox 1 fox", "fox 2 fox", "cat 1 cat", "cat 2 cat"] == filled


def test_a_series_is_a_list() -> None:
    """A pandas Series, an Index and an array work like a list."""
    import pandas as pd

    assert ["a 1", "a 2"] == fill("a {x}", {"x": pd.Series([1, 2])})
    assert ["a 1", "a 2"] == fill("a {x}", {"x": pd.Index([1, 2])})
    assert ["a 1", "a 2"] == fill("a {x}", {"x": np.array([1, 2])})


def test_values_with_a_text_of_their_own_are_filled_in() -> None:
    """Dates, decimals and paths are filled in as text."""
    values = [date(2026, 1, 2), Decimal("1.5"), Path("sea")]

    assert ["a 2026-01-02", "a 1.5", "a sea"] == fill("a {x}", {"x": values})


def test_functions_are_not_suggested() -> None:
    """The error suggests variables, not functions."""
    with pytest.raises(FlagError) as error:
        fill("{opers}", {"opener": open, "opera": "Carmen"})

    assert "opera" in error.value.hint
    assert "opener" not in error.value.hint


@pytest.mark.parametrize(
    ("prompt", "namespace", "what"),
    [
        ("a {animl}", {"animal": "fox"}, "'animl'"),
        ("a {}", {}, "''"),
        ("a {x", {"x": 1}, ""),
        ("a } b", {}, ""),
        ("{x:d}", {"x": "fox"}, "'{x:d}'"),
        ("{x}", {"x": []}, "x "),
        ("{x} {y}", {"x": range(100), "y": range(11)}, "1100"),
        ("a {x}", {"x": Image.new("RGB", (2, 2))}, "x is an Image"),
        ("a {x}", {"x": ["fox", None]}, "x is None"),
        ("a {x}", {"x": object()}, "x is an object"),
        ("a {x}", {"x": len}, "x is a builtin_function"),
        ("a {opn}", {"open": open, "In": [], "_x": 1}, "'opn'"),
    ],
)
def test_what_cannot_be_filled_is_refused(prompt: str, namespace: dict[str, object], what: str) -> None:
    """Each refusal names the problem."""
    with pytest.raises(FlagError) as error:
        fill(prompt, namespace)

    assert what in error.value.message


def test_a_misspelt_name_is_told_its_neighbour() -> None:
    """The error for an unknown name suggests the nearest variable."""
    with pytest.raises(FlagError) as error:
        fill("a {animl}", {"animal": "fox"})

    assert "Did you mean animal?" in error.value.hint


def test_attributes_and_items_are_never_followed() -> None:
    """Attributes, items and conversions are refused."""
    for prompt in ("{x.y}", "{x[0]}", "{x!r}"):
        with pytest.raises(FlagError):
            fill(prompt, {"x": "fox"})


@given(
    prompt=st.text(alphabet=st.sampled_from([*"{}: ", *string.ascii_lowercase[:5], *"é5.!r"]), max_size=40),
    namespace=st.dictionaries(st.sampled_from("abcde"), st.one_of(st.text(), st.integers(), st.lists(st.text()))),
)
def test_no_text_makes_anything_but_a_refusal(prompt: str, namespace: dict[str, object]) -> None:
    """Any prompt is either filled in or refused with a FlagError."""
    try:
        filled = fill(prompt, namespace)
    except FlagError:
        return

    assert all(isinstance(text, str) for text in filled)


@given(st.text())
def test_a_prompt_without_names_survives_doubled(text: str) -> None:
    """A prompt with all its braces doubled stays as it was."""
    assert [text] == fill(text.replace("{", "{{").replace("}", "}}"), {})
