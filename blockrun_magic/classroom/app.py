"""The service as an ASGI application: routes, access, and errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from blockrun_magic.classroom.answers import image_items, limits_json, member_json, models_json, order_json, usd
from blockrun_magic.classroom.orders.bodies import is_key, read_object, read_wanted, wait_of
from blockrun_magic.classroom.orders.orders import image_gone
from blockrun_magic.classroom.refusals import Refusal
from blockrun_magic.classroom.storage.order_records import Order, OrderState
from blockrun_magic.errors import BlockrunError, StoreError
from blockrun_magic.serving import BodyLimit, BodyTooLarge, HostGuard
from blockrun_magic.threads import run_io

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from blockrun_magic.classroom.policy import Policy
    from blockrun_magic.classroom.room import Classroom
    from blockrun_magic.classroom.storage.members import Member

__all__ = ["build_app"]

_MAX_BODY = 100_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOG = logging.getLogger(__name__)
_BAD_HOST = Refusal(403, "bad_host", "This server does not use that host name.", "Use the address that `serve` prints.")
_TOO_LARGE = Refusal(413, "too_large", "The body is larger than 100 MB.", "Send smaller images.")
_IMAGE_HEADERS = {
    "Cache-Control": "private, max-age=86400, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
"""Headers that make a browser treat the bytes only as an image."""


class _Routes:
    """The handlers of the students' calls, over one classroom."""

    def __init__(self, classroom: Classroom) -> None:
        self._room = classroom
        self._delivered: set[int] = set()
        """The orders whose images were sent, until that is recorded."""

    async def join(self, request: Request) -> Response:
        fields = await read_object(request)
        code, token = fields.get("code"), fields.get("hub_token")
        name, attempt = fields.get("name"), fields.get("attempt")
        if not all(value is None or isinstance(value, str) for value in (code, token, name, attempt)):
            raise Refusal(422, "bad_request", "`code`, `name` and `hub_token` must be strings.", "Correct the request.")
        if token is not None:
            joined = await self._room.joining.join_from_hub(token)
        elif code is not None:
            joined = await run_io(self._room.joining.join_with_code, code, name, attempt)
        else:
            raise Refusal(422, "bad_request", "`code` or `hub_token` is missing.", "Send one of them.")
        return JSONResponse({"pass": joined.secret, **await self._about(joined.member, joined.expires_at)})

    async def me(self, request: Request) -> Response:
        member, expires_at = await self._caller(request)
        return JSONResponse(await self._about(member, expires_at))

    async def _about(self, member: Member, expires_at: float) -> dict[str, Any]:
        room = self._room
        policy = await run_io(room.records.policies.for_member, member)
        gateway = room.studios.gateway
        limits = limits_json(await run_io(room.records.ledger.standing, gateway.realm, member.subjects))
        return member_json(member, expires_at, policy, limits, str(gateway.realm), gateway.name)

    async def models(self, request: Request) -> Response:
        member, _ = await self._caller(request)
        policy = await run_io(self._room.records.policies.for_member, member)
        return JSONResponse(models_json(self._room.studios.catalog, policy.models))

    async def price(self, request: Request) -> Response:
        member, _ = await self._caller(request)
        order = await read_wanted(request, "0" * 32, self._room.studios.catalog)
        quote = await self._room.studios.quote(member.id, order.request, order.take)
        shared = await run_io(self._room.records.orders.shared, str(quote.realm), order.request.digest, order.take)
        stored = quote.cached or shared is not None
        return JSONResponse({"price": usd(quote.total), "price_micros": quote.total, "stored": stored})

    async def put_order(self, request: Request) -> Response:
        key, secret = request.path_params["key"], _pass_in(request)
        member, policy, existing = await run_io(self._known, secret, key)
        incoming = await read_wanted(request, key, self._room.studios.catalog)
        return await self._answer(await self._room.orders.put(member, policy, incoming, wait_of(request), existing))

    def _known(self, secret: str, key: str) -> tuple[Member, Policy, Order | None]:
        """Return the holder of a pass, the rules for them, and their order with this key; raises Refusal (401)."""
        records = self._room.records
        member, _ = self._room.joining.holder_of(secret)
        order = records.orders.find(member.id, key) if is_key(key) else None
        return member, records.policies.for_member(member), order

    async def get_order(self, request: Request) -> Response:
        member, _ = await self._caller(request)
        key = request.path_params["key"]
        order = await run_io(self._room.records.orders.find, member.id, key) if is_key(key) else None
        if order is None:
            raise Refusal(404, "unknown_order", "There is no order with this key.", "Send it again.")
        return await self._answer(await self._room.orders.wait(order, wait_of(request)))

    async def delete_order(self, request: Request) -> Response:
        member, _ = await self._caller(request)
        key = request.path_params["key"]
        if not is_key(key):
            raise Refusal(422, "bad_request", "The key of an order must be 32 hex digits.", "Correct the address.")
        order, cancelled = await self._room.orders.cancel(member, key)
        if order is None:
            body = {"order": key, "state": "cancelled", "price": None, "charged_micros": 0, "at_risk_micros": 0}
            return JSONResponse({**body, "payment": None})
        return JSONResponse(await run_io(self._order_json, order), 200 if cancelled else 409)

    async def list_orders(self, request: Request) -> Response:
        member, _ = await self._caller(request)
        rows = self._room.records.orders
        if request.query_params.get("open") == "1":
            sent = frozenset(self._delivered)
            orders = [order for order in await run_io(rows.open_for, member.id) if order.id not in sent]
        else:
            orders = await run_io(rows.listed, member.id)
        return JSONResponse({"orders": [await run_io(self._order_json, order) for order in orders]})

    async def image(self, request: Request) -> Response:
        member, _ = await self._caller(request)
        file = request.path_params["file"]
        image = None
        if _SHA256.fullmatch(file):
            image = await run_io(self._room.records.orders.image_of, member.id, file)
        if image is None:
            raise Refusal(404, "not_found", "You have no image of this name.", "Check its name.")
        content = await run_io(self._room.studios.store.get, image.file, image.media_type)
        return Response(content, media_type=image.media_type, headers=_IMAGE_HEADERS)

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        stopping = self._room.orders.stopping
        return JSONResponse({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)

    # -- helpers

    async def _caller(self, request: Request) -> tuple[Member, float]:
        return await run_io(self._room.joining.holder_of, _pass_in(request))

    def _order_json(self, order: Order) -> dict[str, Any]:
        return order_json(order, self._room.studios.paid_for(order))

    async def _answer(self, order: Order) -> Response:
        """Return the current state of an order, with its images when it is done."""
        if order.is_erased:
            raise image_gone()
        return await run_io(self._answered, order)

    def _answered(self, order: Order) -> Response:
        """Return the answer, made in one thread call, because thread changes are slow in a loaded process."""
        body = self._order_json(order)
        if not order.is_final:
            return JSONResponse(body, 202, {"Retry-After": "1"})
        if order.state is OrderState.DONE:
            images = self._room.records.orders.images(order.id) if order.images is None else order.images
            body["data"] = image_items(images, self._room.studios.store)
        response = JSONResponse(body)
        if order.state is OrderState.DONE and order.delivered_at is None:
            self._delivered.add(order.id)
            response.background = BackgroundTask(self._record_delivery, order.id)
        return response

    async def _record_delivery(self, order_id: int) -> None:
        """Record in the background that the images were sent; if that fails, they are offered again."""
        try:
            with suppress(BlockrunError):
                await run_io(self._room.records.orders.mark_delivered, order_id)
        finally:
            self._delivered.discard(order_id)


def _pass_in(request: Request) -> str:
    """Return the caller's pass, or an empty text."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


_Handler = Callable[["Request"], Awaitable[Response]]


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101  registered for it
    return error.response()


async def _too_large(_: Request, __: Exception) -> Response:
    return _TOO_LARGE.response()


async def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, StoreError):
        return image_gone().response()
    assert isinstance(error, BlockrunError)  # noqa: S101  registered for it
    _LOG.warning("A call failed: %s", type(error).__name__)
    return Refusal(
        503, "unavailable", "The classroom cannot answer now.", "Try again in a moment.", retry_after=5
    ).response()


async def _not_found(_: Request, __: Exception) -> Response:
    return Refusal(404, "not_found", "Unknown path.", "Check the address.").response()


async def _wrong_method(_: Request, __: Exception) -> Response:
    return Refusal(405, "method", "This path does not accept this method.", "Check the method.").response()


async def _internal(_: Request, error: Exception) -> Response:
    # Its text may contain anything, so it is neither logged nor sent.
    _LOG.error("A call failed with an unexpected %s.", type(error).__name__)
    return Refusal(500, "internal", "The classroom failed.", "Send the order again: it is not paid twice.").response()


def build_app(classroom: Classroom, hosts: Collection[str], pages: Sequence[BaseRoute] = ()) -> ASGIApp:
    """Return the application over `classroom`, reached under the names `hosts`; `pages` are the teacher's."""
    routes = _Routes(classroom)
    app = Starlette(
        routes=[
            Route("/v1/join", routes.join, methods=["POST"]),
            Route("/v1/me", routes.me),
            Route("/v1/models", routes.models),
            Route("/v1/price", routes.price, methods=["POST"]),
            Route("/v1/orders", routes.list_orders),
            Route("/v1/orders/{key}", routes.put_order, methods=["PUT"]),
            Route("/v1/orders/{key}", routes.get_order, methods=["GET"]),
            Route("/v1/orders/{key}", routes.delete_order, methods=["DELETE"]),
            Route("/v1/images/{file}", routes.image),
            Route("/health", routes.health),
            Route("/ready", routes.ready),
            *pages,
        ],
        exception_handlers={
            404: _not_found,
            405: _wrong_method,
            Refusal: _refused,
            BodyTooLarge: _too_large,
            BlockrunError: _failed,
            Exception: _internal,
        },
    )
    return HostGuard(BodyLimit(app, _MAX_BODY, _TOO_LARGE.response()), hosts, _BAD_HOST.response())
