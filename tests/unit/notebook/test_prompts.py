"""Many prompts: from the lines of a cell, or from a variable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.cells.prompts import prompts_from, prompts_of_lines


def test_every_line_with_words_is_a_prompt() -> None:
    """Blank lines are skipped; repeated lines stay."""
    assert ["a fox", "a cat", "a fox"] == prompts_of_lines("a fox\n\n  a cat \n\t\na fox")


def test_no_line_is_an_error() -> None:
    """A cell of blank lines is refused."""
    with pytest.raises(FlagError):
        prompts_of_lines("\n \n")


@pytest.mark.parametrize("value", [["a fox", "a cat"], ("a fox", "a cat"), np.array(["a fox", "a cat"])])
def test_a_list_and_a_tuple_hold_prompts(value: Any) -> None:
    """Lists, tuples and arrays hold prompts."""
    assert ["a fox", "a cat"] == prompts_from("animals", {"animals": value})


@pytest.mark.parametrize("text", ["df.prompt", 'df["prompt"]', "df['prompt']", "column"])
def test_a_column_holds_prompts(text: str) -> None:
    """A DataFrame column can be named as an attribute, as an item, or through a variable."""
    import pandas as pd

    frame = pd.DataFrame({"prompt": ["a fox", "a cat"], "k": [1, 2]})

    assert ["a fox", "a cat"] == prompts_from(text, {"df": frame, "column": frame["prompt"]})


@pytest.mark.parametrize(
    ("text", "value", "what", "do"),
    [
        ("animls", ["a"], "'animls'", "animals"),
        ("animals", 5, " int", "list"),
        ("animals", "a fox", " str", "list"),
        ("animals", {"a": 1}, " dict", "list"),
        ("animals", ["a", 5], "Item 1 of animals is '5'", ""),
        ("animals", ["a", " "], "Item 1 of animals", ""),
        ("animals", [], "--prompts", ""),
        ("animals", ["a"] * 1001, "1001", "1000"),
        ("animals.x", {"y": ["a"]}, "'x'", ""),
        ("animals()", ["a"], "'animals()'", "df.prompt"),
    ],
)
def test_what_is_no_list_of_prompts_is_refused(text: str, value: Any, what: str, do: str) -> None:
    """Each refusal names the problem, and most suggest a fix."""
    with pytest.raises(FlagError) as error:
        prompts_from(text, {"animals": value})

    assert what in error.value.message
    assert do in error.value.hint
