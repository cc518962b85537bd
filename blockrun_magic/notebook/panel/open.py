"""Opening of the panel; a kernel has at most one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError

if TYPE_CHECKING:
    from blockrun_magic.notebook.context import Context
    from blockrun_magic.notebook.panel.panel import Panel

__all__ = ["no_notebook", "open_panel"]


def open_panel(context: Context) -> Panel:
    """Return the panel of the kernel's session, opening it if necessary; raises BlockrunError in a terminal."""
    from blockrun_magic.notebook.display.output import is_terminal
    from blockrun_magic.notebook.panel.panel import Panel

    if is_terminal(context.shell):
        raise no_notebook()
    panel = context.panel
    if not isinstance(panel, Panel) or panel.closed:
        panel = context.panel = Panel(context)
    return panel


def no_notebook() -> BlockrunError:
    """Return the error for a shell that cannot show widgets."""
    return BlockrunError(
        "The panel needs a notebook.",
        "Open JupyterLab, Notebook, VS Code or Colab; here, %imagegen and %img2img do the same.",
    )
