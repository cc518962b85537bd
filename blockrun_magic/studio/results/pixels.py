"""One pixel budget for all images of a cell: small files with many pixels must not fill the memory together."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from blockrun_magic.errors import InvalidResponse
from blockrun_magic.gateway.catalog.catalog import dimensions
from blockrun_magic.images.formats import MAX_PIXELS

__all__ = ["PixelBudget"]

_GENEROSITY = 4
"""A gateway may send images of twice the width and height that were requested."""
_LEAST = 4_000_000
"""The least pixels for each image, even if a smaller size was requested."""


class PixelBudget:
    """The pixels that the images of one cell may have together; `wanted` has the size and number of each request.

    There is always room for one image of the largest size that can be read.
    """

    def __init__(self, requests: Iterable[tuple[str, int]]) -> None:
        self.left = MAX_PIXELS + sum(n * _pixels_for(size) for size, n in requests)
        self._lock = threading.Lock()

    def take(self, width: int, height: int) -> None:
        """Count an image before it is decoded; raises InvalidResponse if there is no room for it."""
        with self._lock:
            if width * height > self.left:
                raise InvalidResponse(
                    f"The images of this cell have too many pixels together; the next one is {width} x {height}.",
                    "Run the cell again to read it: the answer is stored, and nothing is paid twice.",
                )
            self.left -= width * height


def _pixels_for(size: str) -> int:
    width, height = dimensions(size) or (0, 0)
    return max(_LEAST, _GENEROSITY * width * height)
