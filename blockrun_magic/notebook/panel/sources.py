"""What is to be edited: the source pictures, where they come from, and the mask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from blockrun_magic.errors import FlagError, MissingDependency, SourceError
from blockrun_magic.images.detection import is_image_like
from blockrun_magic.images.formats import load
from blockrun_magic.images.source import find_source, read_upload
from blockrun_magic.notebook.background import BackgroundJob
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.plan import RequestPlan
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import short
from blockrun_magic.notebook.display.thumbnails import data_uri
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.widgets import Notice, button, close_tree, field, html, row, show_if

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.gateway.catalog.catalog import Model
    from blockrun_magic.notebook.mask.widget import MaskPad

__all__ = ["Sources"]

_THUMB = 96
_NO_MASK, _PAINT, _UPLOAD = "no mask", "paint it here", "upload one"


@dataclass(frozen=True, slots=True)
class _Source:
    """One picture to edit: how `--image` would name it, or the bytes that were uploaded."""

    name: str
    data: bytes | None
    box: widgets.Box
    size: tuple[int, int]


class Sources:
    """The pictures of the Edit tab; `changed` is called whenever they or the mask change."""

    def __init__(self, context: Context, dispatcher: Dispatcher, changed: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._changed = changed
        self._sources: list[_Source] = []
        self._most = 1
        self._takes_mask = True
        self._pad: MaskPad | None = None
        self._add_inputs()
        self._list = row(classes=("brm-sources",))
        self._mask_place = widgets.VBox()
        self.notice = Notice()
        self.box = widgets.VBox(
            [
                row(self._upload, self._variable, self._text, self._add, classes=("brm-drop",)),
                self._list,
                row(self._mask, self._mask_upload),
                self._mask_place,
                self.notice.box,
            ]
        )
        self.box.add_class("brm-edit-sources")
        self.refresh_variables()

    def _add_inputs(self) -> None:
        pictures = ".png,.jpg,.jpeg,.webp,.gif,.bmp,.tif,.tiff,.avif"
        self._upload = widgets.FileUpload(accept=pictures, multiple=True, description="Upload or drop")
        self._upload.add_class("brm-upload")
        self._variable = field(widgets.Dropdown(description="Variable", options=[("choose …", "")]), "brm-short")
        self._text = field(widgets.Text(description="Path or URL", placeholder="photo.png", continuous_update=False))
        self._add = button("Add")
        self._mask = field(widgets.Dropdown(description="Mask: white is what may change", options=[_NO_MASK]))
        self._mask_upload = widgets.FileUpload(accept=pictures, multiple=False, description="Upload the mask")
        show_if(self._mask_upload, False)
        on_change = self._dispatcher.on_change
        on_change(self._upload, self._take_uploads)
        on_change(self._variable, self._take_variable)
        on_change(self._text, self._take_text)
        self._dispatcher.on_click(self._add, self._take_text)
        on_change(self._mask, self._mask_chosen)
        on_change(self._mask_upload, self._changed)

    # -- what was chosen

    def apply_to(self, wish: RequestPlan) -> RequestPlan:
        """Return `wish` with these pictures before its own; raises FlagError where there is none, SourceError."""
        namespace = self._context.shell.user_ns
        mine = tuple(find_source(s.name, namespace) if s.data is None else s.data for s in self._sources)
        sources = (*mine, *wish.sources)
        if not sources:
            raise FlagError(
                "There is no picture to change.", "Upload one, or choose a variable, a path or a URL above."
            )
        return replace(wish, sources=sources, mask=wish.mask if wish.mask is not None else self._chosen_mask(namespace))

    def words(self) -> Hashable:
        """Return all that is chosen now, to be compared."""
        return tuple(self._sources), self._mask.value, len(self._mask_upload.value)

    def with_sources(self, flags: Flags) -> Flags:
        """Return `flags` with these pictures as a cell would name them."""
        mask = None if self._mask.value == _NO_MASK else self._mask.value
        mask = "mask" if mask in (_PAINT, _UPLOAD) else mask
        return replace(flags, images=(*(s.name for s in self._sources), *flags.images), mask=flags.mask or mask)

    def _chosen_mask(self, namespace: Mapping[str, object]) -> object | None:
        choice = self._mask.value
        if choice == _NO_MASK or not self._masks_allowed:
            return None
        if choice == _PAINT:
            return self._pad
        if choice == _UPLOAD:
            if not self._mask_upload.value:
                raise FlagError("The mask has not been uploaded yet.", "Upload it, or choose `no mask`.")
            return bytes(self._mask_upload.value[0]["content"])
        return find_source(choice, namespace)

    # -- what the model takes

    async def model_changed(self, model: Model | None) -> None:
        """Offer what `model` takes: so many pictures, a mask or none."""
        self._most = max(1, model.max_images if model else 1)
        self._takes_mask = model is None or model.takes_mask
        self._offer_masks()

    @property
    def _masks_allowed(self) -> bool:
        return self._takes_mask and len(self._sources) == 1

    def _offer_masks(self) -> None:
        show_if(self._mask, self._masks_allowed)
        show_if(self._mask_upload, self._masks_allowed and self._mask.value == _UPLOAD)
        show_if(self._mask_place, self._masks_allowed and self._mask.value == _PAINT)

    def refresh_variables(self) -> None:
        """Offer the pictures that the notebook has by now."""
        names = sorted(name for name, value in self._context.shell.user_ns.items() if _is_offered(name, value))
        options = (("choose …", ""), *((name, name) for name in names))
        if tuple(self._variable.options) != options:
            self._variable.options = options
        masks = (_NO_MASK, _PAINT, _UPLOAD, *names)
        if tuple(self._mask.options) != masks:
            kept = self._mask.value
            self._mask.options = masks
            self._mask.value = kept if kept in masks else _NO_MASK

    # -- adding and removing

    async def use(self, name: str, label: str) -> None:
        """Make the picture that `name` means the only source, shown as `label`."""
        while self._sources:
            await self._remove(self._sources[0])
        await self._add_source(name, label=label)

    async def _take_uploads(self) -> None:
        files = self._upload.value
        if not files:
            return
        self._upload.value = ()
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
        try:
            self._check_room()
            image = await self._read(name, data)
        except SourceError as error:
            self.notice.error(error)
            return
        if self._most == 1 and self._sources:
            await self._remove(self._sources[0])
        source = _Source(name, data, row(classes=("brm-source",)), image.size)
        remove = button("Remove", f"Remove {name[:80]}")
        self._dispatcher.on_click(remove, lambda: self._remove(source))
        source.box.children = (html(await asyncio.to_thread(_shown, image, label or name)), remove)
        self._sources.append(source)
        await self._sources_changed()

    def _check_room(self) -> None:
        if len(self._sources) >= self._most > 1:
            raise SourceError(
                f"This model takes at most {self._most} pictures.", "Remove one, or choose another model."
            )

    async def _read(self, name: str, data: bytes | None) -> Image.Image:
        studio = self._context.session.studio
        found = find_source(name, self._context.shell.user_ns) if data is None else data
        upload = await read_upload(found, studio.client.fetch)
        return await asyncio.to_thread(load, upload.data, name)

    async def _remove(self, source: _Source) -> None:
        if source in self._sources:
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
        self.notice.clear()
        self._offer_masks()
        if self._mask.value == _PAINT and self._masks_allowed and self._pad is None:
            await self._open_pad()
        await self._changed()

    async def _open_pad(self) -> None:
        try:
            from blockrun_magic.notebook.mask.widget import MaskPad
        except MissingDependency as error:
            self._mask.value = _NO_MASK
            self.notice.error(error)
            return
        [source] = self._sources
        self._pad = MaskPad(await self._read(source.name, source.data))
        self._mask_place.children = (self._pad,)

    def _drop_pad(self) -> None:
        self._mask_place.children = ()
        if self._pad is not None:
            self._pad.close()
            self._pad = None

    def close(self) -> None:
        """Take the widgets away."""
        self._drop_pad()
        close_tree(self.box)


def _is_offered(name: str, value: Any) -> bool:
    if isinstance(value, BackgroundJob):
        return False  # to look into it is to wait for its picture
    return not name.startswith("_") and is_image_like(value)


def _shown(image: Image.Image, name: str) -> str:
    words = escape(short(name))
    picture = f'<img src="{data_uri(image, _THUMB)}" alt="{words}">'
    return f'<div>{picture}<div class="brm-quiet">{words}<br>{image.width} x {image.height}</div></div>'
