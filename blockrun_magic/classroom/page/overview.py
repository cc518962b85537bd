"""Sums over the class for the teacher's page and the report: money by person and day, and orders with their charges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blockrun_magic.classroom.storage.order_records import Order
from blockrun_magic.classroom.storage.records import Records
from blockrun_magic.payments.ledger.reports import (
    OwnedPayment,
    payments_of_owners,
    spending_by_owner,
    spending_by_request,
)

__all__ = ["Activity", "Amounts", "OrderRow", "Overview"]

_MEMBER = "member:"


@dataclass(frozen=True, slots=True)
class Amounts:
    """Sums spent and at risk, in micro-USDC."""

    spent: int = 0
    at_risk: int = 0


@dataclass(frozen=True, slots=True)
class Activity:
    """A person's counts of orders and images; `last_at` is in Unix seconds."""

    orders: int = 0
    images: int = 0
    last_at: float | None = None


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order as the page and the report show it; `request` is None once it is deleted."""

    id: int
    member_id: int
    state: str
    created_at: float
    finished_at: float | None
    request: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    charged: int
    at_risk: int
    images: tuple[str, ...]


class Overview:
    """Queries of the whole class; it writes nothing."""

    def __init__(self, records: Records) -> None:
        self._queries, self._ledger, self._realm = records.orders, records.ledger, records.realm

    def amounts(self, since: float = 0.0) -> dict[int, Amounts]:
        """Return each person's spend since a moment, and their money at risk."""
        spending = spending_by_owner(self._ledger, self._realm, since)
        return {
            int(owner.removeprefix(_MEMBER)): Amounts(spent.settled, spent.at_risk)
            for owner, spent in spending.items()
            if owner.startswith(_MEMBER)
        }

    def activity(self) -> dict[int, Activity]:
        """Return each person's number of orders."""
        return {member: Activity(*counts) for member, counts in self._queries.activity(self._realm).items()}

    def images_since(self, since: float) -> int:
        """Return the number of images made since a moment."""
        return self._queries.images_since(self._realm, since)

    def payments(self, since: float, member_id: int | None = None) -> list[OwnedPayment]:
        """Return the payments since a moment, of everyone or of one person."""
        owner = None if member_id is None else f"{_MEMBER}{member_id}"
        return payments_of_owners(self._ledger, self._realm, since, owner)

    def states(self) -> dict[str, int]:
        """Return the number of orders in each state."""
        return self._queries.states(self._realm)

    def waiting(self) -> list[OrderRow]:
        """Return the orders that have not ended, oldest first."""
        return self._rows(self._queries.unfinished())

    def orders(
        self, *, member_id: int | None = None, state: str = "", with_images: bool = False, limit: int, offset: int = 0
    ) -> list[OrderRow]:
        """Return orders, newest first."""
        wanted: dict[str, Any] = {"member_id": member_id, "state": state, "with_images": with_images}
        return self._rows(self._queries.search(self._realm, **wanted, limit=limit, offset=offset))

    def every_order(self, size: int = 500) -> Iterator[OrderRow]:
        """Yield all orders, oldest first, a few hundred at a time."""
        last = 0
        while rows := self._rows(self._queries.after(self._realm, last, size)):
            yield from rows
            last = rows[-1].id

    def media_type(self, file: str) -> str | None:
        """Return the media type of an image of the class, or None if there is no such image."""
        return self._queries.media_type(self._realm, file)

    def _rows(self, orders: list[Order]) -> list[OrderRow]:
        files, charges = self._queries.files(orders), self._charges(orders)
        return [
            OrderRow(
                *(order.id, order.member_id, order.state, order.created_at, order.finished_at),
                *(order.request, order.error),
                *charges.get(order.id, (0, 0)),
                files.get(order.id, ()),
            )
            for order in orders
        ]

    def _charges(self, orders: list[Order]) -> dict[int, tuple[int, int]]:
        """Return the cost and the money at risk by order: zero for an order that another one pays."""
        digests: dict[str, dict[str, None]] = {}
        for order in orders:
            digests.setdefault(order.realm, {})[order.digest] = None
        spent = {realm: spending_by_request(self._ledger, realm, [*asked]) for realm, asked in digests.items()}
        return {
            order.id: spent[order.realm].get((f"{_MEMBER}{order.member_id}", order.digest, order.take), (0, 0))
            for order in orders
            if order.pays
        }
