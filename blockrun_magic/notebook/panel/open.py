"""How the panel is come by: one for each kernel, whoever asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError

if TYPE_CHECKING:
    from blockrun_magic.notebook.context import Context
    from blockrun_magic.notebook.panel.panel import Panel

__all__ = ["open_panel"]


def open_panel(context: Context) -> Panel:
    """Return the panel of the kernel's session, opened now if there is none; raises BlockrunError in a terminal."""
    from blockrun_magic.notebook.display.output import is_terminal
    from blockrun_magic.notebook.panel.panel import Panel

    if is_terminal(context.shell):
        raise _no_notebook()
    session = context.session
    if session.panel is None or session.panel.closed:
        session.panel = Panel(context)
    return session.panel


def _no_notebook() -> BlockrunError:
    return BlockrunError(
        "The panel needs a notebook to be shown in.",
        "Open JupyterLab, Notebook, VS Code or Colab; here, %imagegen and %img2img do the same.",
    )
