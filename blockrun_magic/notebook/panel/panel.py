"""The panel as a whole: its parts in their places, what happens between them, and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from contextlib import suppress
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import format_amount
from blockrun_magic.notebook.display.thumbnails import data_uri, kept_image
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.form import Form
from blockrun_magic.notebook.panel.gallery import Entry, Gallery
from blockrun_magic.notebook.panel.header import Header
from blockrun_magic.notebook.panel.jobs import Jobs
from blockrun_magic.notebook.panel.prices import Prices
from blockrun_magic.notebook.panel.sources import Sources
from blockrun_magic.notebook.panel.still import leaves_a_still, still_html
from blockrun_magic.notebook.panel.widgets import Notice, close_tree, html
from blockrun_magic.payments.ledger.reports import spending_summary
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from IPython.core.display_functions import DisplayHandle

    from blockrun_magic.studio import ImageResult, ImageResults

__all__ = ["Panel"]

_DOUBLE_CLICK = 0.6
"""Seconds within which a second press of a button, with the form unchanged, is the first one's echo."""
_LAST_WORDS = 0.15
"""Seconds to wait for what was typed before a press: the browser holds an input's changes back while the kernel has
not answered the one before, and a press overtakes them."""
_STILL_SIDE = 384
_STILLS = 4
_PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


