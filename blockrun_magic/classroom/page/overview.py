"""Sums over the class for the teacher's page and the report: money by person and day, and orders with their charges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blockrun_magic.classroom.storage.records import Records
from blockrun_magic.database.engine import Row, placeholders
from blockrun_magic.payments.ledger.reports import (
    OwnedPayment,
    payments_of_owners,
    spending_by_owner,
    spending_by_request,
)

__all__ = ["Activity", "Amounts", "OrderRow", "Overview"]

_MEMBER = "member:"
_MADE = "body_hash <> ''"
"""Not a mark of a key that was cancelled before its order came."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Sums that are spent and at risk, in micro-USDC."""

    spent: int = 0
    at_risk: int = 0


@dataclass(frozen=True, slots=True)
class Activity:
    """Counts of what a person has ordered; `last_at` is in Unix seconds."""

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
    """Reads of the whole class; it writes nothing."""

    def __init__(self, records: Records) -> None:
        self._database, self._ledger, self._realm = records.database, records.ledger, records.realm

    def amounts(self, since: float = 0.0) -> dict[int, Amounts]:
        """Return what each person has spent since a moment, and has at risk."""
        spending = spending_by_owner(self._ledger, self._realm, since)
        return {
            int(owner.removeprefix(_MEMBER)): Amounts(spent.settled, spent.at_risk)
            for owner, spent in spending.items()
            if owner.startswith(_MEMBER)
        }

    def activity(self) -> dict[int, Activity]:
        """Return how much each person has ordered."""
        orders = f"""SELECT member_id, count(*) AS orders, max(created_at) AS last_at FROM orders
            WHERE realm = ? AND {_MADE} GROUP BY member_id"""
        images = """SELECT member_id, count(*) AS images FROM orders JOIN order_images ON order_id = orders.id
            WHERE realm = ? GROUP BY member_id"""
        with self._database.reading() as connection:
            made = {
                row["member_id"]: int(row["images"]) for row in connection.execute(images, (self._realm,)).fetchall()
            }
            rows = connection.execute(orders, (self._realm,)).fetchall()
        return {
            row["member_id"]: Activity(int(row["orders"]), made.get(row["member_id"], 0), row["last_at"])
            for row in rows
        }

    def images_since(self, since: float) -> int:
        """Return how many images were made since a moment."""
        query = """SELECT count(*) FROM orders JOIN order_images ON order_id = orders.id
            WHERE realm = ? AND finished_at >= ?"""
        with self._database.reading() as connection:
            return int(connection.execute(query, (self._realm, since)).fetchone()[0])

    def payments(self, since: float, member_id: int | None = None) -> list[OwnedPayment]:
        """Return the payments since a moment, of everybody or of one person."""
        owner = None if member_id is None else f"{_MEMBER}{member_id}"
        return payments_of_owners(self._ledger, self._realm, since, owner)

    def states(self) -> dict[str, int]:
        """Return how many orders are in each state."""
        query = f"SELECT state, count(*) AS orders FROM orders WHERE realm = ? AND {_MADE} GROUP BY state"
        with self._database.reading() as connection:
            rows = connection.execute(query, (self._realm,)).fetchall()
        return {row["state"]: int(row["orders"]) for row in rows}

    def waiting(self) -> list[OrderRow]:
        """Return the orders that have not ended, oldest first."""
        return self._orders("WHERE state IN ('queued', 'working', 'unknown') ORDER BY created_at", ())

    def orders(
        self, *, member_id: int | None = None, state: str = "", with_images: bool = False, limit: int, offset: int = 0
    ) -> list[OrderRow]:
        """Return orders, newest first."""
        conditions = [f"realm = ? AND {_MADE}"]
        values: list[object] = [self._realm]
        if member_id is not None:
            conditions.append("member_id = ?")
            values.append(member_id)
        if state:
            conditions.append("state = ?")
            values.append(state)
        if with_images:
            conditions.append("id IN (SELECT order_id FROM order_images) AND request IS NOT NULL")
        return self._orders(
            f"WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ? OFFSET ?", (*values, limit, offset)
        )

    def every_order(self, size: int = 500) -> Iterator[OrderRow]:
        """Yield all orders, oldest first, a few hundred at a time."""
        last = 0
        while rows := self._orders(
            f"WHERE realm = ? AND {_MADE} AND id > ? ORDER BY id LIMIT ?", (self._realm, last, size)
        ):
            yield from rows
            last = rows[-1].id

    def media_type(self, file: str) -> str | None:
        """Return the media type of an image of the class, or None where there is no such image."""
        query = """SELECT media_type FROM order_images JOIN orders ON orders.id = order_id
            WHERE file = ? AND realm = ? LIMIT 1"""
        with self._database.reading() as connection:
            row = connection.execute(query, (file, self._realm)).fetchone()
        return None if row is None else str(row["media_type"])

    def _orders(self, condition: str, values: Iterable[object]) -> list[OrderRow]:
        with self._database.reading() as connection:
            rows = connection.execute(f"SELECT * FROM orders {condition}", tuple(values)).fetchall()
            images: dict[int, list[str]] = {}
            ids = [row["id"] for row in rows]
            if ids:
                query = f"""SELECT order_id, file FROM order_images WHERE order_id IN ({placeholders(ids)})
                    ORDER BY order_id, position"""
                for row in connection.execute(query, ids):
                    images.setdefault(row["order_id"], []).append(row["file"])
        charges = self._charges(rows)
        return [_order(row, images.get(row["id"], []), charges.get(row["id"], (0, 0))) for row in rows]

    def _charges(self, rows: list[Row]) -> dict[int, tuple[int, int]]:
        """Return by order what it has cost and what is at risk: nothing for one that another order pays."""
        digests: dict[str, dict[str, None]] = {}
        for row in rows:
            digests.setdefault(row["realm"], {})[row["digest"]] = None
        spent = {realm: spending_by_request(self._ledger, realm, [*asked]) for realm, asked in digests.items()}
        return {
            row["id"]: spent[row["realm"]].get((f"{_MEMBER}{row['member_id']}", row["digest"], row["take"]), (0, 0))
            for row in rows
            if row["pays"] == 1
        }


def _order(row: Row, images: list[str], charge: tuple[int, int]) -> OrderRow:
    return OrderRow(
        *(row["id"], row["member_id"], row["state"], row["created_at"], row["finished_at"]),
        json.loads(row["request"]) if row["request"] else None,
        json.loads(row["error"]) if row["error"] else None,
        *charge,
        tuple(images),
    )
