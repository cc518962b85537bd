"""HTTP serving for the practice gateway and the local endpoint: sockets, bounds, and servers that can be stopped."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    import uvicorn
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "LOOPBACK_HOSTS",
    "BodyLimit",
    "BodyTooLarge",
    "HostGuard",
    "listening_socket",
    "serve_until",
    "without_port",
]

LOOPBACK_HOSTS = ("127.0.0.1", "localhost")
"""The hosts of a server on loopback; any other `Host` comes from a web page with a name of its own for it."""

_POLL_INTERVAL = 0.05


def listening_socket(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Return a listening socket at `host`; port 0 takes a free one. Raises OSError.

    The socket names its protocol: for one that does not, such as that of `socket.create_server`, asyncio leaves
    Nagle's algorithm on, and a response then waits up to 40 ms for an acknowledgment.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except BaseException:
        listener.close()
        raise
    return listener


def without_port(host: str) -> str:
    """Return a `Host` header in lower case, without its port."""
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdigit() and not (name.startswith("[") and not name.endswith("]")) else host.lower()


class HostGuard:
    """ASGI middleware that answers with `refusal` if a request names another host than `hosts`.

    A page that reaches this server under a name of its own (DNS rebinding) is recognized by that name.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], refusal: ASGIApp) -> None:
        self.app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            return
        names = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        allowed = len(names) == 1 and without_port(names[0]) in self._hosts
        await (self.app if allowed else self._refusal)(scope, receive, send)


class BodyLimit:
    """ASGI middleware that answers with `too_large` when a request's body is longer than `max_bytes`.

    The bytes are counted as they arrive, regardless of the headers. An application that turns exceptions into responses
    itself has to do so for BodyTooLarge.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, too_large: ASGIApp) -> None:
        self.app = app
        self._max_bytes = max_bytes
        self._too_large = too_large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            await self._too_large(scope, receive, send)
            return
        received, started = 0, False

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise BodyTooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, bounded, noted)
        except BodyTooLarge:
            if not started:
                await self._too_large(scope, receive, send)


class BodyTooLarge(Exception):
    """More bytes arrived than a body may have."""


async def serve_until(app: ASGIApp, listener: socket.socket, stop: threading.Event, *, grace: float = 0.0) -> None:
    """Serve `app` on `listener` until `stop` is set; then wait up to `grace` seconds for running requests.

    Afterwards, open connections are closed and running requests are cancelled.
    """
    # Imported here, in the server's thread, so that the caller does not wait for the import.
    import uvicorn

    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_keep_alive=75,  # longer than clients keep a connection, so that none is closed under a request
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not stop.is_set() and not serving.done():  # noqa: ASYNC110  the event is a thread's
            await asyncio.sleep(_POLL_INTERVAL)
        if grace:
            await _drain(server, grace)
    finally:  # also when the task that serves is cancelled
        _close(server)
        await serving


async def _drain(server: uvicorn.Server, grace: float) -> None:
    for listener in server.servers:
        listener.close()
    tasks = list(server.server_state.tasks)
    if tasks:
        await asyncio.wait(tasks, timeout=grace)


def _close(server: uvicorn.Server) -> None:
    server.should_exit = server.force_exit = True
    for connection in list(server.server_state.connections):
        transport = getattr(connection, "transport", None)
        if transport is not None:
            transport.abort()
    for task in list(server.server_state.tasks):
        task.cancel()
