"""A ClawRouter with its measured behavior (gateway protocol, sections 7 and 9): no headers, no limits, a log.

It pays upstream from its own wallet, each time the list price and a tenth of a cent. Beside the log that it shows, it
records the transfers that really happened. `fail` decides how the next requests fail.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.gateways import Gateway, preset
from blockrun_magic.gateway.request import PriceKey
from fakes.http_server import HangUp, Served, picture

__all__ = ["WALLET", "Charge", "ClawRouter"]

WALLET = "0x" + "c1" * 20
_FEE = 1000
_CHAT_MODELS = ("auto", "eco", "openai/gpt-5.2", "google/gemini-3-pro", "anthropic/claude-sonnet-4.6")
"""Some entries of its `/v1/models`: chat models only, without categories."""


@dataclass(frozen=True)
class Charge:
    """A real transfer: the model, and the amount in micro-USDC."""

    model: str
    micros: int


class ClawRouter(Served):
    """The proxy; `logs` is the folder of its usage log, `drop_after` replaces its 300 seconds.

    With `names_price`, its answers contain the upstream's `price`.
    """

    def __init__(self, logs: Path, *, port: int = 0, drop_after: float = 300.0, names_price: bool = False) -> None:
        super().__init__(port)
        self.silent = threading.Event()
        self.logs, self.drop_after, self.names_price = logs, drop_after, names_price
        self.charges: list[Charge] = []
        self.bodies: list[dict[str, Any]] = []
        self.seen: list[tuple[str, str, Mapping[str, str]]] = []
        self.balance = 5_000_000
        self.served = [model.id for model in SNAPSHOT.models]
        self.let_go = threading.Event()
        self._faults: deque[Any] = deque()
        self._images: dict[str, bytes] = {}

    @property
    def gateway(self) -> Gateway:
        """The ClawRouter preset with this server's port."""
        return preset("clawrouter", {"BLOCKRUN_PROXY_PORT": str(self.port)})

    @property
    def total(self) -> int:
        """The sum of all transfers, in micro-USDC."""
        return sum(charge.micros for charge in self.charges)

    def fail(self, *faults: Any) -> None:
        """Let the next requests end like this, one fault each.

        "drop" is paid and dropped without an answer; "log" is dropped like this and then logged; "unpaid" is dropped
        before any payment; "held" is paid and answered after `let_go`; "page" is paid and answered with HTML; "queued"
        is a slow edit; (status, body) is an answer of upstream or of ClawRouter itself.
        """
        self._faults += faults

    def app(self) -> Starlette:
        """Return the application with the proxy's exact paths; an additional slash or query is not found."""
        app = Starlette(
            routes=[
                Route("/v1/images/generations", self._made, methods=["POST"]),
                Route("/v1/images/image2image", self._made, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/health", self._health),
                Route("/images/{name}", self._image),
            ]
        )
        app.router.redirect_slashes = False
        return app

    async def _made(self, request: Request) -> Response:
        self._note(request)
        body = json.loads(await request.body())
        self.bodies.append(body)
        if request.headers["host"].rpartition(":")[0] not in ("127.0.0.1", "localhost"):
            return JSONResponse({"error": "Forbidden host"}, 403)
        if request.url.query or "," in str(request.headers.get("content-type")):
            return JSONResponse({"error": "Not found"}, 404)
        complaint = self._complaint(body)
        if complaint:
            return JSONResponse({"error": "Bad request", "details": complaint}, 400)
        fault = self._faults.popleft() if self._faults else None
        return await self._answer(body, fault, request.url.path)

    def _complaint(self, body: Mapping[str, Any]) -> str:
        """Return the error in an order, or "": ClawRouter accepts only full model names and data URIs."""
        sources = body.get("image", [])
        sources = sources if isinstance(sources, list) else [sources]
        if body.get("model") not in self.served:
            return f"Unknown model: {body.get('model')}"
        if not all(source.startswith("data:image/") for source in [*sources, body.get("mask", "data:image/")]):
            return "image must be a data URI here"
        return ""

    async def _answer(self, body: Mapping[str, Any], fault: Any, path: str) -> Response:
        if isinstance(fault, tuple):
            status, content = fault
            return JSONResponse(content, status)
        if fault == "queued":
            # It signs, logs the quote, and drops the job: without polls, upstream settles nothing.
            self._log(body["model"], self._price(body, path))
            return JSONResponse({"id": "job1", "status": "queued", "poll_url": "/api/v1/images/generations/job1"})
        if fault == "unpaid":
            return await self._silence()
        return await self._paid(body, fault, path)

    async def _paid(self, body: Mapping[str, Any], fault: Any, path: str) -> Response:
        price = self._price(body, path)
        if price > self.balance:
            return JSONResponse({"error": {"message": "Insufficient balance", "type": "payment_error"}}, 402)
        self.balance -= price
        self.charges.append(Charge(body["model"], price))
        if fault == "drop":
            return await self._silence()
        self._log(body["model"], price)
        if fault == "log":
            return await self._silence()
        if fault == "held":
            await asyncio.to_thread(self.let_go.wait)
        content: dict[str, Any] = {"created": int(time.time()), "data": [self._kept() for _ in range(body["n"])]}
        if self.names_price:
            content["price"] = {"amount": f"{price / 1e6:.6f}", "currency": "USD"}
        if fault == "page":
            return Response("<html>oops</html>", media_type="text/html")
        return JSONResponse(content)

    def _price(self, body: Mapping[str, Any], path: str) -> int:
        listed = SNAPSHOT.list_price(PriceKey(path, body["model"], body["size"], body.get("quality"), body["n"]))
        assert listed is not None
        return listed + _FEE

    async def _silence(self) -> Response:
        self.silent.set()
        await asyncio.sleep(self.drop_after)
        return HangUp()

    def _kept(self) -> dict[str, str]:
        """Store an image and return its URL: the name ends in .png, the bytes are a JPEG."""
        name = f"{time.time_ns()}-{len(self._images)}.png"
        self._images[name] = picture(len(self._images))
        return {"url": f"http://localhost:{self.port}/images/{name}"}

    def _log(self, model: str, micros: int) -> None:
        now = datetime.now(UTC)
        entry = {"timestamp": now.isoformat(), "model": model, "tier": "IMAGE", "cost": micros / 1e6, "latencyMs": 9}
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"usage-{now:%Y-%m-%d}.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    async def _image(self, request: Request) -> Response:
        self._note(request)
        data = self._images.get(request.path_params["name"])
        return Response(status_code=404) if data is None else Response(data, media_type="image/png")

    async def _models(self, request: Request) -> Response:
        if request.url.query:
            return JSONResponse({"error": "Not found"}, 404)
        entries = [{"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "x"} for name in _CHAT_MODELS]
        return JSONResponse({"object": "list", "data": entries})

    async def _health(self, request: Request) -> Response:
        about: dict[str, Any] = {"status": "ok", "wallet": WALLET, "paymentChain": "base"}
        if request.query_params.get("full") == "true":
            about |= {"balance": f"${self.balance / 1e6:.2f}", "isLow": False, "isEmpty": self.balance == 0}
        return JSONResponse(about)

    def _note(self, request: Request) -> None:
        self.seen.append((request.method, str(request.url), dict(request.headers)))
