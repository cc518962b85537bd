"""A small classroom in memory: codes, passes, limits and orders as in its protocol, with faults on the way.

It has no ledger and no gateway: an order is done after `hold` seconds. The tests of money use the real service; here,
the test sets the answers.
"""

from __future__ import annotations

import base64
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fakes.faulty import Faulty
from fakes.http_server import Served, picture

__all__ = ["CODE", "TOKEN", "FakeClassroom", "FakeOrder"]

CODE = "ABCD-EFGH-JKMN-PQRS"
TOKEN = "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e"
PRICE = 52_500


@dataclass
class FakeOrder:
    """One order: its request, the number of its arrivals, and its result."""

    key: str
    body: dict[str, Any]
    ready_at: float
    state: str = "working"
    charged: int = 0
    at_risk: int = 0
    arrivals: int = 1
    error: dict[str, Any] = field(default_factory=dict)

    def json(self, *, images: bool = True) -> dict[str, Any]:
        """Return the order as an answer shows it."""
        fields = {"order": self.key, "state": self.state, "price": "0.0525", "charged_micros": self.charged}
        fields |= {"at_risk_micros": self.at_risk, "payment": {"transaction": None, "network": "practice"}}
        fields |= {"error": self.error} if self.error else {}
        names = ("path", "prompt", "model", "size", "n", "quality", "take", "digest")
        fields["request"] = {name: self.body.get(name) for name in names}
        if images and self.state == "done":
            fields["data"] = [
                {"b64_json": base64.b64encode(picture(number)).decode()} for number in range(int(self.body["n"]))
            ]
        return fields


class FakeClassroom(Served):
    """The service at one address; `network` carries the students' requests."""

    def __init__(self, *, realm: str = "practice", hold: float = 0.0) -> None:
        super().__init__()
        self.realm, self.hold = realm, hold
        self.orders: dict[str, FakeOrder] = {}
        self.refusals: deque[tuple[int, dict[str, Any]]] = deque()
        """Answers to the next PUTs, which are then not carried out."""
        self.limits: list[dict[str, Any]] = []
        self.passes: dict[str, str] = {}
        """The error code of the 401 that each pass gets, or "" for a valid pass."""
        self.joined: list[dict[str, Any]] = []
        self.signed = False
        """True if orders are signed at once and so cannot be cancelled."""
        self.end: dict[str, Any] = {"state": "done", "charged": PRICE}
        """The end of every order."""
        self.network = Faulty(self._app())

    @property
    def url(self) -> str:
        """The address of the service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def charged(self) -> int:
        """The sum that the class has paid so far, in micro-USDC."""
        return sum(order.charged for order in self.orders.values())

    def app(self) -> Any:
        """Return the application behind its faulty network."""
        return self.network

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/join", self._join, methods=["POST"]),
                Route("/v1/me", self._me),
                Route("/v1/models", lambda _: JSONResponse({"data": []})),
                Route("/v1/price", self._price, methods=["POST"]),
                Route("/v1/orders", self._list),
                Route("/v1/orders/{key}", self._order, methods=["GET", "PUT", "DELETE"]),
            ]
        )

    async def _join(self, request: Request) -> Response:
        body = await request.json()
        self.joined.append(body)
        if body.get("code") != CODE and body.get("hub_token") != TOKEN:
            return _refused(401, "bad_code")
        name = f"brc_pass_{len(self.passes)}"
        self.passes[name] = ""
        return JSONResponse({"pass": name, "expires_at": time.time() + 3600, **self._membership()})

    def _membership(self) -> dict[str, Any]:
        member = {"id": 1, "name": "ada", "role": "student"}
        policy = {"models": None, "paused": False}
        return {"member": member, "groups": ["red"], "limits": self.limits, "policy": policy, "realm": self.realm}

    def _known(self, request: Request) -> Response | None:
        code = self.passes.get(request.headers.get("authorization", "").removeprefix("Bearer "), "no_pass")
        return _refused(401, code) if code else None

    async def _me(self, request: Request) -> Response:
        return self._known(request) or JSONResponse(self._membership())

    async def _price(self, request: Request) -> Response:
        known = {"price": "0.0525", "price_micros": PRICE, "stored": False}
        return self._known(request) or JSONResponse(known)

    async def _list(self, request: Request) -> Response:
        listed = [order.json(images=False) for order in self.orders.values()]
        return self._known(request) or JSONResponse({"orders": listed})

    async def _order(self, request: Request) -> Response:
        refused = self._known(request)
        if refused is not None:
            return refused
        key, order = request.path_params["key"], self.orders.get(request.path_params["key"])
        if request.method == "DELETE":
            return self._delete(key, order)
        if request.method == "GET":
            return self._answer(order) if order else _refused(404, "unknown_order")
        body = await _body(request)
        if order is not None:
            order.arrivals += 1
            return self._answer(order) if order.state != "cancelled" else _refused(409, "cancelled")
        if self.refusals:
            status, error = self.refusals.popleft()
            return JSONResponse({"error": error}, status, {"Retry-After": "1"} if status in (429, 503) else {})
        order = self.orders[key] = FakeOrder(key, body, time.monotonic() + self.hold)
        return self._answer(order)

    def _delete(self, key: str, order: FakeOrder | None) -> Response:
        if order is None:
            order = self.orders[key] = FakeOrder(key, {}, 0.0, "cancelled")
        elif not self.signed and order.state == "working":
            order.state = "cancelled"
        return JSONResponse(order.json(images=False), 200 if order.state == "cancelled" else 409)

    def _answer(self, order: FakeOrder) -> Response:
        if order.state == "working" and time.monotonic() >= order.ready_at:
            for name, value in self.end.items():
                setattr(order, name, value)
        return JSONResponse(order.json(), 202 if order.state in ("working", "unknown") else 200, {"Retry-After": "1"})


async def _body(request: Request) -> dict[str, Any]:
    if request.headers["content-type"].startswith("application/json"):
        return dict(await request.json())
    async with request.form(max_part_size=50_000_000) as form:
        return {name: value if isinstance(value, str) else await value.read() for name, value in form.items()}


def _refused(status: int, code: str, **more: Any) -> Response:
    return JSONResponse({"error": {"code": code, "message": "No.", "hint": "Do something.", **more}}, status)
