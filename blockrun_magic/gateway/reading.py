"""Bodies of HTTP responses, read within limits on size, rate and time.

The limits apply to decompressed bytes, which are counted during decompression.
"""

from __future__ import annotations

import asyncio
import io
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from blockrun_magic.errors import InvalidResponse
from blockrun_magic.text import sanitize
from blockrun_magic.threads import run_cpu

__all__ = ["Pace", "TooSlow", "read_body"]

_GZIP_OR_ZLIB = 47
_DECODED = frozenset({"gzip", "x-gzip", "deflate"})
_PIECE = 1024 * 1024
_MAX_ROOM = 16 * 1024 * 1024
_DIGITS = 12
_SLICE = 0.01
"""Seconds after which other tasks on the loop may run."""


class TooSlow(httpx.TransportError):
    """A response that arrives too slowly."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Minimum speed of a body: `rate` bytes a second after `grace` seconds, and at most `total` seconds."""

    grace: float = 60.0
    rate: float = 8 * 1024
    total: float = 1800.0

    def allowed(self, size: int) -> float:
        """Return the seconds within which `size` bytes must arrive."""
        return min(self.total, self.grace + size / self.rate)


async def read_body(response: httpx.Response, limit: int, pace: Pace, *, cut: bool = False) -> bytes:
    """Return the decompressed body of at most `limit` bytes; with `cut`, its first `limit` bytes.

    Raises InvalidResponse for a longer body or an unrequested encoding, TooSlow, and httpx's own errors.
    """
    decoder = _Decoder(response.headers.get("content-encoding", ""))
    whole = io.BytesIO()  # unlike a list of pieces, it returns its bytes without copying them
    if not decoder.unpacks:
        _make_room(whole, response.headers.get("content-length", ""), limit)
    began = awaited = time.monotonic()
    async for chunk in response.aiter_raw():
        if time.monotonic() - awaited > _SLICE:  # received chunks are yielded without waiting
            await asyncio.sleep(0)
            awaited = time.monotonic()
        async for piece in decoder.pieces(chunk):
            if whole.tell() + len(piece) > limit:
                if cut:
                    whole.write(piece[: limit - whole.tell()])
                    whole.truncate()
                    return whole.getvalue()
                raise InvalidResponse(
                    f"The response is larger than {limit / 1024 / 1024:.3g} MB.",
                    "It was not read to its end. Choose a smaller size or fewer images.",
                )
            whole.write(piece)
        if time.monotonic() - began > pace.allowed(whole.tell()):
            raise TooSlow(f"{whole.tell()} bytes in {time.monotonic() - began:.0f} s")
    decoder.finish()
    whole.truncate()
    return whole.getvalue()


def _make_room(whole: io.BytesIO, length: str, limit: int) -> None:
    """Give `whole` the size that the response announces, within limits, so that it does not grow piece by piece."""
    size = int(length) if length.isdecimal() and len(length) < _DIGITS else 0
    if size > 1:
        whole.seek(min(size, limit, _MAX_ROOM) - 1)
        whole.write(b"\0")
        whole.seek(0)


class _Decoder:
    """Decoder of one layer of compression, in pieces of limited size."""

    def __init__(self, encoding: str) -> None:
        names = [name.strip().lower() for name in encoding.split(",")]
        packed = [name for name in names if name not in ("", "identity")]
        if len(packed) > 1 or not _DECODED.issuperset(packed):
            raise InvalidResponse(
                f"The response is compressed in a way that was not requested ({sanitize(encoding, 40)}).",
                "It was not read. Report this to the gateway.",
            )
        self.unpacks = bool(packed)
        self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB) if packed else None
        self._began = False

    async def pieces(self, chunk: bytes) -> AsyncIterator[bytes]:
        """Yield the decompressed bytes of `chunk`, at most a megabyte at a time, inflated in a worker."""
        inflate = self._inflate
        if inflate is None:
            yield chunk
            return
        self._began = self._began or bool(chunk)
        pending = bool(chunk)
        while pending and not inflate.eof:
            try:
                piece = await run_cpu(inflate.decompress, chunk, _PIECE)
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from error
            yield piece
            chunk = inflate.unconsumed_tail
            pending = bool(chunk) or len(piece) == _PIECE  # a full piece: the decoder may have more

    def finish(self) -> None:
        """Raise httpx.DecodingError where the compressed data ended too early."""
        if self._inflate is not None and self._began and not self._inflate.eof:
            raise httpx.DecodingError("the compressed data ended too early")
