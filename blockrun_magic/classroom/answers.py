"""Answers of the classroom: orders, limits, members and models as JSON values."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blockrun_magic.classroom.orders.failures import limit_subject
from blockrun_magic.classroom.storage.order_records import Order, OrderImage, OrderState
from blockrun_magic.gateway.classroom.protocol import NOTICE
from blockrun_magic.payments.ledger.states import AT_RISK, State
from blockrun_magic.payments.money import to_decimal

if TYPE_CHECKING:
    from blockrun_magic.classroom.policy import Policy
    from blockrun_magic.classroom.storage.members import Member
    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.images.store import Store
    from blockrun_magic.payments.ledger.records import Payment
    from blockrun_magic.payments.ledger.windows import Standing

__all__ = ["image_items", "limits_json", "member_json", "models_json", "order_json", "usd"]


def usd(micros: int | None) -> str | None:
    """Return micro-USDC as exact dollars, "0.0525"."""
    return None if micros is None else f"{to_decimal(micros).normalize():f}"


def order_json(order: Order, payments: Sequence[Payment]) -> dict[str, Any]:
    """Return an order without its images; `payments` are those of its purchase, oldest first.

    Only the order that pays for a purchase is charged; a delivered image counts as charged even before a witness has
    seen the payment.
    """
    own = [payment for payment in payments if payment.state is not State.RELEASED] if order.pays else []
    at_risk = sum(payment.amount for payment in own if payment.state in AT_RISK)
    settled = sum(payment.amount for payment in own if payment.state is State.SETTLED)
    last = own[-1] if own else None
    return {
        "order": order.key,
        "state": str(order.state),
        "price": usd(order.price_micros),
        "charged_micros": settled + at_risk if order.state is OrderState.DONE else settled,
        "at_risk_micros": at_risk,
        "payment": None if last is None else {"transaction": last.transaction, "network": last.network},
        **({"error": dict(order.error)} if order.error else {}),
        **({"request": _request_json(order)} if order.request else {}),
    }


def _request_json(order: Order) -> dict[str, Any]:
    record = order.request or {}
    names = ("prompt", "model", "size", "n", "quality")
    return {
        "path": record.get("endpoint"),
        **{name: record.get(name) for name in names},
        "take": order.take,
        "digest": order.student_digest,
    }


def image_items(images: Sequence[OrderImage], store: Store) -> list[dict[str, Any]]:
    """Return images in base64, as a gateway sends them; raises StoreError if one is missing."""
    items = []
    for image in images:
        item: dict[str, Any] = {"b64_json": base64.b64encode(store.get(image.file, image.media_type)).decode("ascii")}
        if image.revised_prompt:
            item["revised_prompt"] = image.revised_prompt
        items.append(item)
    return items


def limits_json(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Return the limits that apply to a person; the ceiling of the service appears as one of the class."""
    tightest: dict[tuple[str, str], dict[str, Any]] = {}
    for standing in standings:
        if standing.limit is None or standing.left is None:
            continue
        key = (limit_subject(standing.subject), standing.period)
        entry = {
            "subject": key[0],
            "period": key[1],
            "limit": standing.limit,
            "spent": standing.used - standing.at_risk,
            "at_risk": standing.at_risk,
            "left": max(0, standing.left),
            "resets_at": standing.resets_at,
        }
        if key not in tightest or entry["left"] < tightest[key]["left"]:
            tightest[key] = entry
    return list(tightest.values())


def member_json(
    member: Member, expires_at: float, policy: Policy, limits: list[dict[str, Any]], realm: str, gateway: str
) -> dict[str, Any]:
    """Return a person's own facts."""
    return {
        "expires_at": expires_at,
        "member": {"id": member.id, "name": member.name, "role": member.role},
        "groups": list(member.groups),
        "limits": limits,
        "policy": policy.public(),
        "realm": realm,
        "gateway": gateway,
        "notice": NOTICE,
    }


def models_json(catalog: Catalog, allowed: Sequence[str] | None) -> dict[str, Any]:
    """Return the allowed models that the gateway serves, in the shape of a gateway's own list."""
    entries = []
    for model in catalog.models:
        if not model.served or (allowed is not None and model.id not in allowed):
            continue
        prices = {size: price for size in model.sizes if (price := model.price(size)) is not None}
        entries.append(
            {
                "id": model.id,
                "object": "model",
                "owned_by": model.provider,
                "categories": ["image"],
                "sizes": list(model.sizes),
                "qualities": list(model.qualities),
                "supports_editing": model.edits,
                "pricing": {
                    "per_image": usd(prices.get(model.sizes[0])),
                    "by_size": {size: usd(price) for size, price in prices.items()},
                },
            }
        )
    return {"object": "list", "data": entries}
