"""Actions for the image on the stage, each one click away."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError, FlagError, SourceError
from blockrun_magic.images.media_types import suffix_of
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.plan import RequestPlan, plan_requests
from blockrun_magic.notebook.cells.rerun import cell_notes, cell_of
from blockrun_magic.notebook.display.cards import Table
from blockrun_magic.notebook.display.receipts import receipt_rows
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.form.helpers import check_words
from blockrun_magic.notebook.panel.form.offer import Offer, Order
from blockrun_magic.notebook.panel.widgets import Notice, button, close_tree, field, html, row, show_if
from blockrun_magic.threads import run_io
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from blockrun_magic.notebook.context import Context
    from blockrun_magic.notebook.panel.dispatcher import Dispatcher
    from blockrun_magic.notebook.panel.form.prices import Prices
    from blockrun_magic.payments.ledger.records import ListedImage
    from blockrun_magic.studio.gallery import ImageIndex

__all__ = ["Actions"]

_RECOMPOSE = "Show the same scene in this size: extend or recompose it, and keep subject, style and light."
_SAME_SIZE = "same size"

Show = Callable[["ListedImage | None"], Awaitable[None]]


class Actions:
    """Buttons for one image; `edit` puts it on the Edit tab, `show` shows another one on the stage."""

    def __init__(
        self,
        context: Context,
        dispatcher: Dispatcher,
        prices: Prices,
        index: Callable[[], ImageIndex],
        edit: Callable[[ListedImage, Path, bool], Awaitable[None]],
        show: Show,
    ) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._index = index
        self._edit = edit
        self._show = show
        self.entry: ListedImage | None = None
        self.edit_model: Callable[[], str] = lambda: context.catalog.default_model("edit")
        """Returns the id of the model for follow-ups; the panel sets it to that of the Edit tab."""
        self.compare: Callable[[ListedImage, ListedImage], Awaitable[None]] | None = None
        self.vary = Offer("Vary", "Make a variation of this image", context, prices)
        self.apply = Offer("Apply", "Edit this image with the prompt on the left", context, prices)
        self._follow = field(light.Text(description="Change this image", placeholder="make it night"), "brm-prompt")
        self._follow.continuous_update = False
        self._size = field(light.Dropdown(description="Size", options=[(_SAME_SIZE, "")]), "brm-short")
        self._star = button("☆ Star", "Star this image")
        self.notice = Notice()
        self._detail = html("", "brm-detail")
        self.box = light.VBox(
            [
                row(self._follow, self._size, self.apply.button, classes=("brm-follow", "brm-form")),
                row(self.vary.button, *self._free_buttons(), self._star, classes=("brm-actions",)),
                self.notice.box,
                self._detail,
            ]
        )
        show_if(self.box, visible=False)
        dispatcher.on_change(self._size, self.refresh_prices)

    def _free_buttons(self) -> list[widgets.Button]:
        actions = (
            ("Edit", "Paint a mask over this image", lambda: self._to_edit(paint=True)),
            ("Before/after", "Compare with the image it was made from", self._before),
            ("Use as source", "Edit this image on the Edit tab", lambda: self._to_edit(paint=False)),
            ("Save", "Save the original in the notebook's folder", self._save),
            ("Receipt", "How it was paid for", self._show_receipt),
            ("Copy as cell", "The cell that makes this image", self._show_cell),
            ("Delete", "Remove it from the gallery; file and receipt stay", self._delete),
        )
        buttons = []
        for text, tooltip, do in actions:
            pressed = button(text, tooltip)
            self._dispatcher.on_click(pressed, do)
            buttons.append(pressed)
        self._dispatcher.on_click(self._star, self._toggle_star)
        return buttons

    def close(self) -> None:
        """Remove the widgets outside of the box."""
        for offer in (self.vary, self.apply):
            close_tree(offer.price)

    async def show(self, entry: ListedImage | None) -> None:
        """Offer the actions for `entry`."""
        self.entry = entry
        self._detail.value = ""
        self.notice.clear()
        show_if(self.box, entry is not None)
        if entry is None:
            return
        model = self._context.catalog.find(self.edit_model())
        own = f"{entry.image.width}x{entry.image.height}"
        sizes = [size for size in (model.sizes if model else ()) if size != own]
        self._size.options = [(_SAME_SIZE, ""), *((size, size) for size in sizes)]
        await self.show_star()
        await self.refresh_prices()

    async def refresh_prices(self, *, again: bool = False) -> None:
        """Show the current prices of Vary and Apply; with `again`, ask the gateway again."""
        if self.entry is None:
            return
        for offer, flags in ((self.apply, self._flags("x")), (self.vary, self._vary_flags())):
            try:
                plan = await run_io(self._plan, flags)
            except BlockrunError:
                offer.withdraw()
            else:
                self._dispatcher.schedule(partial(offer.show, plan, again=again))

    # -- actions that cost

    async def follow_up(self, agreed: int | None, words: str) -> Order:
        """Return the order of the follow-up box; raises FlagError without words."""
        text = words.strip() or (_RECOMPOSE if self._size.value else "")
        if not text:
            raise FlagError("The field is empty.", "Write what to change, such as: make it night.")
        check_words("img2img", text)
        flags = self._flags(text)
        return Order(flags, await run_io(self._plan, flags), agreed, self.entry.key if self.entry else None)

    async def variation(self, agreed: int | None) -> Order:
        """Return the order of a variation."""
        flags = self._vary_flags()
        return Order(flags, await run_io(self._plan, flags), agreed, self.entry.key if self.entry else None)

    @property
    def words(self) -> str:
        """The text in the follow-up box."""
        return str(self._follow.value)

    def clear_words(self) -> None:
        """Empty the follow-up box."""
        self._follow.value = ""

    def _flags(self, text: str) -> Flags:
        entry = self.entry
        if entry is None:
            raise FlagError("There is no image.", "Choose one in the gallery.")
        catalog = self._context.catalog
        model = catalog.find(self.edit_model())
        own = f"{entry.image.width}x{entry.image.height}"
        size = self._size.value or (own if model and model.allows_size(own) else "")
        return Flags(
            prompt=text,
            models=(model.name,) if model else (),
            sizes=(size,) if size else (),
            images=(str(self._index().path(entry)),),
        )

    def _vary_flags(self) -> Flags:
        flags = self._flags("")
        return Flags(prompt="", vary=True, models=flags.models, sizes=flags.sizes, images=flags.images)

    def _plan(self, flags: Flags) -> RequestPlan:
        return plan_requests("img2img", flags, self._context.catalog, {}, blockrun_home())

    # -- free of charge

    async def _to_edit(self, *, paint: bool) -> None:
        if self.entry is not None:
            await self._edit(self.entry, self._index().path(self.entry), paint)

    async def _before(self) -> None:
        if self.entry is None or self.compare is None:
            return
        source = await run_io(self._index().source, self.entry)
        if source is None:
            self.notice.info("This image was made from a prompt alone: there is no image before it.")
        else:
            await self.compare(source, self.entry)

    async def _toggle_star(self) -> None:
        if self.entry is not None:
            starred = self.entry.key in await run_io(self._starred)
            await run_io(self._index().star, self.entry.key, starred=not starred)
            await self.show_star()

    async def show_star(self) -> None:
        """Show whether the image has a star."""
        starred = self.entry is not None and self.entry.key in await run_io(self._starred)
        self._star.description = "★ Starred" if starred else "☆ Star"

    def _starred(self) -> frozenset[str]:
        return frozenset(self._index().starred)

    async def _delete(self) -> None:
        if self.entry is not None:
            await run_io(self._index().hide, self.entry.key)
            await self._show(None)

    async def _show_cell(self) -> None:
        if self.entry is None:
            return
        text, note = await run_io(self._cell, self.entry)
        self._detail.value = (
            '<div class="brm-quiet">Copy this into a cell: it shows this image again and costs nothing.'
            ' <button type="button" class="brm-copy">Copy</button></div>'
            f'<pre class="brm-code" tabindex="0">{escape(text)}</pre><div class="brm-quiet">{escape(note)}</div>'
        )

    def _cell(self, entry: ListedImage) -> tuple[str, str]:
        recorded = cell_notes(blockrun_home()).get(entry.purchase.id, {})
        return cell_of(self._context, self._context.session.studio, entry.purchase, recorded)

    async def _show_receipt(self) -> None:
        if self.entry is not None:
            rows = await run_io(receipt_rows, self._index().path(self.entry))
            self._detail.value = Table(("", ""), rows, title="Receipt", left=2).html

    async def _save(self) -> None:
        if self.entry is not None:
            path = await run_io(_write_beside, self._index().original(self.entry), self.entry)
            self.notice.info(f"Saved as {path.name} in {path.parent}.")


def _write_beside(data: bytes, entry: ListedImage) -> Path:
    """Write a new file in the notebook's folder, never over another; raises SourceError."""
    model = str(entry.purchase.request["model"]).rpartition("/")[2]
    stem = f"{model}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(entry.purchase.purchased_at))}"
    folder, suffix = Path.cwd(), suffix_of(entry.image.media_type)
    for number in range(1, 1000):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            continue
        except OSError as error:
            raise SourceError(
                f"{path} cannot be written: {error.strerror}.", "Check the folder's space and permissions."
            ) from error
        return path
    raise SourceError(f"{folder} has too many files of this name.", "Remove some of them.")
