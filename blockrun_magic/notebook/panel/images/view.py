"""The right column and the gallery: the images on the stage and their actions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.images.actions import Actions
from blockrun_magic.notebook.panel.images.dropped import FileSettings, settings_of
from blockrun_magic.notebook.panel.images.gallery import Gallery
from blockrun_magic.notebook.panel.images.stage import MAX_COMPARED, Stage
from blockrun_magic.notebook.panel.widgets import Notice, button, row, show_if
from blockrun_magic.payments.ledger.records import ImageFilter
from blockrun_magic.studio.gallery import ImageIndex, image_index
from blockrun_magic.threads import run_cpu, run_io
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from blockrun_magic.notebook.context import Context
    from blockrun_magic.notebook.panel.dispatcher import Dispatcher
    from blockrun_magic.notebook.panel.form.prices import Prices
    from blockrun_magic.payments.ledger.records import ListedImage

__all__ = ["ImageView"]


class ImageView:
    """The stage with its actions in `box`, the settings of a dropped file in `dropped`, and the gallery.

    `edit` puts an image on the Edit tab; `use_settings` puts the settings of a dropped file into the form.
    """

    def __init__(
        self,
        context: Context,
        dispatcher: Dispatcher,
        prices: Prices,
        edit: Callable[[ListedImage, Path, bool], Awaitable[None]],
        use_settings: Callable[[FileSettings], Awaitable[None]],
    ) -> None:
        self._context = context
        self._use_settings = use_settings
        self._entries: list[ListedImage] = []
        self._dropped: FileSettings | None = None
        self.stage = Stage(self.index, dispatcher, self._choose_one, self._show_dropped)
        self.actions = Actions(context, dispatcher, prices, self.index, edit, self._after_delete)
        self.actions.compare = self._before_after
        self.gallery = Gallery(self.index, dispatcher, self._choose, self._hide, self.actions.show_star)
        self._settings = button("Use these settings", "Put the prompt, size and model of the file into the form")
        show_if(self._settings, visible=False)
        dispatcher.on_click(self._settings, self._take_settings)
        self._notice = Notice()
        self.box = light.VBox([self.stage, self.actions.box])
        self.dropped = light.VBox([self._notice.box, row(self._settings)])
        self.box.add_class("brm-images")

    def index(self) -> ImageIndex:
        """Return the images of the studio in use."""
        studio = self._context.session.studio
        return image_index(studio, blockrun_home() / "magic")

    @property
    def shown(self) -> tuple[str, ...]:
        """The keys of the images on the stage."""
        return tuple(entry.key for entry in self._entries)

    # -- which images are shown

    async def show(self, entries: Sequence[ListedImage], *, before: bool = False) -> None:
        """Show `entries` on the stage; the actions are for the last one."""
        self._entries = list(entries[:MAX_COMPARED])
        self.gallery.mark([entry.key for entry in self._entries])
        await self.stage.show(self._entries, before=before)
        await self.actions.show(self._entries[-1] if self._entries else None)

    async def show_newest(self, *, only_if_empty: bool = False) -> None:
        """Show the newest image."""
        if only_if_empty and self._entries:
            return
        entries, _ = await run_io(self.index().page, ImageFilter(), 1)
        await self.show(entries)

    async def show_purchases(self, purchase_ids: Sequence[str]) -> None:
        """Show the images of these purchases."""
        entries = [
            entry
            for purchase_id in purchase_ids[:MAX_COMPARED]
            for entry in await run_io(self.index().of_purchase, purchase_id)
        ]
        self.gallery.refresh()
        await self.show(entries)

    async def _choose_one(self, key: str) -> None:
        await self._choose(key, add=False)

    async def _choose(self, key: str, add: bool) -> None:
        entry = await run_io(self.index().find, key)
        if entry is None:
            return
        others = [shown for shown in self._entries if shown.key != key] if add else []
        if add and len(others) < len(self._entries):
            await self.show(others or [entry])  # a second click takes it out of the comparison
        else:
            await self.show([*others[1 - MAX_COMPARED :], entry])

    async def _before_after(self, source: ListedImage, entry: ListedImage) -> None:
        await self.show([source, entry], before=True)

    async def _hide(self, key: str) -> None:
        await run_io(self.index().hide, key)
        if key in self.shown:
            await self._after_delete(None)

    async def _after_delete(self, _: ListedImage | None) -> None:
        self.gallery.refresh()
        await self.show_newest()

    # -- a dropped file

    async def _show_dropped(self, name: str, data: bytes) -> None:
        self._dropped = settings = await run_cpu(settings_of, data) if data else None
        show_if(self._settings, visible=settings is not None)
        if settings is None:
            self._notice.info(f"{name} has no information about its origin.")
        else:
            self._notice.html(settings.html)

    async def _take_settings(self) -> None:
        if self._dropped is not None:
            await self._use_settings(self._dropped)
            self._notice.clear()
            show_if(self._settings, visible=False)
