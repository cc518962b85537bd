"""The local endpoint as an ASGI application: OpenAI's image API, and ClawRouter's, over one studio."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from blockrun_magic.errors import BlockrunError
from blockrun_magic.payments.money import to_decimal
from blockrun_magic.proxy.access_log import AccessLog, note
from blockrun_magic.proxy.checks import check_request
from blockrun_magic.proxy.errors import BadRequest, error_response, failure_response, internal_error
from blockrun_magic.proxy.guard import Guard
from blockrun_magic.proxy.health import Health
from blockrun_magic.proxy.requests import build_request, read_choices, read_fields, sources_in
from blockrun_magic.proxy.responses import image_file, images_response, model_list
from blockrun_magic.proxy.sources import read_sources
from blockrun_magic.proxy.takes import FreshTakes
from blockrun_magic.serving import BodyLimit, BodyTooLarge
from blockrun_magic.studio import Options
from blockrun_magic.threads import run_cpu, run_io

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.gateway.request import ImageRequest, Operation, Upload
    from blockrun_magic.proxy.requests import Choices
    from blockrun_magic.studio import ImageResult, Studio

__all__ = ["Access", "build_app"]

_MAX_BODY = 100_000_000
_LOG = logging.getLogger(__name__)
_TOO_LARGE = BadRequest("The body is larger than 100 MB.", status=413, code="body_too_large")


@dataclass(frozen=True, slots=True)
class Access:
    """Rules of access to the server.

    `hosts` are the names it goes by, `key` the API key or None, `paths` whether clients may name files of this
    machine, `max_price` the most that one request may cost, in micro-USDC, `log` the file of the access log.
    """

    hosts: Collection[str]
    key: str | None
    paths: bool = True
    max_price: int | None = None
    log: TextIO | None = None


class _Routes:
    """The handlers, over one studio and one gateway."""

    def __init__(self, studio: Studio, gateway: Gateway, access: Access) -> None:
        self._studio = studio
        self._gateway = gateway
        self._access = access
        self._takes = FreshTakes()
        self._started = int(time.time())
        self._health = Health(studio, gateway, shared=not access.paths)

    async def generate(self, request: Request) -> Response:
        return await self._answer(request, "generate")

    async def edit(self, request: Request) -> Response:
        return await self._answer(request, "edit")

    async def models(self, _: Request) -> Response:
        entries = model_list(self._studio.catalogs.at(self._gateway), self._started)
        return JSONResponse({"object": "list", "data": entries})

    async def model(self, request: Request) -> Response:
        model_id = self._studio.catalogs.at(self._gateway).resolve(request.path_params["id"])
        entries = model_list(self._studio.catalogs.at(self._gateway), self._started)
        match = next((entry for entry in entries if entry["id"] == model_id), None)
        if match is None:
            message = f"The model `{model_id[:80]}` is not in the catalog. GET /v1/models lists them."
            raise BadRequest(message, "model", status=404, code="model_not_found")
        return JSONResponse(match)

    async def image(self, request: Request) -> Response:
        response = await run_io(image_file, self._studio.files, request.path_params["name"])
        if response is None:
            raise BadRequest("There is no such image here.", status=404, code="not_found")
        return response

    async def health(self, _: Request) -> Response:
        return JSONResponse(await self._health.report())

    async def variations(self, _: Request) -> Response:
        message = "Variations are not offered. Send the image to /v1/images/edits and say in the prompt what may vary."
        raise BadRequest(message, status=404, code="not_found")

    async def _answer(self, http: Request, operation: Operation) -> Response:
        fields = await read_fields(http)
        choices = read_choices(fields)
        catalog = self._studio.catalogs.at(self._gateway)
        uploads: tuple[Upload, ...] = ()
        mask: Upload | None = None
        if operation == "edit":
            images, painted = sources_in(fields)
            # Invalid fields are reported before a source is fetched.
            check_request(build_request(fields, operation, catalog), catalog, sources=len(images), masked=bool(painted))
            fetch, holes = self._studio.fetch, http.url.path.endswith("/edits")
            uploads, mask = await read_sources(images, painted, fetch, paths=self._access.paths, holes=holes)
        request = build_request(fields, operation, catalog, uploads, mask)
        check_request(request, catalog)
        note(http.scope, model=request.model, size=request.size, n=request.n, prompt_chars=len(request.prompt))
        result = await self._buy(http, request, choices)
        note(http.scope, cost_usd=f"{to_decimal(result.cost_micros):f}", cached=result.receipt.cached)
        origin = f"http://{http.headers['host']}"
        return await run_cpu(images_response, result, choices, origin)

    async def _buy(self, http: Request, request: ImageRequest, choices: Choices) -> ImageResult:
        take, fresh = choices.take, choices.fresh and choices.take is None
        if fresh:
            take = self._takes.take_for(self._studio, request, self._gateway, http.headers)
        limits = [limit for limit in (choices.max_price, self._access.max_price) if limit is not None]
        options = Options(take=take, max_price=min(limits, default=None))
        result = await self._studio.make(request, self._gateway, options)
        if fresh and not await http.is_disconnected():
            self._takes.delivered(request, self._gateway, http.headers)
        return result


async def _bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)  # noqa: S101  registered for it
    return error.response()


async def _too_large(_: Request, __: Exception) -> Response:
    return _TOO_LARGE.response()


async def _failure(_: Request, error: Exception) -> Response:
    assert isinstance(error, BlockrunError)  # noqa: S101  registered for it
    return failure_response(error)


async def _not_found(_: Request, __: Exception) -> Response:
    message = "Unknown path. Use /v1/images/generations, /v1/images/edits, /v1/models or /health."
    return error_response(404, message, "invalid_request_error", "not_found")


async def _wrong_method(request: Request, error: Exception) -> Response:
    if request.url.path.startswith("/images/"):  # the base URL of a client lacks its /v1
        return await _not_found(request, error)
    allowed = (getattr(error, "headers", None) or {}).get("Allow", "GET")
    return error_response(405, f"This path takes {allowed}.", "invalid_request_error", "method_not_allowed")


async def _internal(_: Request, error: Exception) -> Response:
    _LOG.error("A request failed with %s.", type(error).__name__)
    return internal_error()


def build_app(studio: Studio, gateway: Gateway, access: Access) -> ASGIApp:
    """Return the endpoint over `studio`, whose requests go to `gateway`."""
    routes = _Routes(studio, gateway, access)
    app = Starlette(
        routes=[
            Route("/v1/images/generations", routes.generate, methods=["POST"]),
            Route("/v1/images/edits", routes.edit, methods=["POST"]),
            Route("/v1/images/image2image", routes.edit, methods=["POST"]),
            Route("/v1/images/variations", routes.variations, methods=["POST"]),
            Route("/v1/models", routes.models),
            Route("/v1/models/{id:path}", routes.model),
            Route("/images/{name}", routes.image),
            Route("/health", routes.health),
        ],
        exception_handlers={
            404: _not_found,
            405: _wrong_method,
            BadRequest: _bad_request,
            BodyTooLarge: _too_large,
            BlockrunError: _failure,
            Exception: _internal,
        },
    )
    guarded = Guard(BodyLimit(app, _MAX_BODY, _TOO_LARGE.response()), access.hosts, access.key)
    return AccessLog(guarded, access.log)
