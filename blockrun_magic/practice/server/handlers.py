"""Handlers of the paid endpoints: read a request and its payment, settle once, return the images."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, JSONResponse

from blockrun_magic.payments.x402.networks import PRACTICE, EvmNetwork
from blockrun_magic.practice.server.challenge import PaymentRequirements, price_of, to_base64_json
from blockrun_magic.practice.server.hook import DropConnection, Exchange, Hook, no_hook
from blockrun_magic.practice.server.requests import InvalidRequest, order_from, read_fields
from blockrun_magic.practice.server.responses import receipt_headers, result_body
from blockrun_magic.practice.server.triggers import Triggers
from blockrun_magic.practice.server.verification import InvalidPayment, PaymentPayload, read_payload

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.gateway.request import ImageRequest, Operation
    from blockrun_magic.practice.server.database import Database, Job, Settlement
    from blockrun_magic.practice.server.images import ImageCache

__all__ = ["Options", "PaidEndpoints"]

_SLOW_MODELS = ("bytedance/seedream-5-pro", "openai/gpt-image-2")
_PRICE_UP = 10


@dataclass(frozen=True, slots=True)
class Options:
    """Behavior of a practice gateway: waits in seconds, x402 version, network."""

    latency: float = 0.0
    """Seconds an image takes on a model that answers at once."""
    slow_seconds: float = 3.0
    """Seconds a job takes on a model that answers 202."""
    x402_version: int = 2
    network: EvmNetwork = field(default=PRACTICE)
    hook: Hook = no_hook
    clock: Callable[[], float] = time.time
    """Returns the gateway's Unix time."""


def origin_of(request: Request) -> str:
    """Return the origin the client used: "http://127.0.0.1:8403"."""
    return f"{request.url.scheme}://{request.url.netloc}"


