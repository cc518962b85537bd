"""The HTTP client: JSON and files to a gateway, downloads of images.

It transfers bytes and does not interpret payments. A payment header is sent with one request to the gateway's own
origin, and a redirect is never followed with one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.metadata import metadata
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import httpx
import msgspec

from blockrun_magic.errors import (
    BlockrunError,
    GatewayError,
    GatewayUnreachable,
    InvalidResponse,
    RequestError,
    SourceError,
)
from blockrun_magic.gateway.addresses import checked_address
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.network.transport import Transports
from blockrun_magic.gateway.reading import Pace, TooSlow, read_body
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.gateway.responses import Response
from blockrun_magic.gateway.urls import CHECK_CONNECTION, Endpoint, basic_authorization
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.text import public_url, sanitize
from blockrun_magic.threads import run_cpu

__all__ = ["USER_AGENT", "Client", "Timeouts"]

_ABOUT = metadata("blockrun-magic")
USER_AGENT = f"blockrun-magic/{_ABOUT['Version']} (+{(_ABOUT['Project-URL'] or '').partition(', ')[2]})"
"""A contact address, which websites require."""
_MAX_ANSWER = 256 * 1024 * 1024
_MAX_IMAGE = 64 * 1024 * 1024
_MAX_REQUIREMENTS = 64 * 1024
_MAX_ERROR = 1024 * 1024
_MAX_REDIRECTS = 3
_MAX_SOURCE_REDIRECTS = 10
_HEADERS = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}
_IMAGE_HEADERS = {**_HEADERS, "Accept": "image/*"}
_ELSEWHERE = "Check the address, or download the image and give its path."
_NOT_SENT_ERRORS = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
# A port above 65535 makes the connection raise an exception group.
_TRANSPORT_ERRORS = (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL, ExceptionGroup)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait: for a connection, for the next byte of a response, for the next byte of an image.

    ClawRouter holds a slow request for 300 s without a byte, so the limit for responses is longer. `pace` limits the
    whole response.
    """

    connect: float = 10.0
    answer: float = 330.0
    image: float = 60.0
    pace: Pace = field(default_factory=Pace)


