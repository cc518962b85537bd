"""Access to the local endpoint: only this machine's clients, with the key; never a web page.

A page in a browser can send requests to loopback. It cannot hide its `Origin`, and if it reaches this server under a
name of its own (DNS rebinding), its `Host` shows that. No CORS header is ever sent.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from starlette.requests import Request

from blockrun_magic.proxy.errors import BadRequest
from blockrun_magic.serving import without_port

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Guard"]

_FOREIGN_SITES = ("cross-site", "same-site")


class Guard:
    """ASGI middleware that checks `Host`, `Origin` and, below /v1, the key; `key` None requires none."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], key: str | None) -> None:
        self.app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            return
        try:
            self._check(Request(scope))
        except BadRequest as refusal:
            await refusal.response()(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _check(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if without_port(host) not in {*self._hosts, _address_of(request)}:
            message = "This server does not use that host name. Use its own address, or start it with `--name NAME`."
            raise BadRequest(message, status=403, code="bad_host")
        origin = request.headers.get("origin")
        foreign = origin is not None and origin.lower() != f"http://{host.lower()}"
        if foreign or request.headers.get("sec-fetch-site") in _FOREIGN_SITES:
            message = "Web pages cannot use this server. Call it from a program on this machine."
            raise BadRequest(message, status=403, code="bad_origin")
        if self._key is not None and request.url.path.startswith("/v1") and not self._has_key(request):
            message = "The API key is missing or wrong. Send `Authorization: Bearer KEY` with the key of this server."
            raise BadRequest(message, status=401, code="invalid_api_key")

    def _has_key(self, request: Request) -> bool:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        given = value.strip() if scheme.lower() == "bearer" else request.headers.get("api-key", "")
        return secrets.compare_digest(given.encode(), (self._key or "").encode())


def _address_of(request: Request) -> str:
    """Return the local address of the connection, in the form of a `Host` header."""
    address = str((request.scope.get("server") or ("",))[0])
    return f"[{address}]" if ":" in address else address
