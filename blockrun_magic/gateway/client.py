"""The HTTP client: the only module that imports httpx.

It moves bytes and knows nothing of money: a payment header is given to it for one request to the
gateway's own origin, and redirects are never followed with one.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx

from blockrun_magic.errors import BlockrunError, GatewayUnreachable, InvalidResponse, SourceError
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.gateway.responses import Response
from blockrun_magic.text import sanitize

__all__ = ["Client", "Timeouts"]

_MAX_ANSWER = 256 * 1024 * 1024
_MAX_PICTURE = 64 * 1024 * 1024
_MAX_REDIRECTS = 3
_NOT_SENT_ERRORS = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
# An invalid URL: httpx reads the address of a redirect even where it does not follow it.
_TRANSPORT_ERRORS = (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL)
# A proxy from the environment must never carry what is meant for this machine.
_DIRECT = {"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None}
_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait: for a connection, for the next byte of an answer, for a picture's next byte.

    ClawRouter holds a slow request for 300 s without a byte, so answers get longer than that.
    """

    connect: float = 10.0
    answer: float = 330.0
    picture: float = 60.0


class Client:
    """One pool of connections, to be used from one event loop only."""

    def __init__(self, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeouts.answer, connect=self._timeouts.connect, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=120),
            headers={"User-Agent": "blockrun-magic", "Accept": "application/json"},
            mounts=_DIRECT,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def post(
        self, gateway: Gateway, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the gateway's answer to a JSON `body`; raises GatewayUnreachable or AnswerUnusable."""
        request = self._request("POST", gateway.base_url + path, json=body, headers=headers)
        return await self._answer(request, gateway)

    async def post_files(
        self, gateway: Gateway, request: ImageRequest, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the gateway's answer to `request` as multipart/form-data, its pictures as files; raises as `post`.

        The boundary is the request's own, so that a request that is sent again is the same to the byte.
        """
        named = {"Content-Type": f"multipart/form-data; boundary={request.digest.removeprefix('sha256:')}"}
        built = self._request(
            "POST",
            gateway.base_url + request.endpoint,
            data=request.fields(),
            files=[(name, (name, upload.data, upload.media_type)) for name, upload in request.files()],
            headers={**named, **(headers or {})},
        )
        return await self._answer(built, gateway)

    async def get(self, gateway: Gateway, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return the gateway's answer to a GET of `url`, a path under its base or an address on its origin.

        Raises GatewayUnreachable or AnswerUnusable.
        """
        address = gateway.base_url + url if url.startswith("/") else url
        if not gateway.same_origin(address):
            raise InvalidResponse(f"{sanitize(address, 80)} is not on the gateway.", "Report this to the gateway.")
        return await self._answer(self._request("GET", address, headers=headers), gateway)

    def _request(self, method: str, url: str, **content: Any) -> httpx.Request:
        try:
            return self._http.build_request(method, url, **content)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InvalidResponse(
                f"{sanitize(url, 80)} is not an address that can be opened ({sanitize(error, 80)}).",
                "Report this to the gateway.",
            ) from error

    async def _answer(self, request: httpx.Request, gateway: Gateway) -> Response:
        headers: dict[str, str] = {}
        try:
            response = await self._http.send(request, stream=True, follow_redirects=False)
            try:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = await _read_at_most(response, _MAX_ANSWER)
            finally:
                await response.aclose()
        except _TRANSPORT_ERRORS as error:
            raise _unreachable(gateway, error, headers) from error
        return Response(response.status_code, headers, body)

    async def connect(self, gateway: Gateway) -> None:
        """Open a connection that the next request will use; nothing is asked, and no failure is told."""
        with suppress(BlockrunError):
            await self._answer(self._request("HEAD", gateway.base_url), gateway)

    async def download(self, url: str, gateway: Gateway) -> bytes:
        """Return the bytes of a result URL; raises AnswerUnusable or GatewayUnreachable.

        Only https or the gateway's own origin, at most three redirects, 64 MB, and no private
        address unless the gateway itself is on this machine.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            pinned = await self._checked_address(url, gateway)
            request = self._request(
                "GET",
                pinned.url,
                headers={"Host": pinned.host, "Accept": "image/*"},
                extensions=pinned.extensions,
                timeout=self._timeouts.picture,
            )
            try:
                response = await self._http.send(request, stream=True, follow_redirects=False)
                try:
                    if response.is_redirect:
                        url = urljoin(url, response.headers.get("location", ""))
                        continue
                    if response.status_code != 200:
                        raise GatewayUnreachable(
                            f"The picture's address answered {response.status_code}.",
                            "Run the cell again: it is fetched, not bought, again.",
                        )
                    return await _read_at_most(response, _MAX_PICTURE)
                finally:
                    await response.aclose()
            except _TRANSPORT_ERRORS as error:
                raise _unreachable(gateway, error, {}) from error
        raise InvalidResponse("The picture's address redirects without end.", "Report this to the gateway.")

    async def fetch(self, url: str) -> bytes:
        """Return the bytes of a URL that the user chose as a source; raises SourceError."""
        try:
            async with self._http.stream(
                "GET",
                url,
                follow_redirects=True,
                headers={"Accept": "image/*"},
                timeout=self._timeouts.picture,
            ) as response:
                if response.status_code != 200:
                    raise SourceError(
                        f"{sanitize(url, 80)} answered {response.status_code}.",
                        "Check the address in a browser.",
                    )
                return await _read_at_most(response, _MAX_PICTURE)
        # A port above 65535 comes back from the connection as a group of errors.
        except (httpx.HTTPError, httpx.InvalidURL, InvalidResponse, ExceptionGroup) as error:
            reason = sanitize(error, 120).rstrip(".") or type(error).__name__
            raise SourceError(
                f"{sanitize(url, 80)} could not be fetched: {reason}.",
                "Check the address, or download the picture and give its path.",
            ) from error

    async def _checked_address(self, url: str, gateway: Gateway) -> _Pinned:
        """Return where to connect for `url`: to the very address that was found harmless."""
        url = gateway.loopback_alias(url) or url
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        own = gateway.same_origin(url)
        if not host or parts.username or parts.password or not (parts.scheme == "https" or own):
            raise InvalidResponse(
                f"The gateway names a picture at an address we do not open ({sanitize(url, 80)}).",
                "Only https is opened. Report this to the gateway.",
            )
        if own or gateway.on_loopback:
            return _Pinned(url, parts.netloc, {})
        addresses = await _resolve(host, port or 443)
        if not addresses or not all(map(_is_public, addresses)):
            raise InvalidResponse(
                f"The gateway names a picture on a private network ({sanitize(host, 80)}).",
                "It was not opened. Report this to the gateway.",
            )
        literal = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
        target = parts._replace(netloc=f"{literal}:{port}" if port else literal).geturl()
        return _Pinned(target, parts.netloc, {"sni_hostname": host})


@dataclass(frozen=True, slots=True)
class _Pinned:
    url: str
    host: str
    extensions: Mapping[str, Any]


async def _resolve(host: str, port: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise GatewayUnreachable(
            f"{sanitize(host, 80)}, where the picture is, cannot be found.",
            "Check the connection and run the cell again: the picture is fetched, not bought, again.",
        ) from error
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    inside = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
        # What every IPv4 host looks like on networks that have IPv6 only.
        inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return _is_public(inside) if inside else address.is_global and address in _UNICAST


async def _read_at_most(response: httpx.Response, limit: int) -> bytes:
    # Unlike a list of pieces, it hands out its bytes without a second copy of them.
    whole = io.BytesIO()
    async for chunk in response.aiter_bytes():
        if whole.tell() + len(chunk) > limit:
            raise InvalidResponse(
                f"The answer is larger than {limit // 1024 // 1024} MB.",
                "It was not read to its end. Choose a smaller size or fewer pictures.",
            )
        whole.write(chunk)
    return whole.getvalue()


def _unreachable(gateway: Gateway, error: Exception, headers: Mapping[str, str]) -> GatewayUnreachable:
    sent = not isinstance(error, _NOT_SENT_ERRORS)
    what = "broke off" if sent else "could not be made"
    if isinstance(error, httpx.ReadTimeout):
        what = "fell silent"
    reason = sanitize(error, 120) or type(error).__name__
    advice = "Check the connection and run the cell again."
    if gateway.paid_by is Payer.PROXY and not sent:
        advice = f"Start ClawRouter; it is looked for at {gateway.base_url} (BLOCKRUN_PROXY_PORT changes the port)."
    return GatewayUnreachable(
        f"The connection to {gateway.name} {what} ({reason}).",
        advice,
        sent=sent,
        headers=headers,
    )
