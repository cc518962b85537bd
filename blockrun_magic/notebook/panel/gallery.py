"""What this session has made: one picture large, all of them small, and what can be done with each."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets

from blockrun_magic.errors import SourceError
from blockrun_magic.images.media_types import suffix_of
from blockrun_magic.notebook.cells.rerun import cell_of
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Table, format_amount, short
from blockrun_magic.notebook.display.receipts import receipt_rows
from blockrun_magic.notebook.display.thumbnails import thumbnail
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.widgets import button, close_tree, html, row, show_if

if TYPE_CHECKING:
    from blockrun_magic.payments.ledger.records import Purchase, StoredImage
    from blockrun_magic.studio import Studio

__all__ = ["Entry", "Gallery"]

_PAGE = 12
_SMALL = 192
_LARGE = 640
_MAX_LINK = 8_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a purchase."""

    purchase: Purchase
    image: StoredImage
    position: int

    @property
    def prompt(self) -> str:
        """What it was asked to show."""
        return str(self.purchase.request["prompt"])


class Gallery:
    """The session's pictures, those of cells among them; `use` is called for "Use as source"."""

    def __init__(self, context: Context, dispatcher: Dispatcher, use: Callable[[Entry, Path], Awaitable[None]]) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._use = use
        self._entries: list[Entry] = []
        self._chosen: Entry | None = None
        self._first = 0
        self._small: dict[str, str | None] = {}
        self._stage = html("", "brm-stage")
        self._detail = html("", "brm-detail")
        self._actions = self._action_row()
        self._slots: list[_Slot] = []
        self._strip = row(classes=("brm-strip",))
        self._newer, self._older = button("← Newer"), button("Older →")
        self._where = html("", "brm-quiet")
        self._pager = row(self._newer, self._where, self._older)
        dispatcher.on_click(self._newer, lambda: self._turn(-_PAGE))
        dispatcher.on_click(self._older, lambda: self._turn(_PAGE))
        self.box = widgets.VBox([self._stage, self._actions, self._detail, self._strip, self._pager])
        self.box.add_class("brm-gallery")
        show_if(self.box, False)

    def _action_row(self) -> widgets.Box:
        actions = (
            ("Use as source", "Edit this picture", self._use_chosen),
            ("Copy as cell", "The cell that makes it again", self._show_cell),
            ("Save", "Write the original into the notebook's folder", self._save),
            ("Receipt", "How it was paid for", self._show_receipt),
        )
        buttons = []
        for text, tooltip, do in actions:
            pressed = button(text, tooltip)
            self._dispatcher.on_click(pressed, do)
            buttons.append(pressed)
        return row(*buttons)

    # -- what there is

    @property
    def chosen(self) -> Entry | None:
        """The picture that is shown large."""
        return self._chosen

    async def refresh(self, *, newest: bool = False) -> None:
        """Show what the ledger knows of this session by now; with `newest`, the last picture large."""
        studio, gateway = self._context.session.studio_and_gateway()
        made = studio.ledger.purchases_in_session(studio.ledger.session, gateway.realm)
        self._entries = [
            Entry(purchase, kept, position)
            for purchase in made
            for position, kept in enumerate(studio.ledger.images(purchase.id))
        ]
        show_if(self.box, bool(self._entries))
        if newest or self._chosen not in self._entries:
            self._first = 0
            await self._choose(next(iter(self._entries), None))
        await self._show_page()

    async def _turn(self, by: int) -> None:
        self._first = max(0, min(self._first + by, (len(self._entries) - 1) // _PAGE * _PAGE))
        await self._show_page()

    async def _show_page(self) -> None:
        studio = self._context.session.studio
        page = self._entries[self._first : self._first + _PAGE]
        while len(self._slots) < len(page):
            slot = _Slot(self._dispatcher, self._choose)
            self._slots.append(slot)
            self._strip.children = (*self._strip.children, slot.box)
        for slot, entry in zip(self._slots, [*page, *[None] * _PAGE], strict=False):
            picture = None if entry is None else await self._thumbnail(studio, entry.image)
            slot.show(entry, picture, chosen=entry is not None and entry == self._chosen)
        last = self._first + len(page)
        self._where.value = f"{self._first + 1} to {last} of {len(self._entries)}"
        self._newer.disabled, self._older.disabled = self._first == 0, last == len(self._entries)
        show_if(self._pager, len(self._entries) > _PAGE)

    async def _thumbnail(self, studio: Studio, kept: StoredImage) -> str | None:
        if kept.file not in self._small:
            self._small[kept.file] = await asyncio.to_thread(thumbnail, studio.store, kept, _SMALL)
        return self._small[kept.file]

    async def _choose(self, entry: Entry | None) -> None:
        self._chosen = entry
        self._detail.value = self._stage.value = ""
        if entry is None:
            return
        studio = self._context.session.studio
        picture = await asyncio.to_thread(thumbnail, studio.store, entry.image, _LARGE)
        shown = _image(picture, entry) if picture else "<p>The original is no longer kept.</p>"
        self._stage.value = f'<figure>{shown}<figcaption class="brm-quiet">{self._caption(entry)}</figcaption></figure>'
        for slot in self._slots:
            slot.mark(entry)

    def _caption(self, entry: Entry) -> str:
        purchase, kept = entry.purchase, entry.image
        paid = format_amount(self._context.session.studio.ledger.amount_paid(purchase.id), purchase.realm)
        seconds = "" if purchase.seconds is None else f"{purchase.seconds:.1f} s"
        count = len(self._context.session.studio.ledger.images(purchase.id))
        price = paid if count == 1 else f"{paid} for {count}"
        facts = (str(purchase.request["model"]), f"{kept.width}x{kept.height}", price, seconds)
        return f"{escape(' · '.join(filter(None, facts)))}<br>{escape(short(entry.prompt, 120))}"

    # -- what can be done with the chosen one

    async def _use_chosen(self) -> None:
        entry = self._chosen
        if entry is not None:
            await self._use(entry, self._path(entry))

    def _path(self, entry: Entry) -> Path:
        return self._context.session.studio.store.path(entry.image.file, entry.image.media_type)

    def _show_cell(self) -> None:
        if self._chosen is None:
            return
        text, note = cell_of(self._context.session.studio, self._chosen.purchase)
        self._detail.value = (
            '<div class="brm-quiet">Copy this into a cell; running it shows this picture again and costs nothing.'
            ' <button type="button" class="brm-copy">Copy</button></div>'
            f'<pre class="brm-code" tabindex="0">{escape(text)}</pre><div class="brm-quiet">{escape(note)}</div>'
        )

    async def _show_receipt(self) -> None:
        if self._chosen is not None:
            rows = await asyncio.to_thread(receipt_rows, self._path(self._chosen))
            self._detail.value = Table(("", ""), rows, title="Receipt", left=2).html

    async def _save(self) -> None:
        if self._chosen is not None:
            self._detail.value = await asyncio.to_thread(self._saved_words, self._chosen)

    def _saved_words(self, entry: Entry) -> str:
        data = self._context.session.studio.store.get(entry.image.file, entry.image.media_type)
        path = _write_beside(data, _file_name(entry), suffix_of(entry.image.media_type))
        words = f"Saved as {escape(path.name)} in {escape(str(path.parent))}."
        if len(data) <= _MAX_LINK:
            uri = f"data:{entry.image.media_type};base64,{base64.b64encode(data).decode('ascii')}"
            words += f' <a download="{escape(path.name)}" href="{uri}">Download it</a>'
        return f'<div role="status" class="brm-quiet">{words}</div>'

    def close(self) -> None:
        """Take the gallery's widgets away."""
        close_tree(self.box)


class _Slot:
    """A place in the strip: a thumbnail, and the button under it."""

    def __init__(self, dispatcher: Dispatcher, choose: Callable[[Entry | None], Awaitable[None]]) -> None:
        self._entry: Entry | None = None
        self._picture = html("", "brm-thumb")
        self._button = button("Show")
        self.box = widgets.VBox([self._picture, self._button])
        self.box.add_class("brm-slot")
        dispatcher.on_click(self._button, lambda: choose(self._entry))

    def show(self, entry: Entry | None, picture: str | None, *, chosen: bool) -> None:
        """Show `entry`, or nothing."""
        self._entry = entry
        show_if(self.box, entry is not None)
        if entry is None:
            self._picture.value = ""
            return
        self._picture.value = _image(picture, entry) if picture else "gone"
        self._button.tooltip = f"Show large: {short(entry.prompt, 120)}"
        self._mark(chosen)

    def mark(self, chosen: Entry) -> None:
        """Mark this place if `chosen` is here."""
        self._mark(self._entry == chosen)

    def _mark(self, chosen: bool) -> None:
        (self.box.add_class if chosen else self.box.remove_class)("brm-chosen")


def _image(source: str, entry: Entry) -> str:
    return f'<img src="{source}" alt="{escape(entry.prompt)}" title="{escape(short(entry.prompt, 120))}">'


def _file_name(entry: Entry) -> str:
    model = str(entry.purchase.request["model"]).rpartition("/")[2]
    made = time.strftime("%Y%m%d-%H%M%S", time.localtime(entry.purchase.purchased_at))
    return f"{model}-{made}{f'-{entry.position + 1}' if entry.position else ''}"


def _write_beside(data: bytes, stem: str, suffix: str) -> Path:
    """Write a new file in the notebook's folder, never over another; raises SourceError."""
    folder = Path.cwd()
    for number in range(1, 1000):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            continue
        except OSError as error:
            raise SourceError(
                f"{path} cannot be written: {error.strerror}.", "The picture is kept all the same; see `Receipt`."
            ) from error
        return path
    raise SourceError(f"{folder} is full of files of this name.", "Remove some of them.")
