"""Small widgets from which the panel is built."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, TypeVar

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.hints import panel_lines

__all__ = ["Notice", "button", "close_tree", "field", "html", "row", "section", "show_if"]

W = TypeVar("W", bound=widgets.DOMWidget)
_HIDDEN = "brm-hidden"


class Notice:
    """An error's two lines, or a confirmation; it takes no room when empty."""

    def __init__(self) -> None:
        self.box = html("", "brm-notice")
        self.clear()

    def clear(self) -> None:
        """Show nothing."""
        self.box.value = ""
        show_if(self.box, False)

    def error(self, error: BlockrunError, hint: str = "") -> None:
        """Show the error, with `hint` or the panel's own."""
        self.problem(*panel_lines(error, hint))

    def problem(self, message: str, hint: str) -> None:
        """Show the two lines of an error."""
        self.html(f'<div role="alert" class="brm-error"><b>{escape(message)}</b><br>{escape(hint)}</div>')

    def info(self, text: str) -> None:
        """Show `text`."""
        self.html(f'<div role="status" class="brm-quiet">{escape(text)}</div>')

    def html(self, content: str) -> None:
        """Show HTML, which is ours or escaped."""
        self.box.value = content
        show_if(self.box, True)


def html(value: str = "", *classes: str) -> widgets.HTML:
    """Return an HTML widget; `value` is ours or escaped."""
    return light.HTML(value, _dom_classes=classes)


def button(text: str, tooltip: str = "", *classes: str) -> widgets.Button:
    """Return a button as wide as its text."""
    return light.Button(description=text, tooltip=tooltip or text, _dom_classes=("brm-button", *classes))


def field(widget: W, *classes: str) -> W:
    """Return an input with its label above it."""
    widget._dom_classes = ("brm-field", *classes)  # noqa: SLF001  add_class sends a message for each class
    return widget


def row(*children: widgets.Widget, classes: tuple[str, ...] = ()) -> widgets.Box:
    """Return widgets in a row that wraps in a narrow panel."""
    return light.Box(children, _dom_classes=("brm-row", *classes))


def section(title: str, *children: widgets.Widget, open_now: bool = False) -> widgets.Accordion:
    """Return widgets under a title that folds."""
    return light.Accordion([light.VBox(children)], titles=(title,), selected_index=0 if open_now else None)


def show_if(widget: widgets.DOMWidget, visible: bool) -> None:
    """Show `widget`, or take it out of the page."""
    if visible:
        widget.remove_class(_HIDDEN)
    else:
        widget.add_class(_HIDDEN)


def close_tree(widget: widgets.Widget) -> None:
    """Close `widget`, its children, and any layout or style of its own: nothing of it remains in the kernel."""
    for part in {part.model_id: part for part in _tree(widget)}.values():
        part.unobserve_all()
        part.close()


def _tree(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    if widget.comm is None:
        return
    yield widget
    for name in ("layout", "style"):
        part: Any = getattr(widget, name, None)
        if isinstance(part, widgets.Widget) and not light.is_shared(part):
            yield part
    for child in getattr(widget, "children", ()):
        yield from _tree(child)
