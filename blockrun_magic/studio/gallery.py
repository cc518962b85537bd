"""Gallery of all sessions and gateways: pages, thumbnails, stars, and chains of edits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from blockrun_magic.errors import StoreError
from blockrun_magic.files import read_file, write_atomically
from blockrun_magic.images.formats import decode
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.queries import LedgerReader
from blockrun_magic.payments.ledger.records import ImageFilter, ListedImage, StoredImage

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.studio.studio import Studio

__all__ = ["THUMBNAIL_SIDE", "ImageIndex", "Step", "image_index"]

_MAX_MARKS = 50_000_000
_MAX_THUMBNAIL = 5_000_000
THUMBNAIL_SIDE = 256
_QUALITY = 78
_LOCK_TIMEOUT = 5
_MAX_CHAIN = 60
_MAX_IMAGES = 100
_SOURCE = -1
"""The position of an uploaded source, which is not an image of its purchase."""
_STARRED, _HIDDEN, _PARENTS = "starred", "hidden", "parents"


@dataclass(frozen=True, slots=True)
class Step:
    """One image in a chain of edits, and the key of the image that it was made from, or None."""

    entry: ListedImage
    parent: str | None


def image_index(studio: Studio, folder: Path) -> ImageIndex:
    """Return the images that the studio has made; thumbnails and marks are stored in `folder`."""
    return ImageIndex(studio.ledger, studio.store, folder)


class ImageIndex:
    """Images of the ledger; thumbnails and marks (starred, hidden) are stored in `folder`."""

    def __init__(self, ledger: LedgerReader, store: Store, folder: Path) -> None:
        self._ledger = ledger
        self._store = store
        self._thumbnails = folder / "thumbnails"
        self._marks_file = folder / "gallery.json"

    # -- lists

    def page(
        self, images: ImageFilter, limit: int, offset: int = 0, *, starred: bool = False
    ) -> tuple[list[ListedImage], int]:
        """Return the images from `offset` on, newest first, and their total number; raises LedgerError."""
        images = replace(images, without=self._marked(_HIDDEN), only=self.starred if starred else images.only)
        return self._ledger.listed_images(images, limit, offset), self._ledger.count_images(images)

    def models(self) -> list[str]:
        """Return the id of every model that has made an image."""
        return self._ledger.models_used()

    def recent_prompts(self, limit: int = 40) -> list[str]:
        """Return the different prompts among the last `limit` purchases, the newest first."""
        return self._ledger.recent_prompts(limit)

    def find(self, key: str) -> ListedImage | None:
        """Return the image with this key, or None."""
        purchase, _, position = key.rpartition(":")
        entries = self._ledger.listed_images(ImageFilter(purchase=purchase), _MAX_IMAGES) if purchase else []
        if position == str(_SOURCE) and entries:
            return self._uploaded(entries[0])
        return next((entry for entry in entries if entry.key == key), None)

    def source(self, entry: ListedImage) -> ListedImage | None:
        """Return the image that `entry` was edited from: one of the gallery, or the file that was uploaded."""
        return self._parent(entry) or self._uploaded(entry)

    def _uploaded(self, entry: ListedImage) -> ListedImage | None:
        uploads = entry.purchase.request.get("uploads") or ()
        if not uploads:
            return None
        file, media_type = str(uploads[0]["file"]), str(uploads[0]["media_type"])
        try:
            width, height = decode(self._store.get(file, media_type), StoreError, "The source", "").size
        except StoreError:
            return None
        return replace(entry, image=StoredImage(file, media_type, width, height), position=_SOURCE)

    def of_purchase(self, purchase_id: str) -> list[ListedImage]:
        """Return the images of one purchase, in the gateway's order."""
        return self._ledger.listed_images(ImageFilter(purchase=purchase_id), _MAX_IMAGES)

    def chain(self, entry: ListedImage) -> list[Step]:
        """Return the chain of edits that `entry` belongs to, from its first image, branches included."""
        root = entry
        for _ in range(_MAX_CHAIN):
            parent = self._parent(root)
            if parent is None or parent.key == entry.key:
                break
            root = parent
        return list(self._descendants(root))

    def _descendants(self, root: ListedImage) -> Iterator[Step]:
        waiting: list[Step] = [Step(root, None)]
        seen: set[str] = set()
        while waiting and len(seen) < _MAX_CHAIN:
            step = waiting.pop()
            if step.entry.key in seen:
                continue
            seen.add(step.entry.key)
            yield step
            waiting += [Step(child, step.entry.key) for child in self._children(step.entry)]

    def _children(self, entry: ListedImage) -> list[ListedImage]:
        linked = [purchase_id for purchase_id, parent in self._links().items() if parent == entry.key]
        children = {child.key: child for purchase_id in linked for child in self.of_purchase(purchase_id)}
        for child in self._ledger.listed_images(ImageFilter(source=entry.image.file), _MAX_CHAIN):
            if _first_source(child) == entry.image.file:
                children.setdefault(child.key, child)
        return list(children.values())

    def _parent(self, entry: ListedImage) -> ListedImage | None:
        parent = self._links().get(entry.purchase.id)
        if parent is not None:
            return self.find(parent)
        source = _first_source(entry)
        if source is None:
            return None
        parents = self._ledger.listed_images(ImageFilter(file=source, until=entry.purchase.purchased_at), 1)
        return parents[0] if parents else None

    def link(self, purchase_id: str, parent: str) -> None:
        """Record that a purchase edits the image with the key `parent`, of which it sends a copy without metadata."""
        self._change(lambda marks: {**marks, _PARENTS: {**self._links(marks), purchase_id: parent}})

    def _links(self, marks: Mapping[str, Any] | None = None) -> dict[str, str]:
        links = (self._read_marks() if marks is None else marks).get(_PARENTS)
        return links if isinstance(links, dict) else {}

    # -- pixels

    def thumbnail(self, entry: ListedImage) -> bytes:
        """Return a small JPEG of an image, made once; raises StoreError."""
        path = self._thumbnails / entry.image.file[:2] / f"{entry.image.file}.jpg"
        try:
            return read_file(path, _MAX_THUMBNAIL)
        except OSError:
            data = self.preview(entry, THUMBNAIL_SIDE)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data, durable=False)
        except OSError:
            pass  # if the disk is full, the thumbnail is made again next time
        return data

    def preview(self, entry: ListedImage, side: int) -> bytes:
        """Return a JPEG of an image, at most `side` pixels a side; raises StoreError."""
        image = self.open(entry)
        image.draft("RGB", (side, side))
        if image.mode in ("RGBA", "LA", "PA", "P"):
            image = _on_white(image)
        image = image.convert("RGB")
        image.thumbnail((side, side))
        file = io.BytesIO()
        image.save(file, "jpeg", quality=_QUALITY)
        return file.getvalue()

    def open(self, entry: ListedImage) -> Image.Image:
        """Return the image, decoded; raises StoreError."""
        return decode(self.original(entry), StoreError, "The stored image", "")

    def original(self, entry: ListedImage) -> bytes:
        """Return the bytes of the original file; raises StoreError."""
        return self._store.get(entry.image.file, entry.image.media_type)

    def path(self, entry: ListedImage) -> Path:
        """Return the path of the original file."""
        return self._store.path(entry.image.file, entry.image.media_type)

    # -- marks

    @property
    def starred(self) -> frozenset[str]:
        """The keys of the starred images."""
        return self._marked(_STARRED)

    def star(self, key: str, *, starred: bool) -> None:
        """Star an image, or remove its star; raises StoreError."""
        self._mark(_STARRED, key, marked=starred)

    def hide(self, key: str, *, hidden: bool = True) -> None:
        """Hide an image from the gallery, or show it again; its file and receipt stay. Raises StoreError."""
        self._mark(_HIDDEN, key, marked=hidden)

    def _marked(self, mark: str) -> frozenset[str]:
        keys = self._read_marks().get(mark)
        return frozenset(key for key in keys if isinstance(key, str)) if isinstance(keys, list) else frozenset()

    def _read_marks(self) -> dict[str, Any]:
        try:
            marks = json.loads(self._marks_file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return marks if isinstance(marks, dict) else {}

    def _mark(self, mark: str, key: str, *, marked: bool) -> None:
        def change(marks: dict[str, Any]) -> dict[str, Any]:
            keys = [other for other in self._marked(mark) if other != key]
            return {**marks, mark: sorted([*keys, key] if marked else keys)}

        self._change(change)

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Rewrite the marks under their lock; raises StoreError."""
        try:
            self._marks_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(self._marks_file.with_suffix(".lock"), timeout=_LOCK_TIMEOUT):
                data = json.dumps(change(self._read_marks())).encode()
                write_atomically(self._marks_file, data, mode=0o600, durable=False)
        except (OSError, Timeout) as error:
            raise StoreError(
                f"{self._marks_file} cannot be written: {error}.", "Check free space and permissions, then try again."
            ) from error


def _first_source(entry: ListedImage) -> str | None:
    """Return the SHA-256 of the image that was edited, or None for an image made from a prompt alone."""
    uploads = entry.purchase.request.get("uploads") or ()
    return str(uploads[0]["file"]) if uploads else None


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image as PILImage

    image = image.convert("RGBA")
    return PILImage.alpha_composite(PILImage.new("RGBA", image.size, "white"), image)
