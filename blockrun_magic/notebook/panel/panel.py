"""The whole panel: its parts in two columns, the events between them, and closing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.form.form import Form
from blockrun_magic.notebook.panel.form.offer import Order
from blockrun_magic.notebook.panel.form.prices import Prices
from blockrun_magic.notebook.panel.form.sources import Sources
from blockrun_magic.notebook.panel.header import Header
from blockrun_magic.notebook.panel.images.view import ImageView
from blockrun_magic.notebook.panel.jobs import Jobs, Made
from blockrun_magic.notebook.panel.press import GoButton, Press
from blockrun_magic.notebook.panel.wallet import WalletTab
from blockrun_magic.notebook.panel.widgets import Notice, button, close_tree, html, row, show_if
from blockrun_magic.notebook.web.module import style
from blockrun_magic.studio import ImageResults
from blockrun_magic.threads import run_foreign, run_io
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from blockrun_magic.notebook.panel.images.dropped import FileSettings
    from blockrun_magic.payments.ledger.records import ListedImage

__all__ = ["Panel"]

_ECHO = 0.6
"""Seconds within which two presses are one double click, if the form is unchanged."""
_LAST_WORDS = 0.15
"""Seconds to wait for input that was typed before a press: the browser holds an input's changes back until the kernel
has answered the last one, and a press overtakes them."""
_PROMPTS = 40
_TEXT = "The panel of blockrun-magic. Run this cell in a notebook with widgets to open it."


class Panel:
    """The panel of one kernel: display it as often as you like, and `close()` it when you no longer need it."""

    def __init__(self, context: Context) -> None:
        self.closed = False
        self._context = context
        self._painter_open = self._painter_shown = False
        self._pressed: dict[GoButton, tuple[float, Hashable]] = {}
        self._preparing: dict[GoButton, asyncio.Lock] = {}
        context.session.studio_and_gateway()  # errors of the ledger or the gateway are raised before anything is shown
        self._notice = Notice()
        dispatcher = self._dispatcher = Dispatcher(context.session.loop_thread, self._notice.error)
        home, prices = blockrun_home(), Prices()
        self.header = Header(context, dispatcher, self._money_changed)
        self.wallet = WalletTab(context, dispatcher, self._money_changed)
        self.images = ImageView(context, dispatcher, prices, self._edit, self._use_settings)
        self.jobs = Jobs(context, dispatcher, self._on_result, self._on_refusal, self.images.index)
        self.generate = Form("imagegen", context, prices, dispatcher, home)
        self.edit = Form("img2img", context, prices, dispatcher, home)
        self.sources = Sources(context, dispatcher, self.edit.refresh, self._paint)
        self._swap = button("Show the image", "Switch between the painter and the image")
        self.edit.with_sources, self.edit.sources = self.sources.with_sources, self.sources.words
        self.images.actions.edit_model = lambda: str(self.edit.model.value)
        self._tabs = light.Tab(
            [
                _form(self.generate.box),
                _form(self.sources.box, self.edit.box),
                self.images.gallery,
                self.wallet.box,
            ],
            titles=("Generate", "Edit", "Gallery", "Wallet"),
        )
        self._tabs.add_class("brm-tabs")
        self.box = self._layout()
        self._connect()

    def _layout(self) -> widgets.VBox:
        left, right = (
            light.VBox([self._tabs]),
            light.VBox([self.jobs.box, self.images.dropped, row(self._swap), self.sources.pad_box, self.images.box]),
        )
        left.add_class("brm-left")
        right.add_class("brm-right")
        columns = light.Box([left, right])
        columns.add_class("brm-columns")
        styles = html(f"<style>{style('panel.css', 'images.css')}</style>", "brm-page-parts")
        box = light.VBox([styles, self.header.box, self._notice.box, columns])
        box.add_class("brm-panel")
        return box

    def _connect(self) -> None:
        dispatcher, actions = self._dispatcher, self.images.actions
        self._on_press(self.generate.offer.button, lambda press: self._order_form(self.generate, press))
        self._on_press(self.edit.offer.button, lambda press: self._order_form(self.edit, press))
        self._on_press(actions.vary.button, lambda press: actions.variation(press.agreed))
        self._on_press(
            actions.apply.button, lambda press: actions.follow_up(press.agreed, press.prompt or actions.words)
        )
        dispatcher.on_change(self.edit.model, self._edit_model_changed)
        dispatcher.on_click(self._swap, lambda: self._show_painter(shown=not self._painter_shown))
        self._show_painter(shown=False)
        self._context.shell.events.register("post_run_cell", self._cell_ran)
        dispatcher.schedule(self._initial_refresh)

    # -- presses

    def _on_press(self, go: GoButton, order: Callable[[Press], Awaitable[Order]]) -> None:
        go.on_press(lambda press: self._dispatcher.schedule(lambda: self._start(go, press, order)))

    async def _start(self, go: GoButton, press: Press, order: Callable[[Press], Awaitable[Order]]) -> None:
        """Make the images of a press; the second half of a double click does not count."""
        at, words = self._pressed.get(go, (-_ECHO, None))
        if not press.changed and abs(press.at - at) < _ECHO and words == self._words(go, press):
            return
        self._pressed[go] = press.at, self._words(go, press)
        async with self._preparing.setdefault(go, asyncio.Lock()):  # a press that was sent before is first in line
            await self._prepare(go, press, order)

    async def _prepare(self, go: GoButton, press: Press, order: Callable[[Press], Awaitable[Order]]) -> None:
        """Start the job of a press, or show why it cannot start."""
        form = self._form_of(go)
        notice = form.notice if form else self.images.actions.notice
        notice.clear()
        go.disabled = True
        try:
            await self.jobs.start(await order(press))
        except BlockrunError as error:
            if form is None:
                notice.error(error, error.hint)
            else:
                form.refuse(error)
        finally:
            go.disabled = False

    async def _order_form(self, form: Form, press: Press) -> Order:
        if press.prompt is not None and press.prompt != form.prompt.value:
            form.prompt.value = press.prompt
        await asyncio.sleep(_LAST_WORDS)
        flags, plan = await run_foreign(form.plan)
        if form is self.edit:
            plan = await self.sources.apply_to(plan)
        return Order(flags, plan, press.agreed, self.sources.parent if form is self.edit else None)

    def _words(self, go: GoButton, press: Press) -> Hashable:
        form = self._form_of(go)
        return press.prompt, press.agreed, form.words() if form else self.images.shown

    def _form_of(self, go: GoButton) -> Form | None:
        return next((form for form in (self.generate, self.edit) if form.offer.button is go), None)

    # -- events

    async def _initial_refresh(self) -> None:
        await self._edit_model_changed()
        parts = (
            self.header.refresh,
            self.wallet.refresh,
            self.generate.refresh,
            self.edit.refresh,
            self.sources.refresh_variables,
            self.images.show_newest,
            self._offer_prompts,
        )
        await asyncio.gather(*map(self._dispatcher.guarded, parts))

    async def _offer_prompts(self) -> None:
        prompts = await run_io(self.images.index().recent_prompts, _PROMPTS)
        for form in (self.generate, self.edit):
            form.helping.offer_recent(prompts)

    async def _on_result(self, made: Made | None) -> None:
        """Show the images of a job, and the spend."""
        await self.header.show()
        if made is not None:
            self.images.actions.clear_words()
            self._show_painter(shown=False)
            results = made if isinstance(made, ImageResults) else [made]
            await self.images.show_purchases([result.receipt.purchase_id for result in results])
        await asyncio.gather(
            *map(self._dispatcher.guarded, (self.sources.refresh_variables, self._offer_prompts, self.header.refresh))
        )

    async def _on_refusal(self, _: BlockrunError) -> None:
        """Ask for the prices again: a refused request may cost more by now, and the buttons show it."""
        for form in (self.generate, self.edit):
            await form.refresh(again=True)
        await self.images.actions.refresh_prices(again=True)

    def _paint(self, shown: bool) -> None:
        if hasattr(self, "box"):
            self._painter_open = shown
            self._show_painter(shown=shown)

    def _show_painter(self, *, shown: bool) -> None:
        """Show the painter in the right column, or the image."""
        self._painter_shown = shown
        show_if(self.sources.pad_box, shown)
        show_if(self.images.box, not shown)
        show_if(self._swap, self._painter_open)
        self._swap.description = "Show the image" if shown else "Back to the painter"

    async def _edit(self, entry: ListedImage, path: Path, paint: bool) -> None:
        self._tabs.selected_index = 1
        await self.sources.use(str(path), f"{entry.prompt} (from the gallery)", paint=paint, parent=entry.key)

    async def _use_settings(self, settings: FileSettings) -> None:
        form = self.generate
        form.prompt.value = settings.prompt
        model = self._context.catalog.find(settings.model) if settings.model else None
        if model is not None:
            form.model.value = model.id
        if settings.size in form.size.options:
            form.size.value = settings.size
        self._tabs.selected_index = 0

    async def _edit_model_changed(self) -> None:
        await self.sources.model_changed(self._context.catalog.find(self.edit.model.value))
        await self.images.actions.refresh_prices()

    async def _money_changed(self) -> None:
        await self._initial_refresh()

    def _cell_ran(self, *_: Any) -> None:
        # The cell may have spent money, made images, or changed limits or the gateway.
        self._dispatcher.schedule(self._refresh_light)

    async def _refresh_light(self) -> None:
        await self.header.show()
        self.images.gallery.refresh()
        await self.images.show_newest(only_if_empty=True)
        await self.sources.refresh_variables()

    # -- display

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if self.closed:
            display({"text/plain": "This panel was closed; `%blockrun panel` opens another."}, raw=True)
            return
        bundle = dict(self.box._repr_mimebundle_())
        display({**bundle, "text/plain": _TEXT}, raw=True)

    def close(self) -> None:
        """Remove the panel with everything it holds in the kernel; purchases that are already paid continue."""
        if self.closed:
            return
        self.closed = True
        with suppress(ValueError):
            self._context.shell.events.unregister("post_run_cell", self._cell_ran)
        for part in (self.jobs, self.sources, self.wallet, self.images.actions):
            part.close()
        close_tree(self.box)
        light.close_shared()


def _form(*boxes: widgets.Widget) -> widgets.VBox:
    box = light.VBox(boxes)
    box.add_class("brm-form")
    return box
