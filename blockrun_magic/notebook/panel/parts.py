"""The small parts that the panel is put together from, and the one thread that they change on."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.loop import Bridge
from blockrun_magic.notebook.subshells import answer_while_cells_run

__all__ = ["Dispatcher", "Notice", "button", "close_tree", "field", "html", "row", "show_if"]

W = TypeVar("W", bound=widgets.DOMWidget)

Callback = Callable[[], Awaitable[None] | None]


class Dispatcher:
    """Runs the panel's callbacks on the bridge's loop, in the order in which they came.

    The kernel calls back on whatever thread it likes; after the panel is built, only this loop changes
    its widgets. What a callback raises goes to `report`, and is never printed.
    """

    def __init__(self, bridge: Bridge, report: Callable[[BlockrunError], None]) -> None:
        self._bridge = bridge
        self._report = report

    def soon(self, do: Callback) -> None:
        """Run `do` on the loop."""
        with suppress(RuntimeError):  # the kernel is going down
            self._bridge.submit(self.guarded(do))

    async def guarded(self, do: Callback) -> None:
        """Run `do` now, on the loop we are on."""
        try:
            doing = do()
            if inspect.isawaitable(doing):
                await doing
        except BlockrunError as error:
            self._report(error)
        except Exception as error:  # noqa: BLE001  a panel that dies silently helps nobody
            self._report(_own_failure(error))

    def on_click(self, pressed: widgets.Button, do: Callback) -> None:
        """Run `do` whenever `pressed` is."""
        answer_while_cells_run(pressed)
        pressed.on_click(lambda _: self.soon(do))

    def on_change(self, widget: widgets.Widget, do: Callback, trait: str = "value") -> None:
        """Run `do` whenever `trait` of `widget` has changed."""
        answer_while_cells_run(widget)
        widget.observe(lambda _: self.soon(do), trait)


def _own_failure(error: Exception) -> BlockrunError:
    """Return a bug of ours as two lines: where it is, and no values, which might be secret."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return BlockrunError(
        f"The panel failed: {type(error).__name__} in {Path(where.filename).name}, line {where.lineno}.",
        "What was paid for is in the ledger: see `%blockrun jobs`. Please report this line.",
    )


class Notice:
    """A place for an error's two lines, or a word of confirmation; empty, it takes no room."""

    def __init__(self) -> None:
        self.box = html("", "brm-notice")
        self.clear()

    def clear(self) -> None:
        """Say nothing."""
        self.box.value = ""
        show_if(self.box, False)

    def error(self, error: BlockrunError) -> None:
        """Say what happened and what to do."""
        self._say(
            f'<div role="alert" class="brm-error"><b>{escape(error.what)}</b><br>{escape(error.do)}</div>',
        )

    def tell(self, text: str) -> None:
        """Say `text`."""
        self._say(f'<div role="status" class="brm-quiet">{escape(text)}</div>')

    def _say(self, words: str) -> None:
        self.box.value = words
        show_if(self.box, True)


def html(value: str = "", *classes: str) -> widgets.HTML:
    """Return an HTML widget; `value` is ours or escaped."""
    return _classed(widgets.HTML(value), classes)


def button(text: str, tooltip: str = "", *classes: str) -> widgets.Button:
    """Return a button as wide as its words."""
    made = widgets.Button(description=text, tooltip=tooltip or text)
    return _classed(made, ("brm-button", *classes))


def field(widget: W, *classes: str) -> W:
    """Return an input with its label above it."""
    return _classed(widget, ("brm-field", *classes))


def row(*children: widgets.Widget, classes: tuple[str, ...] = ()) -> widgets.Box:
    """Return widgets in a row that wraps where it is narrow."""
    return _classed(widgets.Box(children), ("brm-row", *classes))


def show_if(widget: widgets.DOMWidget, wanted: bool) -> None:
    """Show `widget`, or take it out of the page."""
    widget.layout.display = None if wanted else "none"


def close_tree(widget: widgets.Widget) -> None:
    """Close `widget`, all that is in it, and its layout and style: nothing of it stays in the kernel."""
    for part in {part.model_id: part for part in _tree(widget)}.values():
        part.unobserve_all()
        part.close()


def _tree(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    if widget.comm is None:
        return
    yield widget
    for name in ("layout", "style"):
        part: Any = getattr(widget, name, None)
        if isinstance(part, widgets.Widget):
            yield part
    for child in getattr(widget, "children", ()):
        yield from _tree(child)


def _classed(widget: W, classes: tuple[str, ...]) -> W:
    for name in classes:
        widget.add_class(name)
    return widget
