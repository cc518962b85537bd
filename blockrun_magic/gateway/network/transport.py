"""HTTP connections, opened at their first use, directly or through the user's proxy.

Below httpx's client, there are no cookies, redirects or request logs, and the environment is read only if a request
needs it. A connection is reused only for the host name for which it was verified.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import httpcore
import httpx

from blockrun_magic.errors import GatewayUnreachable
from blockrun_magic.gateway.network.streams import Backend
from blockrun_magic.gateway.proxies import proxy_for
from blockrun_magic.text import sanitize
from blockrun_magic.threads import run_cpu

__all__ = ["Transport", "Transports"]

_MAX_POOLS = 32
_OTHERS = "\n"
"""The pool of all other names, which keeps no connection."""
_MAX_IDLE, _SECONDS_IDLE = 32, 120.0
_ERRORS = (
    *(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError),
    *(httpcore.ProxyError, httpcore.UnsupportedProtocol),
)


class _Shared(TypedDict):
    """Settings that all pools share."""

    ssl_context: ssl.SSLContext
    max_connections: None
    max_keepalive_connections: int
    keepalive_expiry: float
    network_backend: Backend


class Transports:
    """Pools of connections, to be used from one event loop only."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str, str], httpx.AsyncBaseTransport] = {}
        self._context: ssl.SSLContext | None = None
        self._lock = asyncio.Lock()

    async def pool(self, url: httpx.URL, verified_for: str = "") -> httpx.AsyncBaseTransport:
        """Return the pool for `url`: its connections are shared with requests for the same `verified_for` only.

        Raises GatewayUnreachable if the environment names an unusable proxy or certificate file.
        """
        scheme, proxy = url.scheme, proxy_for(str(url)) or ""
        key = (scheme, proxy, verified_for)
        known = self._pools.get(key)
        if known is not None:
            return known
        if len(self._pools) >= _MAX_POOLS:
            key = (scheme, proxy, _OTHERS)
        secure = scheme == "https" or proxy.startswith("https")
        context = await self._certificates() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if key not in self._pools:
            self._pools[key] = Transport(_pool_through(proxy, context, 0 if key[2] == _OTHERS else _MAX_IDLE))
        return self._pools[key]

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.aclose()

    async def _certificates(self) -> ssl.SSLContext:
        async with self._lock:
            if self._context is None:
                self._context = await run_cpu(_load_certificates)
            return self._context


class Transport(httpx.AsyncBaseTransport):
    """An httpcore pool for httpx; unlike httpx's own transport, it accepts another network backend."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response to `request` once its headers have come; raises httpx.TransportError."""
        assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101  ours are bytes and forms
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        # Separate from the call that may fail: a traceback with variables shows those of the failing statement.
        built = httpcore.Request(
            request.method,
            target,
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _errors_of_httpx():
            answer = await self._pool.handle_async_request(built)
        assert isinstance(answer.stream, AsyncIterable)  # noqa: S101  of an asynchronous pool
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a response, streamed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx():
            async for piece in self._stream:
                yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """Turn httpcore's errors into those of httpx, which have the same names."""
    try:
        yield
    except _ERRORS as error:
        kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
        raise kind(str(error)) from error


def _pool_through(proxy: str, context: ssl.SSLContext, idle: int) -> httpcore.AsyncConnectionPool:
    """Return a pool of connections through the proxy at the address `proxy`, or direct ones without it.

    `idle` is the number of unused connections that stay open.
    """
    shared = _Shared(
        ssl_context=context,
        max_connections=None,
        max_keepalive_connections=idle,
        keepalive_expiry=_SECONDS_IDLE,
        network_backend=Backend(),
    )
    if not proxy:
        return httpcore.AsyncConnectionPool(**shared)
    known = httpx.Proxy(proxy)
    url = httpcore.URL(scheme=known.url.raw_scheme, host=known.url.raw_host, port=known.url.port, target=b"/")
    if known.url.scheme.startswith("socks"):
        return httpcore.AsyncSOCKSProxy(url, known.raw_auth, **shared)
    secure = context if known.url.scheme == "https" else None
    return httpcore.AsyncHTTPProxy(url, known.raw_auth, known.headers.raw, proxy_ssl_context=secure, **shared)


def _load_certificates() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context(trust_env=True)
    except (OSError, ValueError) as error:
        names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        log = os.environ.get("SSLKEYLOGFILE", "")
        if log and getattr(error, "filename", None) == log:
            raise GatewayUnreachable(
                f"The file that SSLKEYLOGFILE names cannot be written: {sanitize(error, 100).rstrip('.')}.",
                "Correct SSLKEYLOGFILE or unset it, then run the cell again.",
                sent=False,
            ) from error
        variable = " or ".join(names) or "the certificates of certifi"
        raise GatewayUnreachable(
            f"The certificates that {variable} names cannot be read: {sanitize(error, 100).rstrip('.')}."
            if names
            else f"The certificates of certifi cannot be read: {sanitize(error, 100).rstrip('.')}.",
            f"Correct {variable} or unset it, then run the cell again."
            if names
            else "Run `%pip install --force-reinstall certifi`.",
            sent=False,
        ) from error
