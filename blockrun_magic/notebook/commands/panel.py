"""The panel, opened from a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.context import Context

if TYPE_CHECKING:
    from blockrun_magic.notebook.panel.panel import Panel

__all__ = ["panel"]


def panel(context: Context, words: Sequence[str]) -> Panel:
    """Return the kernel's panel, which shows itself."""
    from blockrun_magic.notebook.panel.open import open_panel

    if words:
        raise FlagError("`panel` takes no words.", "Write `%blockrun panel`; the rest is done with the mouse.")
    return open_panel(context)
