"""The local endpoint as a server: socket, key, and shutdown."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import threading
from typing import TYPE_CHECKING, TextIO

from blockrun_magic.errors import BlockrunError
from blockrun_magic.proxy.health import SERVER
from blockrun_magic.serving import LOOPBACK_HOSTS, listening_socket, serve_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.studio import Studio

__all__ = ["DEFAULT_PORT", "LocalEndpoint", "new_key"]

DEFAULT_PORT = 8402
"""ClawRouter's port, so that programs configured for ClawRouter find this server."""
_GRACE = 25.0
"""Seconds that running requests have to end when the server is stopped."""
_CONTAINER_HOSTS = ("host.docker.internal", "host.containers.internal")
"""The name of the host machine in containers."""
_LOOPBACK = (*LOOPBACK_HOSTS, "[::1]")


def new_key() -> str:
    """Return a random API key."""
    return f"brm_{secrets.token_urlsafe(24)}"


class LocalEndpoint:
    """The server of one studio and one gateway; it listens as soon as it is made.

    `port` 0 takes a free one; `key` None asks clients for none; `max_price` is in micro-USDC a request; `log` is a
    text file for the access log; `names` are further names that clients know this machine by; `stop` is an event that
    ends the server when it is set. Raises BlockrunError where
    the address cannot be used.
    """

    def __init__(
        self,
        studio: Studio,
        gateway: Gateway,
        *,
        port: int = DEFAULT_PORT,
        host: str = "127.0.0.1",
        key: str | None = None,
        max_price: int | None = None,
        log: TextIO | None = None,
        names: Sequence[str] = (),
        stop: threading.Event | None = None,
    ) -> None:
        self._studio = studio
        self._gateway = gateway
        self._stop = stop or threading.Event()
        self._max_price = max_price
        self._log = log
        self.host = host
        self.key = key
        self._names = tuple(names)
        if key is None and not self.on_loopback:
            raise BlockrunError("A server that others can reach needs a key.", "Leave out --no-key, or --host.")
        self._listener = _bind(port, host)
        self.port: int = self._listener.getsockname()[1]

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in (*_LOOPBACK, "::1")

    @property
    def origin(self) -> str:
        """The address without a path, such as "http://127.0.0.1:8402"."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  as it is reached from here
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL for OpenAI clients."""
        return f"{self.origin}/v1"

    async def serve(self) -> None:
        """Serve until `stop` is called, then let running requests end; runs on the studio's event loop."""
        from blockrun_magic.proxy.app import Access, build_app

        hosts = [*_LOOPBACK, self.host, *self._names]
        if not self.on_loopback:
            hosts += [socket.gethostname(), *_CONTAINER_HOSTS]
        access = Access(hosts, self.key, paths=self.on_loopback, max_price=self._max_price, log=self._log)
        app = build_app(self._studio, self._gateway, access)
        try:
            await serve_until(app, self._listener, self._stop, grace=_GRACE)
        finally:
            self._listener.close()

    def stop(self) -> None:
        """Make the server end; callable from any thread and from a signal handler."""
        self._stop.set()


def _bind(port: int, host: str) -> socket.socket:
    try:
        return listening_socket(port, host)
    except OverflowError:
        raise BlockrunError(f"{port} is not a port.", "Choose one from 1024 to 65535, or 0 for a free one.") from None
    except OSError as error:
        holder = _who_is_there(port, host)
        reason = holder or error.strerror or type(error).__name__
        raise BlockrunError(
            f"The server cannot listen on {host}, port {port}: {reason}.",
            "Stop that program, or choose another port with --port (0 picks a free one).",
        ) from None


def _who_is_there(port: int, host: str) -> str | None:
    """Return the name of the server at an occupied port, or None if it is unknown."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health")
        body = json.loads(connection.getresponse().read(10_000))
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return None
    finally:
        connection.close()
    if not isinstance(body, dict):
        return None
    if body.get("server") == SERVER and isinstance(body.get("pid"), int):
        return f"another blockrun-magic server (process {body['pid']}) listens there"
    return "a ClawRouter listens there" if "paymentChain" in body else None