class PaidEndpoints:
    """Answers the paid endpoints; all state is in `state`."""

    def __init__(self, state: Database, catalog: Catalog, images: ImageCache, options: Options) -> None:
        self.state = state
        self.catalog = catalog
        self.images = images
        self.options = options

    async def submit(self, http: Request, operation: Operation) -> Response:
        """Answer a POST: a price, the images, a job, or an error."""
        self.state.count("requests")
        try:
            fields = await read_fields(http)
            order, triggers = await asyncio.to_thread(order_from, fields, operation, self.catalog)
            exchange = Exchange(http, order, self._terms(http, order, triggers))
        except InvalidRequest as refused:
            return JSONResponse(refused.body, refused.status)
        answer = await self._hook("terms", exchange)
        if answer is not None:
            return answer
        if self._header(http) is None:
            return await self._hooked("challenge", exchange, self._challenge(exchange.terms))
        self.state.count("paid")
        try:
            return await self._paid(exchange, order, triggers)
        except InvalidPayment as rejected:
            return self._challenge(exchange.terms, rejected)

    async def poll(self, http: Request, job_id: str) -> Response:
        """Answer the poll of a job: still running, the images, or an error."""
        job = self.state.job(job_id)
        if job is None:
            return JSONResponse({"error": "Not found", "details": f"There is no job {job_id}."}, 404)
        terms = PaymentRequirements(self.options.network, job.amount, str(http.url), self.options.x402_version)
        exchange = Exchange(http, self.state.order(job.digest), terms, job=job)
        answer = await self._hook("terms", exchange)
        if answer is not None:
            return answer
        if self._header(http) is None:
            return await self._hooked("challenge", exchange, self._challenge(exchange.terms))
        try:
            return await self._poll(exchange, job)
        except InvalidPayment as rejected:
            return self._challenge(exchange.terms, rejected)

    async def _poll(self, exchange: Exchange, job: Job) -> Response:
        payload = exchange.payload = self._payload(exchange.http)
        if payload.payer != job.payer:
            details = "Another wallet opened this job."
            return JSONResponse({"error": "Forbidden", "details": details, "code": "WALLET_MISMATCH"}, 403)
        answer = await self._hook("poll", exchange)
        return answer or await self._polled(exchange, job, payload)

    async def _paid(self, exchange: Exchange, order: ImageRequest, triggers: Triggers) -> Response:
        payload = exchange.payload = self._payload(exchange.http)
        repeated = await self._hook("received", exchange) or await self._repeated(exchange, order, payload)
        if repeated is not None:
            return repeated
        assert exchange.terms is not None  # noqa: S101  `submit` has set them
        payload.check_terms(exchange.terms)
        payload.check_window(self.options.clock())
        self.state.check_balance(payload)
        fault = await self._hook("paid", exchange) or self._fault(triggers, payload)
        if fault is not None:
            return fault
        self.state.save_order(order)
        seconds = self._job_seconds(order, triggers)
        if seconds is not None:
            queued = self._queued(self.state.open_job(payload, order, seconds), order)
            return await self._hooked("job", exchange, queued)
        await asyncio.sleep(self.options.latency * order.n)
        settlement, _ = self.state.settle(payload, order)
        return await self._hooked("settled", exchange, await self._deliver(exchange.http, order, settlement))

    async def _repeated(self, exchange: Exchange, order: ImageRequest, payload: PaymentPayload) -> Response | None:
        """Return the earlier answer to this authorization, or None if it is new; raises InvalidPayment."""
        job = self.state.job_paid_by(payload.payer, payload.nonce)
        settlement = self.state.settlement_of(job.id) if job else None
        settlement = settlement or self.state.settlement(payload.payer, payload.nonce)
        used_for = settlement.digest if settlement else job.digest if job else None
        if used_for is None:
            return None
        if used_for != order.digest:
            details = "This authorization was used for another request."
            raise InvalidPayment(details, "invalid_exact_evm_nonce_already_used", "PAYMENT_REPLAY")
        if settlement is not None:
            answer = await self._deliver(exchange.http, order, settlement, {"already_settled": True})
            return await self._hooked("settled", exchange, answer)
        return self._queued(job, order) if job else None

    async def _polled(self, exchange: Exchange, job: Job, payload: PaymentPayload) -> Response:
        order = self.state.order(job.digest)
        triggers = Triggers.read(order.prompt)
        about = {"id": job.id, "object": "image.job", "model": order.model}
        settled = self.state.settlement_of(job.id)
        if settled is not None:
            again = {"status": "completed", "payment_status": "settled", "already_settled": True}
            answer = await self._deliver(exchange.http, order, settled, about | again)
            return await self._hooked("polled", exchange, answer)
        assert exchange.terms is not None  # noqa: S101  `poll` has set them
        payload.check_terms(exchange.terms)
        payload.check_window(self.options.clock())
        if "poll-504" in triggers and self.state.count(f"poll-504 {job.id}") == 0:
            return JSONResponse({"error": "Gateway timeout", "message": "Ask again (practice)."}, 504)
        if self.options.clock() < job.ready_at:
            return JSONResponse(self._job_body(job, order) | {"status": "in_progress"}, 202)
        if "fail-job" in triggers:
            error = "The model could not paint this (practice)."
            return JSONResponse(about | {"status": "failed", "payment_status": "not_charged", "error": error})
        settlement, _ = self.state.settle(payload, order, job)
        done = {"status": "completed", "payment_status": "settled"}
        return await self._hooked(
            "polled", exchange, await self._deliver(exchange.http, order, settlement, about | done)
        )

    async def _deliver(
        self, http: Request, order: ImageRequest, settlement: Settlement, extra: dict[str, Any] | None = None
    ) -> Response:
        """Return the images of a settlement, unless a trigger loses them."""
        triggers = Triggers.read(order.prompt)
        network, version = self.options.network, self.options.x402_version
        headers = receipt_headers(order, settlement, network, version)
        for name in ("lost", "500-charged"):
            first = name in triggers and self.state.count(f"{name} {settlement.tx}") == 0
            if not first and f"{name}-always" not in triggers:
                continue
            if name == "lost":
                raise DropConnection
            payment = {"status": "settled", "tx_hash": settlement.tx, "network": network.id}
            problem = {"error": "Internal error", "details": "Paid, and then it broke.", "payment": payment}
            return JSONResponse(problem, 500, headers)
        body = await result_body(order, settlement, self.images, origin_of(http), network)
        return JSONResponse((extra or {}) | body, headers=headers)

    def _fault(self, triggers: Triggers, payload: PaymentPayload) -> Response | None:
        """Return the error that a trigger requests before payment, or None; raises InvalidPayment, DropConnection."""
        if "402" in triggers:
            raise InvalidPayment("The facilitator refused the payment (practice).", "unexpected_verify_error")
        if "lost-unpaid" in triggers and self.state.count(f"lost-unpaid {payload.nonce}") == 0:
            raise DropConnection
        if "html-error" in triggers:
            return HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", 502)
        for name, fault in triggers.faults:
            if fault.once and self.state.count(f"{name} {payload.nonce}") > 0:
                continue
            limited = {"Retry-After": "1", "X-RateLimit-Source": "upstream"} if fault.status == 429 else None
            return JSONResponse(fault.body, fault.status, limited)
        return None

    def _job_seconds(self, order: ImageRequest, triggers: Triggers) -> float | None:
        """Return the seconds that a job takes, or None for an immediate answer."""
        if triggers.seconds is not None:
            return triggers.seconds
        return self.options.slow_seconds if order.model.startswith(_SLOW_MODELS) else None

    def _job_body(self, job: Job, order: ImageRequest) -> dict[str, Any]:
        return {
            "id": job.id,
            "object": "image.job",
            "model": order.model,
            "size": order.size,
            "n": order.n,
            "price": price_of(job.amount),
            "payment_status": "verified",
            "created": int(job.created),
            "poll_url": f"/api/v1/jobs/{job.id}",
        }

    def _queued(self, job: Job, order: ImageRequest) -> Response:
        return JSONResponse(self._job_body(job, order) | {"status": "queued"}, 202)

    def _terms(self, http: Request, order: ImageRequest, triggers: Triggers) -> PaymentRequirements:
        price = self.catalog.list_price(order.price_key)
        if price is None:
            raise InvalidRequest(400, {"error": "No price", "details": f"{order.model} has no price for {order.size}."})
        amount = price * _PRICE_UP if "price-up" in triggers else price
        resource = f"{origin_of(http)}{http.url.path}"
        return PaymentRequirements(self.options.network, amount, resource, self.options.x402_version)

    def _header(self, http: Request) -> str | None:
        name = "X-PAYMENT" if self.options.x402_version == 1 else "PAYMENT-SIGNATURE"
        return http.headers.get(name)

    def _payload(self, http: Request) -> PaymentPayload:
        return read_payload(self._header(http) or "", self.options.x402_version, self.options.network)

    async def _hook(self, point: str, exchange: Exchange) -> Response | None:
        return await self.options.hook(point, exchange)

    async def _hooked(self, point: str, exchange: Exchange, answer: Response) -> Response:
        """Return `answer`, or the hook's response instead."""
        exchange.response = answer
        return await self._hook(point, exchange) or answer

    def _challenge(self, terms: PaymentRequirements | None, rejected: InvalidPayment | None = None) -> Response:
        assert terms is not None  # noqa: S101  every exchange has them
        body, headers = terms.challenge(rejected.problem if rejected else None)
        if rejected is not None and terms.version != 1:
            refusal = {"success": False, "errorReason": rejected.problem["reason"], "transaction": ""}
            headers |= {"PAYMENT-RESPONSE": to_base64_json(refusal | {"network": terms.network.id})}
        return JSONResponse(body, 402, headers)