class Panel:
    """The panel of one kernel: `display` it as often as you like, `close()` it when it is no longer wanted."""

    def __init__(self, context: Context) -> None:
        self.closed = False
        self._context = context
        self._pressed: dict[str, tuple[float, Hashable]] = {}
        self._stills: list[DisplayHandle] = []
        self._said_by_stills: tuple[Entry | None, str] | None = None
        context.session.studio_and_gateway()  # what is wrong with ledger or gateway is said before anything is shown
        self._notice = Notice()
        dispatcher = self._dispatcher = Dispatcher(context.session.bridge, self._notice.error)
        home, prices = blockrun_home(), Prices()
        self.header = Header(context, dispatcher, self._gateway_changed)
        self.jobs = Jobs(context, dispatcher, self._on_result)
        self.gallery = Gallery(context, dispatcher, self._use)
        self.generate = Form("imagegen", context, prices, dispatcher, home)
        self.edit = Form("img2img", context, prices, dispatcher, home)
        self.sources = Sources(context, dispatcher, self.edit.refresh)
        self.edit.named = self.sources.with_sources
        self._tabs = widgets.Tab(
            [_form(self.generate.box), _form(self.sources.box, self.edit.box)], titles=("Generate", "Edit")
        )
        self.box = widgets.VBox(
            [_page_parts(), self.header.box, self._notice.box, self._tabs, self.jobs.box, self.gallery.box]
        )
        self.box.add_class("brm-panel")
        self._connect()

    def _connect(self) -> None:
        dispatcher = self._dispatcher
        dispatcher.on_click(self.generate.go, lambda: self._start(self.generate))
        dispatcher.on_click(self.edit.go, lambda: self._start(self.edit))
        dispatcher.on_change(self.edit.model, self._edit_model_changed)
        self._context.shell.events.register("post_run_cell", self._cell_ran)
        dispatcher.schedule(self._initial_refresh)

    # -- what happens

    async def _initial_refresh(self) -> None:
        await self._edit_model_changed()
        await asyncio.gather(
            *map(
                self._dispatcher.guarded,
                (self.header.refresh, self.generate.refresh, self.edit.refresh, self._reload_gallery),
            )
        )

    async def _start(self, form: Form) -> None:
        """Make what a form says; a double click is one click."""
        now = time.monotonic()
        before, words = self._pressed.get(form.magic, (-_DOUBLE_CLICK, None))
        if form.go.disabled or (now - before < _DOUBLE_CLICK and words == self._words(form)):
            return
        form.notice.clear()
        form.go.disabled = True
        try:
            await asyncio.sleep(_LAST_WORDS)
            self._pressed[form.magic] = now, self._words(form)
            flags, wish = await asyncio.to_thread(form.wish)
            if form is self.edit:
                wish = await asyncio.to_thread(self.sources.apply_to, wish)
        except BlockrunError as error:
            form.notice.error(error)
        else:
            self.jobs.start(flags, wish)
        finally:
            form.go.disabled = False

    def _words(self, form: Form) -> Hashable:
        return form.words(), self.sources.words() if form is self.edit else None

    async def _on_result(self, result: ImageResult | ImageResults | None) -> None:
        """Show what a job brought, and what it cost."""
        self.header.show_spend()
        self.sources.refresh_variables()
        await self.gallery.refresh(newest=result is not None)
        await self._renew_stills()
        await self.header.refresh()

    async def _use(self, entry: Entry, path: Path) -> None:
        await self.sources.use(str(path), f"{entry.prompt} (from the gallery)")
        self._tabs.selected_index = 1

    async def _edit_model_changed(self) -> None:
        await self.sources.model_changed(self._context.catalog.find(self.edit.model.value))

    async def _gateway_changed(self) -> None:
        await self._initial_refresh()

    def _cell_ran(self, *_: Any) -> None:
        # It may have spent, made pictures, changed caps or gateway.
        self._dispatcher.schedule(self._refresh_light)

    async def _refresh_light(self) -> None:
        self.header.show_spend()
        self.sources.refresh_variables()
        await self._reload_gallery()

    async def _reload_gallery(self) -> None:
        await self.gallery.refresh()
        await self._renew_stills()

    # -- how it is shown

    def _ipython_display_(self) -> None:
        from IPython.display import DisplayHandle, display

        if self.closed:
            display({"text/plain": "This panel was closed; `%blockrun panel` opens another."}, raw=True)
            return
        if leaves_a_still():
            still = DisplayHandle()
            still.display(self._still(), raw=True)
            self._stills = [*self._stills[1 - _STILLS :], still]
        bundle = dict(self.box._repr_mimebundle_())
        display({**bundle, "text/plain": "The panel of blockrun-magic; it needs a notebook with widgets."}, raw=True)

    async def _renew_stills(self) -> None:
        if not self._stills or self._said_by_stills == self._state():
            return
        still = await asyncio.to_thread(self._still)
        for handle in self._stills:
            handle.update(still, raw=True)

    def _state(self) -> tuple[Entry | None, str]:
        """Return what a still shows: the large picture, and what was spent in words."""
        studio, gateway = self._context.session.studio_and_gateway()
        sums = spending_summary(studio.ledger, gateway.realm, "session")
        return self.gallery.chosen, f"Spent in that session: {format_amount(sums.settled, gateway.realm)}."

    def _still(self) -> dict[str, str]:
        self._said_by_stills = entry, words = self._state()
        studio, picture = self._context.session.studio, None
        if entry is not None:
            with suppress(BlockrunError):
                picture = data_uri(kept_image(studio.store, entry.image), _STILL_SIDE)
        text = "The panel of blockrun-magic. Run the cell to open it."
        return {"text/html": still_html(picture, entry.prompt if entry else "", words), "text/plain": text}

    def close(self) -> None:
        """Take the panel away, with everything it keeps in the kernel; what is being paid for goes on."""
        if self.closed:
            return
        self.closed = True
        with suppress(ValueError):
            self._context.shell.events.unregister("post_run_cell", self._cell_ran)
        for part in (self.jobs, self.sources):
            part.close()
        close_tree(self.box)


def _form(*boxes: widgets.Widget) -> widgets.VBox:
    box = widgets.VBox(boxes)
    box.add_class("brm-form")
    return box


def _page_parts() -> widgets.HTML:
    """Return our style sheet and script; the script starts when its picture, one pixel, is loaded."""
    here = files(__package__)
    style, script = (here.joinpath(name).read_text("utf-8") for name in ("panel.css", "panel.js"))
    start = escape(f"{script}\npanel(this)")
    return html(f'<style>{style}</style><img alt="" hidden src="{_PIXEL}" onload="{start}">', "brm-page-parts")
