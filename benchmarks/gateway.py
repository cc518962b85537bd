"""A gateway with almost no costs of its own: it asks for a payment, accepts every one, and answers after a set time.

    python benchmarks/gateway.py 0.05

The practice gateway verifies signatures and paints, which takes longer than the measured work. This gateway counts the
requests that reach it, at /counts, and answers with the PNG that was last sent to /image by PUT.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import socket
import sys
import time
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PRICE = "42000"
PAYEE = "0x" + "5a" * 20
BASE_USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"


class Gateway:
    """Counters, and the answer to a paid request."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        self.requests = self.received = 0
        self.answer = b""
        self.limit: tuple[int, float] | None = None
        self.sliding = False
        self.refused = 0
        self._accepted: list[float] = []

    async def image(self, request: Request) -> Response:
        """Answer a request for an image, with or without a payment, `wait` seconds after reading it."""
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
        self.requests += 1
        self.received += size
        await asyncio.sleep(self.wait)
        if "payment-signature" not in request.headers:
            return JSONResponse({"error": "Payment Required"}, 402, {"PAYMENT-REQUIRED": _challenge(str(request.url))})
        if (left := self._seconds_to_wait()) is not None:
            self.refused += 1
            return JSONResponse({"error": "Rate limit"}, 429, {"Retry-After": str(math.ceil(left))})
        receipt = {"success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:8453", "payer": PAYEE}
        headers = {"PAYMENT-RESPONSE": _encoded(receipt), "Content-Type": "application/json"}
        return Response(self.answer, 200, headers)

    def _seconds_to_wait(self) -> float | None:
        """Return the seconds until the limit allows the paid request; None if it is allowed now."""
        if self.limit is None:
            return None
        (count, seconds), now = self.limit, time.monotonic()
        if self.sliding or (self._accepted and now - self._accepted[0] >= seconds):
            self._accepted = [at for at in self._accepted if self.sliding and now - at < seconds]
        if len(self._accepted) < count:
            self._accepted.append(now)
            return None
        return seconds - (now - self._accepted[0])

    async def set_limit(self, request: Request) -> Response:
        """Set the limit: "20 5" allows 20 paid requests in 5 seconds.

        Windows begin with a request. With "20 5 sliding", the limit holds for every period of that length.
        """
        count, seconds, *kind = (await request.body()).decode().split()
        self.limit, self.sliding = (int(count), float(seconds)), kind == ["sliding"]
        self._accepted, self.refused = [], 0
        return JSONResponse({})

    async def put_image(self, request: Request) -> Response:
        """Set the image of all answers, already encoded."""
        picture = base64.b64encode(await request.body())
        self.answer = b'{"created":1,"data":[{"url":"data:image/png;base64,' + picture + b'"}]}'
        return JSONResponse({})

    async def set_wait(self, request: Request) -> Response:
        """Set the waiting time of all answers, in seconds."""
        self.wait = float((await request.body()).decode())
        return JSONResponse({})

    async def counts(self, _request: Request) -> Response:
        """Return the number of requests for images, of bytes in their bodies, and of refused requests."""
        return JSONResponse({"requests": self.requests, "received": self.received, "refused": self.refused})

    async def rpc(self, request: Request) -> Response:
        """Answer like a server of a chain with a new block and without any used authorization."""
        asked = await request.json()
        block = {"number": "0x10", "timestamp": hex(int(time.time()))}
        result = block if asked["method"] == "eth_getBlockByNumber" else "0x" + "0" * 64
        return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/api/v1/images/generations", self.image, methods=["POST"]),
                Route("/api/v1/images/image2image", self.image, methods=["POST"]),
                Route("/image", self.put_image, methods=["PUT"]),
                Route("/wait", self.set_wait, methods=["PUT"]),
                Route("/limit", self.set_limit, methods=["PUT"]),
                Route("/counts", self.counts),
                Route("/rpc/{number}", self.rpc, methods=["POST"]),
            ]
        )


def _challenge(url: str) -> str:
    entry = {
        "scheme": "exact",
        "network": "eip155:8453",
        "amount": PRICE,
        "asset": BASE_USDC,
        "payTo": PAYEE,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    return _encoded({"x402Version": 2, "accepts": [entry], "resource": {"url": url}, "error": "Payment Required"})


def _encoded(content: Any) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def main() -> None:
    """Serve on a free port of loopback, and print its URL."""
    # The protocol is named so that asyncio sends answers at once; otherwise it waits 40 ms for acknowledgments.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(Gateway(float(sys.argv[1])).app(), lifespan="off", log_config=None, timeout_keep_alive=60)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
