"""HTTP connections: opened when they are first needed, directly or through the user's proxy.

Below httpx's client there are no cookies, no redirects, no log of requests, and nothing of the environment is read
unless a request needs it. A connection is used again only for the host name that it was verified for.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Any

import httpcore
import httpx

from blockrun_magic.errors import GatewayUnreachable
from blockrun_magic.gateway.proxies import proxy_for
from blockrun_magic.text import sanitize
from blockrun_magic.threads import run_cpu

__all__ = ["Transports"]

_MAX_POOLS = 32
_PIECE = 1024 * 1024
_FEW_LINES = 8 * 1024
_MANY = 200
"""Lines in what was read at once: headers, the chunks of a megabyte and the bytes of an image have fewer."""
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=120)
_ONCE = httpx.Limits(max_connections=None, max_keepalive_connections=0)


class Transports:
    """Pools of connections, to be used from one event loop only."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str, str], httpx.AsyncHTTPTransport] = {}
        self._context: ssl.SSLContext | None = None
        self._lock = asyncio.Lock()

    async def pool(self, url: str, verified_for: str = "") -> httpx.AsyncHTTPTransport:
        """Return the pool for `url`: its connections are shared with requests for the same `verified_for` only.

        Raises GatewayUnreachable where the environment names a proxy or certificates that cannot be used.
        """
        scheme, proxy = httpx.URL(url).scheme, proxy_for(url) or ""
        key = (scheme, proxy, verified_for)
        known = self._pools.get(key)
        if known is not None:
            return known
        if len(self._pools) >= _MAX_POOLS:
            key, limits = (scheme, proxy, "\n"), _ONCE  # one for all further names, which keeps no connection
        else:
            limits = _LIMITS
        secure = scheme == "https" or proxy.startswith("https")
        context = await self._certificates() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if key not in self._pools:
            through = httpx.Proxy(proxy, ssl_context=context if proxy.startswith("https") else None) if proxy else None
            pool = httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=through, trust_env=False)
            _read_in_large_pieces(pool)
            self._pools[key] = pool
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


def _read_in_large_pieces(transport: httpx.AsyncHTTPTransport) -> None:
    """Give the connections of `transport` larger reads; where httpx keeps its pool elsewhere, it stays as it is."""
    pool = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if pool is not None and isinstance(backend, httpcore.AsyncNetworkBackend):
        pool._network_backend = _LargeReads(backend)  # noqa: SLF001  httpx has no option for it


class _LargeReads(httpcore.AsyncNetworkBackend):
    """Opens the connections of another backend, which are read a megabyte at a time.

    httpcore asks for 64 kB, and asyncio brings up to 256 kB: each piece is split and awaited four times.
    """

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _LargeReadStream(await self._backend.connect_tcp(*args, **kwargs))

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _LargeReadStream(await self._backend.connect_unix_socket(*args, **kwargs))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _LargeReadStream(httpcore.AsyncNetworkStream):
    """A stream whose megabytes are read at once, but lines a few at a time.

    Every line may be an event of HTTP, and httpcore handles the events that it has without awaiting anything.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._rest = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  httpcore's
        data, self._rest = self._rest, b""
        if data:
            await asyncio.sleep(0)
        else:
            data = await self._stream.read(max(max_bytes, _PIECE), timeout)
        if len(data) > _FEW_LINES and max(data.count(b"\r\n"), data.count(b"HTTP/1.")) > _MANY:
            data, self._rest = data[:_FEW_LINES], data[_FEW_LINES:]
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  httpcore's
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's
    ) -> httpcore.AsyncNetworkStream:
        return _LargeReadStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


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
