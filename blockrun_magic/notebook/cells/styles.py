"""Named styles, shipped and the user's own: words that `--style NAME` appends to a prompt."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from blockrun_magic.errors import FlagError
from blockrun_magic.files import read_file
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["Style", "load_styles", "styled", "styles_file"]

_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Style:
    """One style: its name, its look, and the words it adds."""

    name: str
    look: str
    words: str


def styles_file(home: Path) -> Path:
    """Return the path of the user's own styles, which may not exist; `home` is the folder of `blockrun_home`."""
    return home / "magic" / "styles.toml"


def load_styles(home: Path) -> dict[str, Style]:
    """Return every style by name, the user's own in place of ours; raises FlagError for a broken file."""
    shipped = tomllib.loads(files(__package__).joinpath("styles.toml").read_text("utf-8"))
    styles = _styles(shipped, "the shipped styles")
    own = styles_file(home)
    if own.exists():
        try:
            styles |= _styles(tomllib.loads(read_file(own, _MAX_BYTES).decode()), str(own))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise FlagError(f"{own} cannot be read: {error}.", "Correct the file, or move it elsewhere.") from error
    return styles


def styled(prompt: str, name: str, home: Path) -> str:
    """Return `prompt` with the words of the style after a comma; raises FlagError for an unknown style."""
    styles = load_styles(home)
    style = styles.get(name) or styles.get(name.lower().replace("colour", "color"))  # codespell:ignore colour
    if style is None:
        raise FlagError(
            f"There is no style {quoted(name)}.", f"{did_you_mean(name, styles)}`%blockrun styles` lists them all."
        )
    return f"{prompt.rstrip().rstrip('.,')}, {style.words}"


def _styles(table: Mapping[str, Any], source: str) -> dict[str, Style]:
    styles = {}
    for name, entry in table.items():
        words = entry.get("words") if isinstance(entry, dict) else None
        if not isinstance(words, str) or not words.strip():
            raise FlagError(
                f"The style {quoted(name)} in {source} has no words.", f'Write [{name}] and words = "..." below it.'
            )
        styles[name] = Style(name, str(entry.get("look", "")), words.strip())
    return styles
