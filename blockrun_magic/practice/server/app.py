"""The practice gateway as an ASGI application: the routes under /api, and routes of practice only."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from blockrun_magic.practice.server.catalog import model_entries
from blockrun_magic.practice.server.challenge import price_of
from blockrun_magic.practice.server.handlers import Options, PaidEndpoints
from blockrun_magic.practice.server.hook import DropConnection, Exchange
from blockrun_magic.practice.server.images import ImageCache
from blockrun_magic.serving import LOOPBACK_HOSTS, BodyLimit, BodyTooLarge

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.practice.server.database import Database, Settlement

__all__ = ["build_app"]

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_MAX_BODY = 96_000_000
_TOO_LARGE = JSONResponse({"error": "Payload too large", "details": "Send at most 96 MB."}, 413)


class _ConnectionMiddleware:
    """Gives handlers the connection, so that one can be dropped without a response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # ASGI cannot drop a connection; uvicorn's `send` is a method of the object that can.
        scope["connection"] = getattr(getattr(send, "__self__", None), "transport", None)
        await self.app(scope, receive, send)


class _AbortResponse(Response):
    """A response that drops the connection instead of answering."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        scope["connection"].abort()


async def _too_large(_request: Request, _error: Exception) -> Response:
    return _TOO_LARGE


async def _hang_up(_request: Request, _dropped: Exception) -> Response:
    return _AbortResponse()


class _Routes:
    """The routes, over the paid endpoints."""

    def __init__(self, endpoints: PaidEndpoints) -> None:
        self.endpoints = endpoints
        self.state = endpoints.state

    async def generate(self, request: Request) -> Response:
        return await self.endpoints.submit(request, "generate")

    async def edit(self, request: Request) -> Response:
        return await self.endpoints.submit(request, "edit")

    async def job(self, request: Request) -> Response:
        return await self.endpoints.poll(request, request.path_params["id"])

    async def models(self, _: Request) -> Response:
        chat = {"id": "practice/parrot", "object": "model", "owned_by": "practice", "categories": ["chat"]}
        return JSONResponse({"object": "list", "data": [*model_entries(self.endpoints.catalog), chat]})

    async def image_models(self, _: Request) -> Response:
        return JSONResponse({"models": model_entries(self.endpoints.catalog)})

    async def balance(self, request: Request) -> Response:
        address = request.query_params.get("address", "")
        if not _ADDRESS.fullmatch(address):
            return JSONResponse({"error": "Bad address", "details": "address is 0x and 40 hex digits."}, 400)
        return JSONResponse(self._balance(address, self.state.balance(address)))

    async def media(self, request: Request) -> Response:
        settlement = self.state.settlement_in("0x" + request.path_params["tx"])
        order = self.state.order(settlement.digest) if settlement else None
        position = request.path_params["position"]
        if settlement is None or order is None or position >= order.n:
            return JSONResponse({"error": "Not found"}, 404)
        data, media_type = await self.endpoints.images.image(settlement, order, position)
        return await self._hooked("media", request, Response(data, media_type=media_type))

    async def ledger(self, _: Request) -> Response:
        settlements = self.state.settlements()
        return JSONResponse(
            {
                "settlements": [self._line(each) for each in settlements],
                "total": str(sum(each.amount for each in settlements)),
                "paid_requests": self.state.counter("paid"),
                "requests": self.state.counter("requests"),
            }
        )

    async def authorization(self, request: Request) -> Response:
        payer, nonce = request.path_params["payer"], request.path_params["nonce"]
        used = self.state.settlement(payer, nonce.lower())
        status = {"transaction": used.tx, "value": used.amount} if used else {"transaction": None}
        answer = JSONResponse({"used": used is not None, **status})
        return await self._hooked("witness", request, answer)

    async def faucet(self, request: Request) -> Response:
        try:
            given = await request.json()
        except ValueError:
            given = None
        address = given.get("address") if isinstance(given, dict) else None
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            return JSONResponse({"error": "Bad address", "details": "address is 0x and 40 hex digits."}, 400)
        return JSONResponse(self._balance(address, self.state.refill(address)))

    async def _hooked(self, point: str, request: Request, answer: Response) -> Response:
        return await self.endpoints.options.hook(point, Exchange(request, response=answer)) or answer

    def _balance(self, address: str, micros: int) -> dict[str, str]:
        price = price_of(micros)
        return {"balance": price["amount"], "currency": price["currency"], "address": address}

    def _line(self, settlement: Settlement) -> dict[str, Any]:
        order = self.state.order(settlement.digest)
        return {
            "transaction": settlement.tx,
            "payer": settlement.payer,
            "nonce": settlement.nonce,
            "amount": str(settlement.amount),
            "model": order.model,
            "size": order.size,
            "n": order.n,
            "endpoint": order.endpoint,
            "job": settlement.job,
            "at": datetime.fromtimestamp(settlement.at, UTC).isoformat(),
        }


def build_app(state: Database, catalog: Catalog, options: Options | None = None) -> ASGIApp:
    """Return the gateway over `state`, with the models and prices of `catalog`."""
    routes = _Routes(PaidEndpoints(state, catalog, ImageCache(), options or Options()))
    paths = [
        Route("/v1/images/generations", routes.generate, methods=["POST"]),
        Route("/v1/images/image2image", routes.edit, methods=["POST"]),
        Route("/v1/jobs/{id}", routes.job),
        Route("/v1/models", routes.models),
        Route("/v1/images/models", routes.image_models),
        Route("/v1/balance", routes.balance),
        Route("/media/{tx}-{position:int}.png", routes.media),
        Route("/practice/ledger", routes.ledger),
        Route("/practice/authorization/{payer}/{nonce}", routes.authorization),
        Route("/practice/faucet", routes.faucet, methods=["POST"]),
    ]
    # DNS rebinding: a web page must not reach the server under a host name of its own.
    own_hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK_HOSTS])
    gateway = Starlette(
        routes=[Mount("/api", routes=paths)],
        middleware=[own_hosts],
        exception_handlers={DropConnection: _hang_up, BodyTooLarge: _too_large},
    )
    return _ConnectionMiddleware(BodyLimit(gateway, _MAX_BODY, _TOO_LARGE))
