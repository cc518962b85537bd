"""`%blockrun styles`: the styles for `--style`."""

from __future__ import annotations

from collections.abc import Sequence

from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Table

__all__ = ["styles"]


def styles(_context: Context, words: Sequence[str]) -> Card:
    """Return the styles that `--style` knows, and where to add your own."""
    from blockrun_magic.notebook.cells.styles import load_styles, styles_file
    from blockrun_magic.wiring import blockrun_home

    wanted = " ".join(words).lower()
    rows = [
        (style.name, style.look, style.words)
        for style in load_styles(blockrun_home()).values()
        if wanted in f"{style.name} {style.look} {style.words}".lower()
    ]
    note = f"Add your own in {styles_file(blockrun_home())}."
    return Table(("--style", "looks like", "adds to the prompt"), rows, note=note, left=3)
