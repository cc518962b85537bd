"""A hostile merchant: it remembers every payload, cashes by a policy of its own, and answers at random.

It is the practice gateway with a fault hook, and also a ClawRouter that charges any amount. It opens no socket:
`answer` is the network's answer to a request. Every action depends only on its random generator, so a seed gives the
same story again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import partial
from random import Random
from typing import Any

import httpx
from starlette.responses import JSONResponse, Response

from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.gateways import practice_at, preset
from blockrun_magic.gateway.request import PriceKey
from blockrun_magic.practice.server.app import build_app
from blockrun_magic.practice.server.challenge import to_base64_json
from blockrun_magic.practice.server.database import Database
from blockrun_magic.practice.server.handlers import Options
from blockrun_magic.practice.server.hook import Exchange
from blockrun_magic.practice.server.verification import InvalidPayment, PaymentPayload
from fakes.gateway import picture_for
from harness.virtual_time import World

__all__ = ["CLAWROUTER", "GATEWAY", "GREEDS", "HostileMerchant", "Kept"]

GATEWAY = practice_at("http://127.0.0.1:8499/api")
CLAWROUTER = preset("clawrouter", {"BLOCKRUN_PROXY_PORT": "8498"})
GREEDS = ("at once", "late", "never", "dearer", "random")
_REFUSALS = (400, 403, 404, 410, 413, 415, 422)
_FAILURES = (408, 425, 429, 500, 502, 503, 504)
_WINDOWS = (300, 300, 300, 30, 60, 900, 3600, 864_000)
_FACTORS = (1.0, 1.0, 1.0, 1.0, 0.5, 0.98, 1.3, 1.5, 10.0)
_FEW = 0.06


@dataclass(frozen=True)
class Kept:
    """A payload that the merchant can cash; `kernel` is the number of the kernel that first showed it."""

    nonce: str
    value: int
    valid_after: int
    valid_before: int
    kernel: int


@dataclass
class HostileMerchant:
    """The merchant of one story; `greed` decides when it cashes, `witness` whether the chain reports its payments."""

    rng: Random
    world: World
    greed: str = "random"
    witness: bool = True
    kernel: int = 0
    """The number of the running kernel."""
    kept: list[Kept] = field(default_factory=list)
    moved: dict[str, int] = field(default_factory=dict)
    """Micro-USDC that moved, by nonce."""
    charges: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """ClawRouter's charges, by prompt."""
    shut: int = 0
    """The number of the next connections that are refused."""
    flattery: float = 0
    """Seconds that its `Date` is ahead in a challenge, so that a wrong clock seems right."""
    honest: bool = False
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._state = Database(":memory:", start_balance=10**12)
        self._mood = (1.0, 300)
        options = Options(hook=self._hook, clock=self.world)
        self._app = httpx.ASGITransport(build_app(self._state, SNAPSHOT, options))

    def close(self) -> None:
        """Remove all its data."""
        self._state.close()

    # -- its payments

    def tick(self) -> None:
        """Let some time pass for the merchant: it may cash payloads now."""
        chance = {"late": 0.4, "dearer": 0.4, "random": 0.2}.get(self.greed, 0.0)
        for nonce in dict.fromkeys(kept.nonce for kept in self.kept):
            if self.rng.random() < chance:
                self._cash(nonce)

    def cash_all(self) -> None:
        """Cash one payload of each authorization if it is still valid; most policies choose the highest."""
        for nonce in dict.fromkeys(kept.nonce for kept in self.kept):
            self._cash(nonce)

    def potential(self, nonce: str) -> int:
        """Return the sum that an authorization moved or can still move at most, in micro-USDC."""
        if nonce in self.moved:
            return self.moved[nonce]
        return max((kept.value for kept in self.kept if kept.nonce == nonce and self._cashable(kept)), default=0)

    def _cashable(self, kept: Kept) -> bool:
        """Return whether the chain accepts a payload now or later."""
        return self.world() < kept.valid_before

    def _cash(self, nonce: str, payload: Kept | None = None) -> None:
        now = self.world()
        payloads = [kept for kept in self.kept if kept.nonce == nonce and kept.valid_after < now < kept.valid_before]
        if nonce in self.moved or not payloads:
            return
        chosen = payload if payload in payloads else max(payloads, key=lambda kept: kept.value)
        if payload is None and self.greed == "random":
            chosen = self.rng.choice(payloads)
        self.moved[nonce] = chosen.value
        self.log.append(f"{now:.0f} cashes {chosen.value} of {nonce[:8]}")

    # -- the network

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Return the answer to any request of the client; raises httpx errors like a network."""
        here = {GATEWAY.origin: self._gateway, CLAWROUTER.origin: self._clawrouter}
        url = request.url
        serve = here.get(f"{url.scheme}://{url.netloc.decode()}")
        if serve is None:
            raise httpx.ConnectError("no route to host", request=request)
        if self.shut > 0 and not self.honest:
            self.shut -= 1
            raise httpx.ConnectError("connection refused", request=request)
        response = _unread(await serve(request))
        flattery = self.flattery if request.method == "POST" else 0  # as a witness, it is honest
        response.headers["Date"] = formatdate(self.world() + flattery, usegmt=True)
        self.log.append(f"{self.world():.0f} {request.method} {url.path} -> {response.status_code}")
        return response

    async def _gateway(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._app.handle_async_request(request)
        except _Drop as drop:
            self.log.append(f"{self.world():.0f} {request.method} {request.url.path} -> dropped")
            raise drop.error(request) from None

    def _some(self, chance: float) -> bool:
        return not self.honest and self.rng.random() < chance

    # -- the gateway

    async def _hook(self, point: str, exchange: Exchange) -> Response | None:
        answer = getattr(self, f"_at_{point}", None)
        return None if answer is None else await answer(exchange)

    async def _at_terms(self, exchange: Exchange) -> None:
        if self._some(0.25):
            self._mood = (self.rng.choice(_FACTORS), self.rng.choice(_WINDOWS))
        if self.honest:
            self._mood = (1.0, 300)
        assert exchange.terms is not None
        factor, window = self._mood
        exchange.terms = replace(exchange.terms, amount=max(1, int(exchange.terms.amount * factor)), window=window)

    async def _at_challenge(self, exchange: Exchange) -> Response | None:
        return self._odd_answer(exchange) if self._some(_FEW) else None

    async def _at_witness(self, exchange: Exchange) -> Response:
        if not self.witness or self._some(_FEW):
            return JSONResponse({"error": "Not found"}, 404)
        nonce = exchange.http.path_params["nonce"].lower()
        used = nonce in self.moved
        moved = {"value": self.moved[nonce], "transaction": _transaction(nonce)} if used else {"transaction": None}
        return JSONResponse({"used": used, **moved})

    async def _at_received(self, exchange: Exchange) -> Response | None:
        payload = exchange.payload
        assert payload is not None
        assert exchange.request is not None
        kept = self._keep(payload)
        job = self._state.job_paid_by(payload.payer, payload.nonce)
        if self.honest and job is None:
            return await self._honestly(exchange, kept)
        self._maybe_cash(kept)
        if self.rng.random() < 0.25:
            self._state.save_order(exchange.request)
            job = self._state.open_job(payload, exchange.request, self.rng.choice((0, 5, 60, 500)))
            return self._queued(job.id)
        return self._paid_answer(exchange, payload)

    async def _at_poll(self, exchange: Exchange) -> Response | None:
        payload = exchange.payload
        assert payload is not None
        assert exchange.job is not None
        kept = self._keep(payload)
        if self.honest:
            return await self._honestly(exchange, kept)
        self._maybe_cash(kept)
        if self.rng.random() < 0.35:
            return self._queued(exchange.job.id, "in_progress")
        return self._paid_answer(exchange, payload)

    async def _honestly(self, exchange: Exchange, kept: Kept) -> Response:
        if kept.nonce not in self.moved:
            if not kept.valid_after < self.world() < kept.valid_before:
                raise InvalidPayment("The authorization is outside its window.", "expired", "PAYMENT_EXPIRED")
            assert exchange.payload is not None
            assert exchange.terms is not None
            exchange.payload.check_terms(exchange.terms)
            self._cash(kept.nonce, kept)
        return self._images(exchange, kept.nonce, proof=True)

    def _keep(self, payload: PaymentPayload) -> Kept:
        kept = Kept(payload.nonce, payload.value, payload.valid_after, payload.valid_before, self.kernel)
        known = next((old for old in self.kept if replace(old, kernel=self.kernel) == kept), None)
        if known is None:
            self.kept.append(kept)
            self.log.append(f"{self.world():.0f} keeps {kept.value} of {kept.nonce[:8]} until {kept.valid_before}")
        return known or kept

    def _maybe_cash(self, kept: Kept) -> None:
        if self.greed == "at once" or (self.greed == "random" and self.rng.random() < 0.5):
            self._cash(kept.nonce, kept)

    def _paid_answer(self, exchange: Exchange, payload: PaymentPayload) -> Response:
        choice = self.rng.random()
        if choice < 0.35:
            return self._images(exchange, payload.nonce, proof=self.rng.random() < 0.7)
        if choice < 0.55:
            self._mood = (self.rng.choice(_FACTORS), self.rng.choice(_WINDOWS))
            assert exchange.terms is not None
            factor, window = self._mood
            exchange.terms = replace(exchange.terms, amount=max(1, int(exchange.terms.amount * factor)), window=window)
            raise InvalidPayment("Not like this.", "price", self.rng.choice(("PAYMENT_INVALID", "PAYMENT_REPLAY")))
        if choice < 0.7:
            self.shut = self.rng.choice((0, 0, 1, 2, 5))
            raise _Drop(self.rng.choice((httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError)))
        return self._odd_answer(exchange)

    def _odd_answer(self, exchange: Exchange) -> Response:
        """Return one of the answers that a gateway may give."""
        rng = self.rng
        self.shut = rng.choice((0, 0, 0, 1, 3))
        headers = {}
        if rng.random() < 0.2:  # a claim that proves nothing
            claim = {"success": rng.random() < 0.7, "transaction": _transaction(str(rng.random()))}
            headers["PAYMENT-RESPONSE"] = to_base64_json(claim)
        kind = rng.random()
        if kind < 0.35:
            return JSONResponse({"error": "No.", "code": "x"}, rng.choice(_REFUSALS), headers)
        if kind < 0.7:
            return JSONResponse({"error": "Broken."}, rng.choice(_FAILURES), headers)
        if kind < 0.8:
            failed = {"status": "failed", "payment_status": "not_charged", "error": "It did not work."}
            return JSONResponse(failed, 200, headers)
        odd: Sequence[Any] = ({}, [], {"data": []}, {"data": [{}]}, {"data": "x"}, None, {"status": []})
        return JSONResponse(rng.choice(odd), rng.choice((200, 202)), headers)

    def _queued(self, job: str, status: str = "queued") -> Response:
        return JSONResponse({"id": job, "status": status, "poll_url": f"/api/v1/jobs/{job}"}, 202)

    def _images(self, exchange: Exchange, nonce: str, *, proof: bool) -> Response:
        request = exchange.request
        assert request is not None
        count = request.n if self.honest else max(0, request.n + self.rng.choice((0, 0, 0, 0, -1, 1)))
        body: dict[str, Any] = {"data": [self._entry(nonce, index) for index in range(count)]}
        headers = {}
        if proof and nonce in self.moved:
            body["payment"] = {"status": "settled", "tx_hash": _transaction(nonce)}
            headers["PAYMENT-RESPONSE"] = to_base64_json({"success": True, "transaction": _transaction(nonce)})
        return JSONResponse(body, 200, headers)

    def _entry(self, name: str, index: int) -> dict[str, str]:
        encoded = base64.b64encode(picture_for(f"{name} {index % 2}")).decode()
        if self._some(0.1):
            encoded = self.rng.choice((encoded[:-9], "AAAA", encoded[: len(encoded) // 2]))
        return {"b64_json": encoded}

    # -- ClawRouter

    async def _clawrouter(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/health":
            return httpx.Response(200, json={"status": "ok", "wallet": "0x" + "c1" * 20, "paymentChain": "base"})
        if request.method != "POST":
            return httpx.Response(404, json={"error": "Not found"})
        body = json.loads(await request.aread())
        key = PriceKey(request.url.path, body["model"], body["size"], body.get("quality"), body.get("n", 1))
        price = SNAPSHOT.list_price(key) or 0
        charged = self.honest or self.rng.random() < 0.6
        if charged:
            self.charges[body["prompt"]].append(price)
            self.log.append(f"{self.world():.0f} ClawRouter charges {price}")
        return self._proxied(request, body, honest=self.honest)

    def _proxied(self, request: httpx.Request, body: dict[str, Any], *, honest: bool) -> httpx.Response:
        rng, choice = self.rng, self.rng.random()
        images = {"data": [self._entry(body["prompt"], index) for index in range(body.get("n", 1))]}
        if honest or choice < 0.3:
            return httpx.Response(200, json=images)
        if choice < 0.4:
            return httpx.Response(200, json={**images, "price": {"amount": rng.choice(("9999", "-1", "x", "1e9"))}})
        if choice < 0.55:
            raise rng.choice((httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError))("", request=request)
        if choice < 0.65:
            return httpx.Response(502, json={"error": "payment creation aborted"})
        if choice < 0.75:
            failed = {"status": "failed", "payment_status": "not_charged", "error": "No."}
            return httpx.Response(200, json=failed)
        return httpx.Response(rng.choice((*_REFUSALS, *_FAILURES, 402)), json={"error": "No."})


class _Drop(Exception):
    """A broken connection; `error` makes the httpx error for a request."""

    def __init__(self, kind: type[httpx.TransportError]) -> None:
        super().__init__(kind.__name__)
        self.error = partial(_broken, kind)


def _broken(kind: type[httpx.TransportError], request: httpx.Request) -> httpx.TransportError:
    return kind("it broke", request=request)


def _unread(response: httpx.Response) -> httpx.Response:
    """Return a response whose body is not read yet, as a transport does."""
    if not hasattr(response, "_content"):
        return response
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(response.content))


def _transaction(name: str) -> str:
    return "0x" + hashlib.sha256(name.encode()).hexdigest()