class Client:
    """Connections to gateways and to the hosts of images, to be used from one event loop only.

    It opens no connection and reads no environment variable before the first request.
    """

    def __init__(self, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._transports = Transports()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transports.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def post(
        self, server: Endpoint, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the server's response to a JSON `body`; raises GatewayUnreachable, InvalidResponse, RequestError."""
        content = await run_cpu(_encode, body) if "image" in body else _encode(body)
        named = SecretHeaders({"Content-Type": "application/json", **(headers or {})})
        request = self._request("POST", server.address(path), headers=named, content=content)
        return await self._answer(request, server)

    async def post_files(
        self, gateway: Gateway, request: ImageRequest, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the gateway's response to `request` as multipart/form-data, its images as files; raises as `post`.

        The boundary comes from the request, so that a repeated request is the same to the byte.
        """
        named = {"Content-Type": f"multipart/form-data; boundary={request.digest.removeprefix('sha256:')}"}
        built = self._request(
            "POST",
            gateway.address(request.endpoint),
            data=request.fields(),
            files=[(name, (name, upload.data, upload.media_type)) for name, upload in request.files()],
            headers=SecretHeaders({**named, **(headers or {})}),
        )
        return await self._answer(built, gateway)

    async def get(self, gateway: Gateway, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return the gateway's response to a GET of `url`, a path under its base or an address on its origin.

        Raises GatewayUnreachable or InvalidResponse.
        """
        address = gateway.base_url + url if url.startswith("/") else url
        if not gateway.same_origin(address):
            raise InvalidResponse(f"{public_url(address)} is not at the gateway.", "Report this to the gateway.")
        return await self._answer(self._request("GET", address, headers=headers or {}), gateway)

    async def call(
        self, method: str, gateway: Gateway, path: str, headers: Mapping[str, str], *, silence: float, **content: Any
    ) -> Response:
        """Return the response to `method` at a path of a classroom; `content` is a JSON `body`, or a form for httpx.

        `silence` bounds the seconds without a byte. Raises GatewayUnreachable, InvalidResponse or RequestError.
        """
        body, shortest = content.pop("body", None), min(silence, self._timeouts.answer)
        kind = {} if body is None else {"Content-Type": "application/json"}
        built = partial(self._request, method, gateway.base_url + path, headers=SecretHeaders({**kind, **headers}))
        # No variable holds the encoded body, which may contain a secret: a traceback would show it.
        request = built(silence=shortest, **content) if body is None else built(silence=shortest, content=_encode(body))
        return await self._answer(request, gateway)

    async def connect(self, gateway: Gateway) -> None:
        """Open a connection for the next request; sends nothing, and ignores failures."""
        with suppress(BlockrunError):
            await self._answer(self._request("HEAD", gateway.base_url), gateway)

    async def download(self, url: str, gateway: Gateway) -> bytes:
        """Return the bytes of a result URL; raises InvalidResponse or GatewayUnreachable.

        Only https or the gateway's own origin, at most three redirects, 64 MB, and no private
        address unless the gateway itself is on this machine.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            pinned = await checked_address(url, gateway)
            headers = {**_IMAGE_HEADERS, "Host": pinned.host}
            request = self._request(
                "GET", pinned.url, headers=headers, extensions=pinned.extensions, silence=self._timeouts.image
            )
            try:
                async with self._opened(request, pinned.verified_for) as response:
                    if response.is_redirect:
                        url = _joined(url, response)
                        continue
                    if response.status_code != 200:
                        raise GatewayUnreachable(
                            f"The address of the image answered {response.status_code}.",
                            "Run the cell again: the image is downloaded, not bought, again.",
                        )
                    return await read_body(response, _MAX_IMAGE, self._timeouts.pace)
            except _TRANSPORT_ERRORS as error:
                raise _unreachable(gateway, error, {}) from error
        raise InvalidResponse("The address of the image redirects endlessly.", "Report this to the gateway.")

    async def fetch(self, url: str) -> bytes:
        """Return the bytes of a URL that the user chose as a source; raises SourceError."""
        shown = public_url(url)
        try:
            return await self._fetch(url, shown)
        except SourceError:
            raise
        except GatewayError as error:  # an unusable proxy or certificate file, or a response beyond the limits
            hint = _ELSEWHERE if isinstance(error, InvalidResponse) else error.hint
            raise SourceError(f"{shown} could not be fetched: {error.message}", hint) from error
        except _TRANSPORT_ERRORS as error:
            reason = sanitize(error, 120).rstrip(".") or type(error).__name__
            if isinstance(error, ExceptionGroup):
                reason = "no connection could be made"
            raise SourceError(f"{shown} could not be fetched: {reason}.", _ELSEWHERE) from error

    async def _fetch(self, url: str, shown: str) -> bytes:
        for _ in range(_MAX_SOURCE_REDIRECTS + 1):
            headers = SecretHeaders({**_IMAGE_HEADERS, **basic_authorization(url)})
            request = self._request("GET", url, headers=headers, silence=self._timeouts.image)
            async with self._opened(request) as response:
                if response.has_redirect_location:
                    url = _joined(url, response)
                    continue
                if response.status_code in (401, 403):
                    raise SourceError(
                        f"{shown} answered {response.status_code}: the site does not allow downloads by programs.",
                        "Download it in a browser and give its path.",
                    )
                if response.status_code != 200:
                    raise SourceError(f"{shown} answered {response.status_code}.", "Check the address in a browser.")
                return await read_body(response, _MAX_IMAGE, self._timeouts.pace)
        raise SourceError(f"{shown} redirects endlessly.", "Download the image and give its path.")

    def _request(self, method: str, url: str, *, silence: float | None = None, **content: Any) -> httpx.Request:
        timeout = httpx.Timeout(silence or self._timeouts.answer, connect=self._timeouts.connect, pool=None)
        extensions = {"timeout": timeout.as_dict(), **content.pop("extensions", {})}
        headers = SecretHeaders({**_HEADERS, **content.pop("headers", {})})
        try:
            target = _read_url(url) if method == "POST" else url  # the host of a gateway: there are few of them
            return httpx.Request(method, target, headers=headers, extensions=extensions, **content)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InvalidResponse(
                f"{public_url(url)} is not an address that can be opened ({sanitize(error, 80)}).",
                "Check the address.",
            ) from error

    async def _answer(self, request: httpx.Request, server: Endpoint) -> Response:
        headers: dict[str, str] = {}
        try:
            async with self._opened(request) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                status = response.status_code
                limit = _MAX_ANSWER if status in (200, 202) else _MAX_ERROR
                limit = _MAX_REQUIREMENTS if status == 402 else limit
                body = await read_body(response, limit, self._timeouts.pace, cut=limit < _MAX_ANSWER)
        except _TRANSPORT_ERRORS as error:
            raise _unreachable(server, error, headers) from error
        return Response(status, headers, body)

    @asynccontextmanager
    async def _opened(self, request: httpx.Request, verified_for: str = "") -> AsyncIterator[httpx.Response]:
        """Yield the response to `request` as soon as its headers have come; it is closed afterwards."""
        pool = await self._transports.pool(request.url, verified_for)
        timeout = request.extensions["timeout"]
        limit = timeout["read"] + timeout["connect"]
        limit += int(request.headers.get("content-length", 0)) / self._timeouts.pace.rate
        try:
            async with asyncio.timeout(limit):
                response = await pool.handle_async_request(request)
        except TimeoutError:
            raise TooSlow(f"no response within {limit:.0f} s") from None
        response.request = request
        try:
            yield response
        finally:
            await response.aclose()


@lru_cache(32)
def _read_url(url: str) -> httpx.URL:
    return httpx.URL(url)


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise RequestError(
            "The prompt contains half a character (a lone surrogate), which cannot be sent.",
            "Type or paste the text again; an emoji was probably cut in two.",
        ) from error


def _joined(url: str, response: httpx.Response) -> str:
    try:
        return urljoin(url, str(response.headers.get("location", "")))
    except ValueError as error:
        raise httpx.InvalidURL(str(error)) from error


def _unreachable(server: Endpoint, error: Exception, headers: Mapping[str, str]) -> GatewayUnreachable:
    sent = not isinstance(error, _NOT_SENT_ERRORS)
    outcome = "broke off" if sent else "could not be made"
    if isinstance(error, httpx.ReadTimeout):
        outcome = "fell silent"
    if isinstance(error, TooSlow):
        outcome = "was too slow"
    reason = sanitize(error, 120) or type(error).__name__
    return GatewayUnreachable(
        f"The connection to {server.name} {outcome} ({reason}).",
        CHECK_CONNECTION if sent else server.connection_hint,
        sent=sent,
        headers=headers,
    )
