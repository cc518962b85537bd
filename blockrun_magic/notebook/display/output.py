"""Output under the running cell: displaying it, and finding out where it goes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Capture", "active_capture", "is_terminal", "render_as", "show"]


def show(content: object) -> None:
    """Display `content` under the running cell."""
    from IPython.display import display

    display(content)


def is_terminal(shell: InteractiveShell) -> bool:
    """Return whether the shell is a terminal, which shows text only."""
    return not hasattr(shell, "kernel")


@dataclass(frozen=True, slots=True)
class Capture:
    """Output that does not go under the cell; `widget` is the ipywidgets.Output that takes it, if there is one."""

    widget: Any = None

    def append(self, content: object) -> None:
        """Add `content` to the captured output, even after the cell has ended."""
        if self.widget is not None:
            self.widget.append_display_data(content)


def active_capture(shell: InteractiveShell) -> Capture | None:
    """Return the capture of the running cell's output, or None if the output goes under the cell.

    A captured display cannot be updated: an Output widget ignores the update, and `%%capture` repeats the display.
    """
    from IPython.core.displaypub import CapturingDisplayPublisher

    if isinstance(shell.display_pub, CapturingDisplayPublisher):
        return Capture()
    header = _parent_header(shell)
    widget = _output_widget(header.get("msg_id"))
    if widget is not None:
        return Capture(widget)
    return Capture() if header.get("msg_type") == "comm_msg" else None


def _parent_header(shell: InteractiveShell) -> dict[str, Any]:
    kernel: Any = getattr(shell, "kernel", None)
    parent = kernel.get_parent() if hasattr(kernel, "get_parent") else {}
    header = parent.get("header") if isinstance(parent, dict) else None
    return header if isinstance(header, dict) else {}


def _output_widget(message_id: str | None) -> Any:
    """Return the Output widget that the running cell has entered, or None."""
    module = sys.modules.get("ipywidgets.widgets.widget_output")
    if module is None or not message_id:
        return None
    widgets = sys.modules["ipywidgets.widgets.widget"]
    instances = getattr(widgets, "_instances", None) or getattr(widgets.Widget, "widgets", {})
    entered = [
        widget
        for widget in list(instances.values())
        if isinstance(widget, module.Output) and widget.msg_id == message_id
    ]
    return entered[-1] if entered else None


def render_as(error: BaseException, sentence: str) -> None:
    """Let IPython show `sentence` instead of the traceback of `error`."""
    error._render_traceback_ = lambda: [sentence]  # type: ignore[attr-defined]
