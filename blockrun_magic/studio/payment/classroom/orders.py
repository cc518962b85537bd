"""Orders at a classroom: sent under a key of the kernel, awaited, cancelled, and used as the witness for the money.

The order is the witness of the student's ledger: a finished order settles its payment with its charge; one that was
refused, cancelled, or failed without a charge releases it; any other leaves it at risk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.classroom.account import ClassroomAccount
from blockrun_magic.gateway.classroom.protocol import Order, read_order
from blockrun_magic.gateway.classroom.refusals import code_of
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State, Witness
from blockrun_magic.threads import run_io

__all__ = ["ORDERS", "OrderCalls", "ask_about", "record_order"]

ORDERS = "/v1/orders"
_WAIT = 25
"""Seconds that the service may hold an answer until the order ends."""
_UNKNOWN_ORDER = "unknown_order"


@dataclass(frozen=True, slots=True)
class OrderCalls:
    """The calls about orders at one classroom."""

    account: ClassroomAccount
    gateway: Gateway

    async def put(self, key: str, request: ImageRequest, take: int, max_price: int) -> Response:
        """Order `request` under `key`, or ask again about the order that has it; raises GatewayError."""
        content = _content(request, take, max_price)
        more = {"Prefer": f"wait={_WAIT}", **content.pop("headers", {})}
        return await self.account.call("PUT", self.gateway, f"{ORDERS}/{key}", headers=more, **content)

    async def get(self, key: str, *, wait: int = _WAIT) -> Response:
        """Ask about an order, without a body to send; raises GatewayError."""
        return await self.account.call("GET", self.gateway, f"{ORDERS}/{key}?wait={wait}")

    async def cancel(self, key: str) -> Order | None:
        """Cancel an order unless it is signed, and return its new state; None if the answer is not an order."""
        answer = await self.account.call("DELETE", self.gateway, f"{ORDERS}/{key}", silence=20.0)
        return read_order(answer, key) if answer.status in (200, 409) else None


def _content(request: ImageRequest, take: int, max_price: int) -> dict[str, Any]:
    """Return the content of an order: a JSON body, or a form if there are images."""
    fields = {
        "path": request.endpoint,
        "take": take,
        "max_price_micros": max_price,
        "digest": request.digest,
        **request.fields(),
    }
    if not request.images:
        return {"body": fields}
    # The boundary is the request's own, so that a repeated order is the same to the byte.
    boundary = request.digest.removeprefix("sha256:")
    return {
        "data": {name: str(value) for name, value in fields.items()},
        "files": [(name, (name, upload.data, upload.media_type)) for name, upload in request.files()],
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    }


def record_order(ledger: Ledger, payment: Payment, order: Order) -> Payment:
    """Record the effect of `order` on its payment, and return the payment."""
    payment = ledger.payment(payment.id)
    if payment.decided:
        return payment
    if order.settled:
        note = f"the order is {order.state}"
        return ledger.settle(payment.id, order.transaction, note, witness=Witness.CLASSROOM, charged=order.charged)
    if order.unpaid:
        return ledger.release(payment.id, f"the order is {order.state}", witness=Witness.CLASSROOM)
    if order.transaction is not None:
        payment = ledger.claim(payment.id, order.transaction)
    if order.state.ended and payment.state is not State.UNKNOWN:
        return ledger.mark_unknown(payment.id, f"the order is {order.state}, its payment is not decided yet")
    return payment


async def ask_about(calls: OrderCalls, ledger: Ledger, payment: Payment) -> Payment:
    """Ask the order of a sent payment about its charge; return the payment. Raises GatewayError.

    An order that never arrived is cancelled first, so that it cannot arrive later; then its payment is released.
    """
    key = str(payment.nonce)
    answer = await calls.get(key, wait=0)
    order = read_order(answer, key)
    if order is None and answer.status == 404 and code_of(answer) == _UNKNOWN_ORDER:
        order = await calls.cancel(key)
    return payment if order is None else await run_io(record_order, ledger, payment, order)
