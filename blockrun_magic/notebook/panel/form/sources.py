"""The sources of an edit: the images and the mask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ipywidgets as widgets

from blockrun_magic.errors import FlagError, SourceError
from blockrun_magic.images.detection import IMAGE_SUFFIXES
from blockrun_magic.images.formats import load
from blockrun_magic.images.source import read_upload
from blockrun_magic.notebook.background import BackgroundJob
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.plan import RequestPlan
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.mask.widget import MaskPad
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.form.canvas import CanvasEdges
from blockrun_magic.notebook.panel.form.variables import check_room, find_image, image_names, source_html
from blockrun_magic.notebook.panel.widgets import Notice, button, close_tree, field, html, row, section, show_if
from blockrun_magic.threads import run_cpu, run_foreign

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.gateway.catalog.catalog import Model

__all__ = ["Sources"]

_FILES = ",".join(sorted(IMAGE_SUFFIXES))
_NO_MASK, _PAINT, _UPLOAD = "no mask", "paint it here", "upload one"


@dataclass(frozen=True, slots=True)
class _Source:
    """One image to edit: its name for `--image`, or the bytes that were uploaded."""

    name: str
    data: bytes | None
    box: widgets.Box


class Sources:
    """The images of the Edit tab.

    `changed` is called whenever they or the mask change, `painting` when the painter in `pad_box` opens or closes.
    """

    def __init__(
        self,
        context: Context,
        dispatcher: Dispatcher,
        changed: Callable[[], Awaitable[None]],
        painting: Callable[[bool], None],
    ) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._changed = changed
        self._painting = painting
        self._sources: list[_Source] = []
        self.parent: str | None = None
        self._last_choice = _NO_MASK
        self._max_images = 1
        self._takes_mask = True
        self._pad: MaskPad | None = None
        self._looking = asyncio.Lock()
        self._add_inputs()
        self._list = row(classes=("brm-sources",))
        self.pad_box = light.VBox()
        self.notice = Notice()
        self.edges = CanvasEdges(dispatcher, self._resize_canvas)
        self._edges_box = section("Crop or extend the canvas", self.edges.box)
        show_if(self._edges_box, visible=False)
        self.box = light.VBox(
            [
                row(self._upload, self._variable, self._text, self._add, classes=("brm-drop",)),
                self._list,
                row(self._mask, self._mask_upload),
                self._edges_box,
                self.notice.box,
            ]
        )
        self.box.add_class("brm-edit-sources")

    def _add_inputs(self) -> None:
        self._upload = light.FileUpload(accept=_FILES, multiple=True, description="Upload or drop")
        self._upload.add_class("brm-upload")
        self._variable = field(light.Dropdown(description="Variable", options=[("choose …", "")]), "brm-short")
        self._text = field(light.Text(description="Path or URL", placeholder="photo.png", continuous_update=False))
        self._add = button("Add")
        self._mask = field(light.Dropdown(description="Mask (white may change)", options=[_NO_MASK]))
        self._mask_upload = light.FileUpload(accept=_FILES, multiple=False, description="Upload the mask")
        show_if(self._mask_upload, visible=False)
        on_change = self._dispatcher.on_change
        on_change(self._upload, self._take_uploads)
        on_change(self._variable, self._take_variable)
        on_change(self._text, self._take_text)
        self._dispatcher.on_click(self._add, self._take_text)
        on_change(self._mask, self._mask_chosen)
        on_change(self._mask_upload, self._changed)

    # -- the choice

    async def apply_to(self, plan: RequestPlan) -> RequestPlan:
        """Return `plan` with these images before its own; raises FlagError if there are none, and SourceError."""
        namespace = self._context.shell.user_ns
        images = [await find_image(s.name, namespace) if s.data is None else s.data for s in self._sources]
        sources = (*images, *plan.sources)
        if not sources:
            raise FlagError("There is no image to edit.", "Upload one, or choose a variable, a path or a URL above.")
        mask = plan.mask if plan.mask is not None else await self._chosen_mask()
        return replace(plan, sources=sources, mask=mask)

    def words(self) -> Hashable:
        """Return the current choice, for comparison."""
        return tuple(self._sources), self._mask.value, len(self._mask_upload.value)

    def with_sources(self, flags: Flags) -> Flags:
        """Return `flags` with these images as a cell would name them."""
        mask = None if self._mask.value == _NO_MASK else self._mask.value
        mask = "mask" if mask in (_PAINT, _UPLOAD) else mask
        return replace(flags, images=(*(s.name for s in self._sources), *flags.images), mask=flags.mask or mask)

    async def _chosen_mask(self) -> object | None:
        choice = self._mask.value
        if choice == _NO_MASK or not self._masks_allowed:
            return None
        if choice == _PAINT:
            return self._pad
        if choice == _UPLOAD:
            if not self._mask_upload.value:
                raise FlagError("The mask is not uploaded yet.", "Upload it, or choose `no mask`.")
            return bytes(self._mask_upload.value[0]["content"])
        return await find_image(choice, self._context.shell.user_ns)

    # -- limits of the model

    async def model_changed(self, model: Model | None) -> None:
        """Offer as many images as `model` takes, and a mask if it takes one."""
        self._max_images = max(1, model.max_images if model else 1)
        self._takes_mask = model is None or model.takes_mask
        self._offer_masks()

    @property
    def _masks_allowed(self) -> bool:
        return self._takes_mask and len(self._sources) == 1

    def _offer_masks(self) -> None:
        show_if(self._mask, self._masks_allowed)
        show_if(self._mask_upload, self._masks_allowed and self._mask.value == _UPLOAD)
        if not self._masks_allowed or self._mask.value != _PAINT:
            self._painting(False)
        show_if(self._edges_box, self._masks_allowed)

    async def refresh_variables(self) -> None:
        """Offer the images that are in variables of the notebook now."""
        if self._looking.locked():
            return  # another refresh is running; a property of a variable may take a long time
        async with self._looking:
            names = await run_foreign(image_names, dict(self._context.shell.user_ns))
        options = (("choose …", ""), *((name, name) for name in names))
        if tuple(self._variable.options) != options:
            self._variable.options = options
        masks = (_NO_MASK, _PAINT, _UPLOAD, *names)
        if tuple(self._mask.options) != masks:
            current = self._mask.value
            self._mask.options = masks
            self._mask.value = current if current in masks else _NO_MASK
        if self._pad is not None:
            self._pad.offer_variables(names)

    # -- adding and removing

    async def use(self, name: str, label: str, *, paint: bool = False, parent: str | None = None) -> None:
        """Make the image called `name` the only source, shown as `label`; with `paint`, open the painter on it."""
        await self._clear()
        await self._add_source(name, label=label)
        self.parent = parent
        if self._masks_allowed:
            self._mask.value = _PAINT if paint else _NO_MASK

    async def _take_uploads(self) -> None:
        files, self._upload.value = self._upload.value, ()
        for file in files:
            await self._add_source(str(file["name"]), bytes(file["content"]))

    async def _take_variable(self) -> None:
        name = self._variable.value
        if name:
            self._variable.value = ""
            await self._add_source(name)

    async def _take_text(self) -> None:
        text = self._text.value.strip()
        if text:
            self._text.value = ""
            await self._add_source(text)

    async def _add_source(self, name: str, data: bytes | None = None, label: str = "") -> None:
        self.notice.clear()
        if isinstance(self._context.shell.user_ns.get(name), BackgroundJob):
            self.notice.info(f"Waiting for {name}, which is still being made …")
        try:
            check_room(len(self._sources), self._max_images)
            image = await self._read(name, data)
        except SourceError as error:
            self.notice.error(error)
            return
        self.notice.clear()
        if self._max_images == 1 and self._sources:
            await self._remove(self._sources[0])
        source = _Source(name, data, row(classes=("brm-source",)))
        remove = button("Remove", f"Remove {name[:80]}")
        self._dispatcher.on_click(remove, lambda: self._remove(source))
        source.box.children = (html(await run_cpu(source_html, image, label or name)), remove)
        self._sources.append(source)
        await self._sources_changed()

    async def _read(self, name: str, data: bytes | None) -> Image.Image:
        source = await find_image(name, self._context.shell.user_ns) if data is None else data
        session = self._context.session
        upload = await read_upload(source, session.studio.fetch, shrink=session.settings.shrink)
        return await run_cpu(load, upload.data, name)

    async def _remove(self, source: _Source) -> None:
        if source in self._sources:
            self.parent = None
            self._sources.remove(source)
            await self._sources_changed()
            close_tree(source.box)

    async def _sources_changed(self) -> None:
        self._list.children = tuple(source.box for source in self._sources)
        self._drop_pad()
        self._offer_masks()
        if self._masks_allowed and self._mask.value == _PAINT:
            await self._open_pad()
        await self._changed()

    # -- the mask

    async def _mask_chosen(self) -> None:
        if self._mask.value == self._last_choice:
            return  # the menu was renewed
        self._last_choice = self._mask.value
        self.notice.clear()
        self._offer_masks()
        if self._mask.value == _PAINT and self._masks_allowed:
            await self._open_pad()
        await self._changed()

    async def _open_pad(self) -> None:
        if self._pad is not None:
            self._painting(True)
            return
        [source] = self._sources
        image = await self._read(source.name, source.data)
        self._pad = await run_cpu(MaskPad, image, self._context.shell.user_ns)
        self.pad_box.children = (self._pad,)
        self._painting(True)
        await self.refresh_variables()

    async def _resize_canvas(self) -> None:
        """Crop or extend the only source; the new area around it is painted."""
        [source] = self._sources
        image = await self._read(source.name, source.data)
        data, mask = await run_cpu(self.edges.apply, image)
        self._mask.value = _NO_MASK
        await self.use_data(f"{source.name[:60]} (new canvas)", data)
        if mask is not None and self._masks_allowed:
            self._mask.value = _PAINT
            await self._open_pad()
            if self._pad is not None:
                await run_cpu(self._pad.load_mask, mask)

    async def use_data(self, name: str, data: bytes) -> None:
        """Make the bytes of an image file the only source."""
        await self._clear()
        await self._add_source(name, data)

    async def _clear(self) -> None:
        while self._sources:
            await self._remove(self._sources[0])

    def _drop_pad(self) -> None:
        self.pad_box.children = ()
        if self._pad is not None:
            self._pad.close()
            self._pad = None

    def close(self) -> None:
        """Remove the widgets."""
        self._drop_pad()
        close_tree(self.box)
