"""Bought images, painted on request, and the damaged ones for triggers."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from blockrun_magic.practice.server.requests import open_image
from blockrun_magic.practice.server.triggers import Triggers

if TYPE_CHECKING:
    from blockrun_magic.gateway.request import ImageRequest, Upload
    from blockrun_magic.practice.painter.painter import PaintedImage
    from blockrun_magic.practice.server.database import Settlement

__all__ = ["ImageCache"]

_AT_ONCE = 2
_KEPT = 24
_PAGE = b"<!doctype html><html><body><h1>Not an image</h1><script>alert(1)</script></body></html>"
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb() -> bytes:
    """Return a well-formed PNG of a few bytes that claims 60000x60000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(bytes(4096), 9)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _open(upload: Upload) -> PaintedImage:
    image = open_image(upload.data)
    image.load()
    return image


def _paint(request: ImageRequest, index: int) -> bytes:
    """Return the PNG of one image of `request`."""
    from blockrun_magic.practice.painter.editor import edit
    from blockrun_magic.practice.painter.painter import encode_png, paint

    width, _, height = request.size.partition("x")
    size = (int(width), int(height))
    if request.operation == "generate":
        return encode_png(paint(request.prompt, request.model, size, index, request.quality))
    sources = [_open(image) for image in request.images]
    mask = _open(request.mask) if request.mask else None
    return encode_png(edit(request.prompt, request.model, sources, mask, size, index))


class ImageCache:
    """Paints at most two images at a time, outside the event loop, and caches the last few."""

    def __init__(self) -> None:
        self._cached: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._painters = asyncio.Semaphore(_AT_ONCE)

    async def image(self, settlement: Settlement, request: ImageRequest, position: int) -> tuple[bytes, str]:
        """Return the bytes and media type of the bought image at `position`."""
        triggers = Triggers.read(request.prompt)
        if "html" in triggers:
            return _PAGE, "text/html"
        if "svg" in triggers:
            return _SVG, "image/svg+xml"
        if "bomb" in triggers:
            return _bomb(), "image/png"
        png = await self._png(request, settlement.take * request.n + position)
        return (png[: len(png) // 2] if "truncated" in triggers else png), "image/png"

    async def _png(self, request: ImageRequest, index: int) -> bytes:
        key = (request.digest, index)
        async with self._painters:
            if key not in self._cached:
                self._cached[key] = await asyncio.to_thread(_paint, request, index)
                while len(self._cached) > _KEPT:
                    self._cached.popitem(last=False)
            self._cached.move_to_end(key)
            return self._cached[key]
