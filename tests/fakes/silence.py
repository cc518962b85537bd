"""A client that gives up when a server falls silent: an event decides, not a number of seconds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import httpcore

from blockrun_magic.gateway.network.streams import Stream

__all__ = ["gives_up"]

_LOOK = 0.01


@contextmanager
def gives_up(silent: threading.Event) -> Iterator[None]:
    """Let the read of a response time out as soon as `silent` is set; the event is then cleared."""
    real = Stream.read

    async def read(stream: Stream, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  httpcore's
        reading = asyncio.ensure_future(real(stream, max_bytes, timeout))
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=_LOOK)
                if silent.is_set() and not reading.done():
                    silent.clear()
                    raise httpcore.ReadTimeout("the server says nothing")
            return reading.result()
        finally:
            reading.cancel()

    with mock.patch.object(Stream, "read", read):
        yield
