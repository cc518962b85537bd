"""Orders of a kernel whose disk was lost: the classroom still has them, and this ledger records them again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from blockrun_magic.gateway.classroom.account import ClassroomAccount
from blockrun_magic.gateway.classroom.protocol import Order, read_orders
from blockrun_magic.gateway.classroom.refusals import refusal
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ENDPOINTS, ImageRequest
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Purchase
from blockrun_magic.studio.payment.classroom.orders import ORDERS
from blockrun_magic.threads import run_io

__all__ = ["adopt_orders"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_TEXT, _MAX_COUNT = 200_000, 1_000_000


async def adopt_orders(account: ClassroomAccount, ledger: Ledger, gateway: Gateway) -> list[Purchase]:
    """Record the student's open orders that are missing in the ledger, and return their purchases.

    Their images are collected like those of any other open purchase. Raises BlockrunError.
    """
    answer = await account.call("GET", gateway, f"{ORDERS}?open=1")
    if answer.status != 200:
        raise refusal(answer)
    purchases = [await run_io(_adopt, ledger, gateway, order) for order in read_orders(answer)]
    return [purchase for purchase in purchases if purchase is not None]


def _adopt(ledger: Ledger, gateway: Gateway, order: Order) -> Purchase | None:
    """Return the new purchase of an order, or None if it is recorded already, has ended, or cannot be read."""
    request = None if order.request is None else _request(order.request)
    if request is None or order.unpaid or ledger.has_order(order.key):
        return None
    fields, digest, take = order.request or {}, request.digest, _count(order.request, "take")
    if isinstance(fields.get("digest"), str) and _DIGEST.fullmatch(fields["digest"]):
        digest = fields["digest"]  # the digest of the images, which are missing here
    recorded = ledger.purchase(gateway.realm, digest, take)
    if recorded is not None and (recorded.finished_at is not None or ledger.open_payment(recorded.id) is not None):
        return None
    record = {**request.to_record(), "uploads": []}
    purchase = ledger.create_purchase(gateway.realm, gateway.name, digest, take, record, private=False)
    amount = max(order.price, order.charged, order.at_risk)
    payment = ledger.reserve(purchase, amount, prepaid=True, payer=gateway.base_url, order=order.key)
    ledger.submit(payment.id)
    ledger.poll(payment.id, purchase.id, f"{ORDERS}/{order.key}")
    return purchase


def _request(fields: Mapping[str, Any]) -> ImageRequest | None:
    """Return the request of an order without its images, or None if the answer lacks it."""
    prompt, model, size, quality = (fields.get(name) for name in ("prompt", "model", "size", "quality"))
    texts = (prompt, model, size)
    if not all(isinstance(text, str) and 0 < len(text) <= _MAX_TEXT for text in texts):
        return None
    return ImageRequest(
        "edit" if fields.get("path") == ENDPOINTS["edit"] else "generate",
        str(prompt),
        str(model),
        str(size),
        quality if isinstance(quality, str) else None,
        _count(fields, "n"),
    )


def _count(fields: Mapping[str, Any] | None, name: str) -> int:
    value = (fields or {}).get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        return 1
    return value if 1 <= value <= _MAX_COUNT else 1
