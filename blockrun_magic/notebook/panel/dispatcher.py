"""Widget callbacks, run one after the other on the loop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.loop import LoopThread
from blockrun_magic.notebook.subshells import route_to_subshell
from blockrun_magic.unexpected import translated

__all__ = ["Dispatcher"]


Callback = Callable[[], Awaitable[None] | None]


class Dispatcher:
    """Runs the panel's callbacks on the loop, in the order of their events.

    The kernel may call back on any thread; after the panel is built, only this loop changes its widgets.
    Exceptions of a callback go to `report` and are never printed. A callback must not block the loop: work on files,
    images and variables belongs in `blockrun_magic.threads`.
    """

    def __init__(self, loop_thread: LoopThread, report: Callable[[BlockrunError], None]) -> None:
        self._loop_thread = loop_thread
        self._report = report

    def schedule(self, do: Callback) -> None:
        """Run `do` on the loop."""
        with suppress(RuntimeError):  # the kernel is shutting down
            self._loop_thread.submit(self.guarded(do))

    async def guarded(self, do: Callback) -> None:
        """Run `do` now, on the current loop."""
        try:
            doing = do()
            if inspect.isawaitable(doing):
                await doing
        except Exception as error:  # noqa: BLE001  this entrance is one of the door's
            self._report(translated(error))

    def on_click(self, pressed: widgets.Button, do: Callback) -> None:
        """Run `do` whenever `pressed` is."""
        route_to_subshell(pressed)
        pressed.on_click(lambda _: self.schedule(do))

    def on_change(self, widget: widgets.Widget, do: Callback, trait: str = "value") -> None:
        """Run `do` whenever `trait` of `widget` has changed."""
        route_to_subshell(widget)
        widget.observe(lambda _: self.schedule(do), trait)
