"""A prepaid account's gateway: a Bearer key, credit that runs out, and slow jobs from the first POST.

Its jobs have the x402 gateway's address (`/api/v1/images/generations/ID`), but it serves them without `/api`. It
records every charge and every request that shows the key. `fail` decides how the next requests fail.
"""

from __future__ import annotations

import base64
import json
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.gateways import Gateway, preset
from blockrun_magic.gateway.request import PriceKey
from fakes.clawrouter import Charge
from fakes.http_server import HangUp, Served, picture

__all__ = ["KEY", "Account"]

_PAGE = 2
"""Lines of usage in one response, so that tests meet a second page."""
KEY = "brk_test_0123456789abcdefTHROWAWAY"
"""A public key that only these tests use."""


class Account(Served):
    """The gateway of one account; with `slow`, every order is a job that takes this number of polls."""

    def __init__(self, *, port: int = 0, slow: int = 0, names_price: bool = True, credit: int = 5_000_000) -> None:
        super().__init__(port)
        self.slow, self.names_price, self.credit = slow, names_price, credit
        self.charges: list[Charge] = []
        self.posts = 0
        self.polls = 0
        self.shown: list[tuple[str, str | None]] = []
        """Path and `Authorization` header of every request."""
        self.poll_url: str | None = None
        self.pictures_at: str | None = None
        self.served = [model.id for model in SNAPSHOT.models]
        self.usage: list[dict[str, Any]] = []
        """Entries of `/v1/usage`; a test may append more."""
        self.cost_state = "priced"
        self.unavailable_days: list[str] = []
        self.blocked: str | None = None
        self._faults: deque[Any] = deque()
        self._jobs: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        """The account's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def gateway(self) -> Gateway:
        """The account preset with this server's address."""
        return preset("account", {"BLOCKRUN_API_KEY_URL": self.url})

    @property
    def total(self) -> int:
        """The sum of all charges, in micro-USDC."""
        return sum(charge.micros for charge in self.charges)

    def fail(self, *faults: Any) -> None:
        """Let the next requests, including polls, fail like this, one fault each.

        "reset" drops the connection before any charge, "charged" after it; (status, body) is sent as the answer.
        """
        self._faults += faults

    def app(self) -> Starlette:
        """Return the application with the gateway's paths."""
        return Starlette(
            routes=[
                Route("/v1/images/generations", self._ordered, methods=["POST"]),
                Route("/v1/images/image2image", self._ordered, methods=["POST"]),
                Route("/v1/images/generations/{name}", self._polled),
                Route("/api/{path:path}", self._wrong_host, methods=["GET", "POST"]),
                Route("/v1/credits", self._credits),
                Route("/v1/usage", self._usage),
                Route("/v1/models", self._models),
                Route("/media/{index:int}", self._media),
                Route("/moved/{index:int}", self._moved),
            ]
        )

    def _refused(self, request: Request) -> Response | None:
        key = request.headers.get("authorization")
        self.shown.append((request.url.path, key))
        if key != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": f"Invalid key {key}", "code": "invalid_api_key"}}, 401)
        return None

    async def _ordered(self, request: Request) -> Response:
        self.posts += 1
        refused = self._refused(request)
        if refused is not None:
            return refused
        body = json.loads(await request.body())
        if body["model"] not in self.served:
            return JSONResponse({"error": f"Unknown model: {body['model']}"}, 400)
        fault = self._faults.popleft() if self._faults else None
        failed = _failed(fault)
        return failed or self._paid(body, self._price(request.url.path, body), fault)

    def _paid(self, body: Mapping[str, Any], price: int, fault: Any) -> Response:
        if price > self.credit:
            return JSONResponse({"error": {"message": "Insufficient credit", "code": "insufficient_credit"}}, 402)
        if self.slow:
            return self._queued(body, price)
        self._charge(body["model"], price)
        return HangUp() if fault == "charged" else self._completed(body, price)

    def _price(self, path: str, body: Mapping[str, Any]) -> int:
        """Return the price: the provider's own, without a margin."""
        key = PriceKey(path, body["model"], body["size"], body.get("quality"), body["n"])
        return (SNAPSHOT.list_price(key) or 0) * 100 // 105

    def _charge(self, model: str, price: int) -> None:
        self.credit -= price
        self.charges.append(Charge(model, price))
        self.usage.append(self._usage_entry(model, price))

    def _queued(self, body: Mapping[str, Any], price: int) -> Response:
        name = f"job{len(self._jobs)}"
        self._jobs[name] = {"body": body, "price": price, "left": self.slow, "paid": False}
        about = {"id": name, "status": "queued", "poll_url": self.poll_url or f"/api/v1/images/generations/{name}"}
        return JSONResponse({**about, "price": self._words(price)}, 202)

    async def _polled(self, request: Request) -> Response:
        self.polls += 1
        refused = self._refused(request)
        if refused is not None:
            return refused
        fault = self._faults.popleft() if self._faults else None
        failed = _failed(fault)
        if failed is not None:
            return failed
        job = self._jobs.get(request.path_params["name"])
        if job is None:
            return JSONResponse({"error": "Not found"}, 404)
        job["left"] -= 1
        if job["left"] > 0:
            return JSONResponse({"status": "in_progress"}, 202)
        if not job["paid"]:
            job["paid"] = True
            self._charge(job["body"]["model"], job["price"])
        return HangUp() if fault == "charged" else self._completed(job["body"], job["price"])

    def _completed(self, body: Mapping[str, Any], price: int) -> Response:
        place = self.pictures_at or f"{self.url}/media"
        entries = [{"url": f"{place}/{len(self.charges) + index}"} for index in range(body["n"])]
        content: dict[str, Any] = {"created": int(time.time()), "status": "completed", "data": entries}
        if self.names_price:
            content["price"] = self._words(price)
        credit = {"success": True, "transaction": "", "network": "credit", "payer": "a test"}
        return JSONResponse(
            content, headers={"payment-response": base64.b64encode(json.dumps(credit).encode()).decode()}
        )

    def _words(self, price: int) -> dict[str, str]:
        return {"amount": f"{price / 1e6:.6f}", "currency": "USD"}

    def _usage_entry(self, model: str, price: int) -> dict[str, Any]:
        return {
            "request_id": f"req_{len(self.usage)}",
            "timestamp": datetime.now(UTC).isoformat(),
            "endpoint": "/v1/images/generations",
            "model": model,
            "kind": "image",
            "cost_usd": None if self.cost_state == "pending" else price / 1e6,
            "cost_state": self.cost_state,
            "status": 200,
        }

    async def _wrong_host(self, request: Request) -> Response:
        words = "This host serves /v1; /api belongs to the x402 gateway."
        return self._refused(request) or JSONResponse({"error": {"message": words, "code": "wrong_host"}}, 404)

    async def _credits(self, request: Request) -> Response:
        spent = self.total / 1e6
        about = {
            "account_id": "acct_test",
            "billing_mode": "prepaid",
            "currency": "USD",
            "granted_usd": self.credit / 1e6 + spent,
            "spent_usd": spent,
            "remaining_usd": self.credit / 1e6,
            "blocked": self.blocked is not None,
            "blocked_reason": self.blocked,
        }
        return self._refused(request) or JSONResponse(about)

    async def _usage(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        since, until = (datetime.fromisoformat(request.query_params[name]) for name in ("from", "to"))
        lines = [line for line in self.usage if since <= datetime.fromisoformat(line["timestamp"]) <= until]
        first, limit = int(request.query_params.get("cursor", 0)), min(int(request.query_params["limit"]), _PAGE)
        after = first + limit
        about = {"unavailable_days": self.unavailable_days, "next_cursor": str(after) if after < len(lines) else None}
        return JSONResponse({"data": lines[first:after], **about})

    async def _models(self, request: Request) -> Response:
        entries = [{"id": name, "categories": ["image"]} for name in self.served]
        return self._refused(request) or JSONResponse({"data": entries})

    async def _media(self, request: Request) -> Response:
        self.shown.append((request.url.path, request.headers.get("authorization")))
        return Response(picture(request.path_params["index"], "PNG"), media_type="image/png")

    async def _moved(self, request: Request) -> Response:
        return RedirectResponse(f"{self.url}/media/{request.path_params['index']}")


def _failed(fault: Any) -> Response | None:
    if isinstance(fault, tuple):
        return JSONResponse(fault[1], fault[0])
    return HangUp() if fault == "reset" else None
