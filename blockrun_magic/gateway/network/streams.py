"""TCP and TLS connections of asyncio for httpcore, which are read up to a megabyte at a time.

httpcore's own backend asks for 64 kB and stops the connection between two reads: an image takes forty of them.
"""

from __future__ import annotations

import asyncio
import os
import select
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

__all__ = ["Backend", "Incoming", "Stream"]

_SMALL, _LARGE = 64 * 1024, 1024 * 1024
_PIECE = 128 * 1024
"""Bytes passed on at once: recently used memory is the fastest."""
_FEW_LINES = 8 * 1024
_MANY = 200
"""The most lines in one read: headers, the chunks of a megabyte and the bytes of an image have fewer."""
_PEEK_AGAIN = 0.005
"""Seconds for which an idle connection without data is not checked again."""
_MAX_PORT = 65535
_NEXT_ADDRESS = 0.25
"""Seconds after which the next address of a host is tried in parallel."""


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
    """Received bytes of a connection that are not read yet; if the buffer is full, receiving pauses.

    A full buffer is replaced by a large one, which is released when it is no longer filled.
    """

    def __init__(self) -> None:
        self._small = self._buffer = memoryview(bytearray(_SMALL))
        self._start = self._end = 0
        self.ended = False
        self._error: Exception | None = None
        self._transport: asyncio.Transport | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def size(self) -> int:
        """The number of received bytes that are not read yet."""
        return self._end - self._start

    @property
    def is_writable(self) -> bool:
        """Whether all written bytes were sent."""
        return self._writable.is_set() and not self.ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start; called again when TLS wraps the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  TCP
        if transport.get_extra_info("sslcontext") is None:  # with a limit of 0, asyncio's TLS never resumes
            transport.set_write_buffer_limits(0)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's
        """Return the buffer for the next bytes."""
        return self._buffer[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count received bytes."""
        self._end += nbytes
        if self._end == len(self._buffer) and self._transport is not None:
            self._transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> None:
        """End: the other side sends nothing more."""
        self.ended = True
        self._readable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, with or without an error."""
        self.ended, self._error = True, exc
        self._readable.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Make the next write wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writes continue."""
        self._writable.set()

    async def arrived(self) -> None:
        """Wait for bytes or the end."""
        while not (self.size or self.ended):
            self._readable.clear()
            await self._readable.wait()

    def take(self) -> bytes:
        """Return received bytes, none at the end; raises OSError if the connection broke."""
        if self._error is not None and not self.size:
            raise self._error
        data = bytes(self._buffer[self._start : min(self._end, self._start + _PIECE)])
        self._start += len(data)
        if self._start == self._end:
            self._begin_again(was_full=self._end == len(self._buffer))
        return data

    def _begin_again(self, *, was_full: bool) -> None:
        self._start = self._end = 0
        if was_full and self._buffer is self._small:
            self._buffer = memoryview(bytearray(_LARGE))
        elif not was_full and self._buffer is not self._small:
            self._buffer = self._small  # the large buffer is released while an image is decoded
        if was_full and self._transport is not None and not self.ended:
            self._transport.resume_reading()

    async def written(self) -> None:
        """Wait until all written bytes were sent; raises OSError."""
        await self._writable.wait()
        if self.ended:
            raise self._error or ConnectionResetError("the connection is closed")


class Stream(httpcore.AsyncNetworkStream):
    """A connection that reads bodies by the megabyte, but lines a few at a time.

    Every line may be an event of HTTP, and httpcore handles all available events without awaiting anything.
    """

    def __init__(self, transport: asyncio.Transport, incoming: Incoming) -> None:
        self._transport = transport
        self._incoming = incoming
        self._rest = b""
        self._peeked_at = 0.0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109  httpcore's
        """Return the received bytes, possibly more than `max_bytes`; none at the end."""
        data, self._rest = self._rest, b""
        if data:
            await asyncio.sleep(0)
        else:
            incoming = self._incoming
            with _errors(httpcore.ReadError, httpcore.ReadTimeout):
                if not incoming.size:
                    async with asyncio.timeout(timeout):
                        await incoming.arrived()
                data = incoming.take()
        if len(data) > _FEW_LINES and _has_many_lines(data):
            data, self._rest = data[:_FEW_LINES], data[_FEW_LINES:]
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  httpcore's
        """Send `buffer`, a piece at a time, which asyncio need not copy; raises httpcore.WriteError or WriteTimeout."""
        view = memoryview(buffer)
        with _errors(httpcore.WriteError, httpcore.WriteTimeout):
            for start in range(0, len(view), _PIECE):
                self._transport.write(view[start : start + _PIECE])
                if not self._incoming.is_writable:
                    async with asyncio.timeout(timeout):
                        await self._incoming.written()

    async def aclose(self) -> None:
        """Close the connection at once: nothing important is in transit."""
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
        """Return information for httpcore, mainly whether the other side has closed an idle connection."""
        if info == "is_readable":
            return bool(self._incoming.ended or self._incoming.size or self._transport.is_closing()) or self._peek()
        name = {"client_addr": "sockname", "server_addr": "peername"}.get(info, info)
        return self._transport.get_extra_info(name)

    def _peek(self) -> bool:
        """Return whether the socket has data; httpcore asks this of all idle connections at every request."""
        now = time.monotonic()
        if now - self._peeked_at < _PEEK_AGAIN:
            return False
        readable = _is_readable(self._transport.get_extra_info("socket").fileno())
        if not readable:
            self._peeked_at = now
        return readable


def _has_many_lines(data: bytes) -> bool:
    # Base64 has no line ends, and is searched once; the bytes of an image have many, most of them single.
    if _count(data, b"\n", _MANY) <= _MANY:
        return False
    return max(data.count(b"\r\n"), data.count(b"HTTP/1.")) > _MANY


def _count(data: bytes, mark: bytes, most: int) -> int:
    """Return the number of `mark` in `data`, at most `most` + 1."""
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
        # asyncio replaces the reason by an address.
        reason = os.strerror(error.errno) if isinstance(error, ConnectionError) and error.errno else ""
        raise broken(reason or getattr(error, "strerror", None) or str(error)) from error
