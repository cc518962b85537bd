"""TODO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.notebook.display.results import _Picture

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

if TYPE_CHECKING:
    from blockrun_magic.notebook.display.cards import Card
    from blockrun_magic.notebook.panel.panel import Panel

__all__ = ["is_terminal", "show"]


def show(content: Card | Panel | _Picture) -> None:
    """Display `content` under the running cell."""
    from IPython.display import display

    display(content)


def is_terminal(shell: InteractiveShell) -> bool:
    """Return whether the shell is a terminal, which shows text only."""
    return not hasattr(shell, "kernel")
