"""Lightweight versions of the ipywidgets that the panel uses: one layout and one style for all of a kind.

A widget of ipywidgets creates a layout and usually a style, each a widget with its own messages. Style sheets replace
them here, so that the panel has half as many widgets and opens in half the time.
"""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
import traitlets

__all__ = [
    "HTML",
    "Accordion",
    "BoundedIntText",
    "Box",
    "Button",
    "Checkbox",
    "Dropdown",
    "FileUpload",
    "SelectionSlider",
    "Tab",
    "Text",
    "Textarea",
    "ToggleButtons",
    "VBox",
    "close_shared",
    "is_shared",
]

_shared: dict[type, widgets.Widget] = {}


def _the(kind: type) -> widgets.Widget:
    """Return the one widget of `kind`."""
    part = _shared.get(kind)
    if part is None:
        part = _shared[kind] = kind()
    return part


def is_shared(part: widgets.Widget) -> bool:
    """Return whether `part` is a layout or a style of many widgets."""
    return _shared.get(type(part)) is part


def close_shared() -> None:
    """Close the layout and the styles; call it when no widget uses them."""
    while _shared:
        _shared.popitem()[1].close()


class _Light(widgets.DOMWidget):  # type: ignore[misc]
    @traitlets.default("layout")
    def _default_layout(self) -> widgets.Widget:
        return _the(widgets.Layout)


class _Styled(_Light):
    @traitlets.default("style")
    def _default_style(self) -> widgets.Widget:
        return _the(type(self).style.klass)


def _light(kind: Any) -> Any:
    return type(kind.__name__, (_Styled if hasattr(kind, "style") else _Light, kind), {})


Accordion = _light(widgets.Accordion)
BoundedIntText = _light(widgets.BoundedIntText)
Box = _light(widgets.Box)
Button = _light(widgets.Button)
Checkbox = _light(widgets.Checkbox)
Dropdown = _light(widgets.Dropdown)
FileUpload = _light(widgets.FileUpload)
HTML = _light(widgets.HTML)
SelectionSlider = _light(widgets.SelectionSlider)
Tab = _light(widgets.Tab)
Text = _light(widgets.Text)
Textarea = _light(widgets.Textarea)
ToggleButtons = _light(widgets.ToggleButtons)
VBox = _light(widgets.VBox)
