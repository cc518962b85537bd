"""TCP and TLS connections of asyncio for httpcore, which are read a quarter of a megabyte at a time.

httpcore's own backend asks for 64 kB and stops the connection between two reads: an image takes forty of them.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

__all__ = ["Backend", "Incoming", "Stream"]

_PIECE = 256 * 1024
"""Bytes that are read at once: memory that was used a moment ago is the fastest."""
_FEW_LINES = 8 * 1024
_MANY = 200
"""Lines in what was read at once: headers, the chunks of a megabyte and the bytes of an image have fewer."""
_MAX_PORT = 65535
_NEXT_ADDRESS = 0.25
"""Seconds after which the next address of a host is tried, too."""


class Backend(httpcore.AsyncNetworkBackend):
    """Opens connections on the running event loop."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return a connection to `host`; raises httpcore.ConnectError or httpcore.ConnectTimeout."""
        assert local_address is None and not socket_options  # noqa: S101, PT018  nobody here asks for them
        if not 0 < port <= _MAX_PORT:
            raise httpcore.ConnectError(f"there is no port {port}")
        loop = asyncio.get_running_loop()
        with _errors(httpcore.ConnectError, httpcore.ConnectTimeout):
            async with asyncio.timeout(timeout):
                transport, incoming = await loop.create_connection(
                    Incoming, host, port, happy_eyeballs_delay=_NEXT_ADDRESS
                )
        return Stream(transport, incoming)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class Incoming(asyncio.BufferedProtocol):
    """Bytes of a connection that have come and are not taken yet: as many as the buffer holds, then it waits."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_PIECE))
        self.size = 0
        self.ended = False
        self._error: Exception | None = None
        self._transport: asyncio.Transport | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; also called for the TLS that a connection is wrapped in."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  TCP
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's
        """Return the place for the next bytes."""
        return self._buffer[self.size :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count bytes that have come."""
        self.size += nbytes
        if self.size == _PIECE and self._transport is not None:
            self._transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> None:
        """End: the other side sends no more."""
        self.ended = True
        self._readable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, for whatever reason."""
        self.ended, self._error = True, exc
        self._readable.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Let the next write wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let it go on."""
        self._writable.set()

    async def take(self) -> bytes:
        """Return the bytes that have come, and wait for the first; none at the end. Raises OSError."""
        while not (self.size or self.ended):
            self._readable.clear()
            await self._readable.wait()
        if self._error is not None and not self.size:
            raise self._error
        data, full = bytes(self._buffer[: self.size]), self.size == _PIECE
        self.size = 0
        if full and self._transport is not None and not self.ended:
            self._transport.resume_reading()
        return data

    async def written(self) -> None:
        """Wait until more may be written; raises OSError."""
        if self.ended:
            raise self._error or ConnectionResetError("the connection is closed")
        await self._writable.wait()


class Stream(httpcore.AsyncNetworkStream):
    """A connection whose megabytes are read at once, but lines a few at a time.

    Every line may be an event of HTTP, and httpcore handles the events that it has without awaiting anything.
    """

    def __init__(self, transport: asyncio.Transport, incoming: Incoming) -> None:
        self._transport = transport
        self._incoming = incoming
        self._rest = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109  httpcore's
        """Return the bytes that have come, more than `max_bytes` where there are; none at the end."""
        data, self._rest = self._rest, b""
        if data:
            await asyncio.sleep(0)
        else:
            with _errors(httpcore.ReadError, httpcore.ReadTimeout):
                if self._incoming.size or timeout is None:
                    data = await self._incoming.take()
                else:
                    async with asyncio.timeout(timeout):
                        data = await self._incoming.take()
        if len(data) > _FEW_LINES and _has_many_lines(data):
            data, self._rest = data[:_FEW_LINES], data[_FEW_LINES:]
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  httpcore's
        """Send `buffer`; raises httpcore.WriteError or httpcore.WriteTimeout."""
        if not buffer:
            return
        with _errors(httpcore.WriteError, httpcore.WriteTimeout):
            self._transport.write(buffer)
            async with asyncio.timeout(timeout):
                await self._incoming.written()

    async def aclose(self) -> None:
        """Close the connection at once: nothing that matters is on its way."""
        self._transport.abort()
        await asyncio.sleep(0)  # the socket is closed by the loop

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's
    ) -> httpcore.AsyncNetworkStream:
        """Return this connection inside TLS; raises httpcore.ConnectError or httpcore.ConnectTimeout."""
        loop, secure = asyncio.get_running_loop(), None
        try:
            with _errors(httpcore.ConnectError, httpcore.ConnectTimeout):
                async with asyncio.timeout(timeout):
                    secure = await loop.start_tls(
                        self._transport, self._incoming, ssl_context, server_hostname=server_hostname
                    )
        finally:
            if secure is None:
                self._transport.abort()
        if secure is None:
            raise httpcore.ConnectError("the connection was closed")
        self._incoming.connection_made(secure)
        return Stream(secure, self._incoming)

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks for: above all whether an idle connection was closed by the other side."""
        if info == "is_readable":
            closed = self._incoming.ended or self._incoming.size or self._transport.is_closing()
            return bool(closed) or _is_readable(self._transport.get_extra_info("socket").fileno())
        name = {"client_addr": "sockname", "server_addr": "peername"}.get(info, info)
        return self._transport.get_extra_info(name)


def _has_many_lines(data: bytes) -> bool:
    # Base64 has none at all, and is looked through once; the bytes of an image have many, most of them alone.
    if _count(data, b"\n", _MANY) <= _MANY:
        return False
    return max(data.count(b"\r\n"), data.count(b"HTTP/1.")) > _MANY


def _count(data: bytes, mark: bytes, most: int) -> int:
    """Return how often `mark` is in `data`, at most one more than `most`."""
    count, place = 0, data.find(mark)
    while place >= 0 and count <= most:
        count, place = count + 1, data.find(mark, place + 1)
    return count


def _is_readable(descriptor: int) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])


@contextmanager
def _errors(broken: type[Exception], late: type[Exception]) -> Iterator[None]:
    """Turn the errors of asyncio into httpcore's."""
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except (OSError, UnicodeError) as error:  # no such name
        raise broken(getattr(error, "strerror", None) or str(error)) from error
