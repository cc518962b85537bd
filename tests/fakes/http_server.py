"""A Starlette application behind a real socket on loopback, in a thread of its own."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
import time
from email.utils import formatdate
from typing import Self

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HangUp", "Served", "picture"]


class HangUp(Response):
    """A dropped connection in place of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Drop the connection."""
        scope["connection"].abort()


class _Wired:
    """Gives every request its connection, and every response the time of its server's clock."""

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self.app, self.served = app, served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["connection"] = getattr(getattr(send, "__self__", None), "transport", None)

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(time.time() + self.served.ahead, usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        await self.app(scope, receive, dated)


class Served:
    """A server that runs during its `with` block; subclasses define `app`."""

    ahead: float = 0.0
    """Seconds that its clock is ahead of this machine's clock."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()

    def app(self) -> Starlette:
        """Return the application."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        config = uvicorn.Config(
            _Wired(self.app(), self), http="h11", date_header=False, ws="none", lifespan="off", log_config=None
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._cut)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._server.serve(sockets=[self._socket]))
        self._loop.close()

    def _cut(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        for task in list(self._server.server_state.tasks):
            task.cancel()


def picture(index: int, form: str = "JPEG") -> bytes:
    """Return a small image; its color depends on its number."""
    file = io.BytesIO()
    Image.new("RGB", (48, 32), (index * 40 % 256, index * 90 % 256, 120)).save(file, form)
    return file.getvalue()
