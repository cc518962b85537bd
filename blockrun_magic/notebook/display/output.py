"""What reaches the screen: one function shows, one tells a terminal from a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["is_terminal", "show"]


def show(content: object) -> None:
    """Display `content` under the running cell."""
    from IPython.display import display

    display(content)


def is_terminal(shell: InteractiveShell) -> bool:
    """Return whether the shell is a terminal, which shows text only."""
    return not hasattr(shell, "kernel")
