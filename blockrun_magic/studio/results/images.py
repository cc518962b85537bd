"""Sequences of a result's images, each opened when it is used, so that many results fit into memory.

An image stays the same object while it is referenced; the latest ones are also cached here.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload
from weakref import WeakValueDictionary

from blockrun_magic.errors import StoreError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ChainedImages", "Preview", "StoredImages"]

Preview = tuple[bytes, int, int]
"""The bytes of a small image, its width and its height."""
_MAX_HELD = 24_000_000
"""Maximum bytes of cached images."""
_tokens = itertools.count()
_lock = threading.Lock()
_held: OrderedDict[tuple[int, int], Image.Image] = OrderedDict()


class StoredImages(Sequence["Image.Image"]):
    """The images of `files`, opened on use; `opened` has those that are already in memory, None for the others.

    Using an image raises StoreError if its file is missing or damaged.
    """

    def __init__(self, files: Sequence[Path], opened: Sequence[Image.Image | None] = ()) -> None:
        self._files = tuple(files)
        self._token = next(_tokens)
        self._alive: WeakValueDictionary[int, Image.Image] = WeakValueDictionary()
        self._previews: dict[tuple[Path, int, str], Preview] = {}
        for index, image in enumerate(opened):
            if image is not None:
                self._keep(index, image)

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...
    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = range(len(self._files))[index]
        image = self._alive.get(place)
        if image is None:
            image = self._open(self._files[place])
        self._keep(place, image)
        return image

    def preview(self, index: int, side: int, form: str, draw: Callable[[Image.Image, int, str], Preview]) -> Preview:
        """Return the preview of an image, which `draw` makes once, in a format and of at most `side` pixels a side."""
        key = (self._files[index], side, form)
        cached = self._previews.get(key)
        if cached is None:
            cached = self._previews[key] = draw(self[index], side, form)
        return cached

    def single(self, index: int) -> StoredImages:
        """Return one of these images as a sequence, with its previews."""
        part = StoredImages(self._files[index : index + 1])
        part._previews = self._previews
        return part

    def fresh(self) -> StoredImages:
        """Return copies of these images: changing one does not change these."""
        return StoredImages(self._files)

    def __del__(self) -> None:
        for place in range(len(self._files)):
            _held.pop((self._token, place), None)

    def _open(self, path: Path) -> Image.Image:
        from blockrun_magic.images.formats import decode

        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}.", "Run its cell again.") from error
        return decode(data, StoreError, f"The stored image {path}", "Run its cell with --fresh to buy another take.")

    def _keep(self, place: int, image: Image.Image) -> None:
        """Cache `image`, and drop the least recently used ones."""
        self._alive[place] = image
        with _lock:
            _held[self._token, place] = image
            _held.move_to_end((self._token, place))
            while len(_held) > 1 and sum(map(_size, _held.values())) > _MAX_HELD:
                _held.popitem(last=False)


class ChainedImages(Sequence["Image.Image"]):
    """Several sequences of images as one."""

    def __init__(self, parts: Sequence[Sequence[Image.Image]]) -> None:
        self._parts = tuple(parts)
        self._places = [(part, index) for part in parts for index in range(len(part))]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...
    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(index, slice):
            return [part[place] for part, place in self._places[index]]
        part, place = self._places[index]
        return part[place]

    def fresh(self) -> ChainedImages:
        """Return copies of these images: changing one does not change these."""
        return ChainedImages([part.fresh() if isinstance(part, StoredImages) else part[:] for part in self._parts])


def _size(image: Image.Image) -> int:
    return image.width * image.height * max(1, len(image.getbands()))
