"""Values of the orders' tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from blockrun_magic.database.engine import Row
from blockrun_magic.gateway.classroom.protocol import OrderState

__all__ = [
    "FINAL",
    "OPEN",
    "NewOrder",
    "Order",
    "OrderImage",
    "OrderState",
    "Revoked",
    "TooMany",
    "image_of_row",
    "order_of_row",
]


OPEN = (OrderState.QUEUED, OrderState.WORKING, OrderState.UNKNOWN)
FINAL = (OrderState.DONE, OrderState.REFUSED, OrderState.FAILED, OrderState.CANCELLED)


class TooMany(Exception):
    """A person has used up their rate: `seconds` until the next order, or None while other orders of theirs run."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        super().__init__()


class Revoked(Exception):
    """A person's access was revoked."""


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An accepted order; `request` is the record of the request, with its uploads in the store."""

    key: str
    body_hash: str
    request: Mapping[str, Any]
    digest: str
    student_digest: str | None
    realm: str
    take: int
    max_price_micros: int | None


@dataclass(frozen=True, slots=True)
class Order:
    """One order; `request` is None once it is erased, times are Unix seconds.

    `pays` marks the only order of a purchase that has its payments; the others cost nothing.
    """

    id: int
    member_id: int
    key: str
    state: OrderState
    created_at: float
    updated_at: float
    body_hash: str
    request: Mapping[str, Any] | None
    digest: str
    student_digest: str | None
    realm: str
    take: int
    max_price_micros: int | None
    price_micros: int | None
    worker: str | None
    pays: bool
    purchase_id: str | None
    cancel_asked: bool
    tries: int
    next_try_at: float | None
    error: Mapping[str, Any] | None
    finished_at: float | None
    delivered_at: float | None
    images: tuple[OrderImage, ...] | None = None
    """Its images, if they are in memory, as after its end."""

    @property
    def is_erased(self) -> bool:
        """Whether its request and its images were erased."""
        return self.body_hash.startswith("erased:")

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class OrderImage:
    """One image of an order: the SHA-256 (hex) of its file, and its size in pixels."""

    file: str
    media_type: str
    width: int
    height: int
    revised_prompt: str | None = None


_COLUMNS = tuple(column.name for column in fields(Order) if column.name != "images")


def order_of_row(row: Row) -> Order:
    """Return the order in a row of `orders`."""
    values = {name: row[name] for name in _COLUMNS}
    values["state"] = OrderState(values["state"])
    values["request"] = json.loads(values["request"]) if values["request"] else None
    values["error"] = json.loads(values["error"]) if values["error"] else None
    return Order(**values | {name: bool(values[name]) for name in ("pays", "cancel_asked")})


def image_of_row(row: Row) -> OrderImage:
    """Return the image in a row of `order_images`."""
    names = ("file", "media_type", "width", "height", "revised_prompt")
    return OrderImage(*(row[name] for name in names))
