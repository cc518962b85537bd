"""Styles: the built-in ones, the user's own, and the words they add."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.cells.styles import load_styles, styled, styles_file


def test_a_dozen_good_styles_ship(home: Path) -> None:
    """At least twelve styles are built in, each with a look and words."""
    styles = load_styles(home)

    assert len(styles) >= 12
    assert all(style.look and style.words for style in styles.values())


def test_a_style_appends_its_words(home: Path) -> None:
    """The style's words follow the prompt after a comma, which replaces a final period."""
    words = load_styles(home)["ink"].words

    assert f"a fox, {words}" == styled("a fox.", "ink", home)
    assert f"a fox, {words}" == styled("a fox", "INK", home)


def test_the_users_styles_add_and_override(home: Path) -> None:
    """A user's style is added, or replaces the built-in style of the same name."""
    own = styles_file(home)
    own.parent.mkdir(parents=True)
    own.write_text('[ink]\nwords = "my ink"\n[house]\nlook = "ours"\nwords = "blue and white"\n', "utf-8")

    assert "a fox, my ink" == styled("a fox", "ink", home)
    assert "a fox, blue and white" == styled("a fox", "house", home)


def test_an_unknown_style_names_its_neighbour(home: Path) -> None:
    """The error for an unknown style suggests the nearest one."""
    with pytest.raises(FlagError) as error:
        styled("a fox", "watercolr", home)

    assert "Did you mean watercolor?" in error.value.hint


@pytest.mark.parametrize("text", ["[ink\n", '[ink]\nlook = "no words"\n', "ink = 5\n", '[ink]\nwords = " "\n'])
def test_a_broken_file_is_named(home: Path, text: str) -> None:
    """A malformed style file is refused."""
    own = styles_file(home)
    own.parent.mkdir(parents=True)
    own.write_text(text, "utf-8")

    with pytest.raises(FlagError):
        load_styles(home)
