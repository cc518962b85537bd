"""Sums over the class for the teacher's page and the report: money by person and day, and orders with their charges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blockrun_magic.database.engine import Database, Row, placeholders

__all__ = ["Activity", "Amounts", "Booked", "OrderRow", "Overview"]

_OPEN = "state NOT IN ('settled', 'released')"
_MONEY = f"""
    coalesce(sum(CASE WHEN state = 'settled' THEN amount END), 0) AS spent,
    coalesce(sum(CASE WHEN {_OPEN} THEN amount END), 0) AS at_risk"""
_CHARGES = """(SELECT coalesce(sum(authorizations.amount), 0) FROM purchases
    JOIN authorizations ON authorizations.purchase_id = purchases.id
    WHERE orders.pays = 1 AND purchases.owner = 'member:' || orders.member_id AND purchases.realm = orders.realm
    AND purchases.digest = orders.digest AND purchases.take = orders.take AND authorizations.{})"""
_ORDERS = f"""SELECT orders.*, {_CHARGES.format("state = 'settled'")} AS charged,
    {_CHARGES.format(_OPEN)} AS at_risk FROM orders"""
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
class Booked:
    """One payment in time."""

    at: float
    amount: int
    settled: bool


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

    def __init__(self, database: Database, realm: str) -> None:
        self._database = database
        self._realm = realm

    def amounts(self, since: float = 0.0) -> dict[int, Amounts]:
        """Return what each person has spent since a moment, and has at risk."""
        query = f"""SELECT owner, {_MONEY} FROM authorizations
            WHERE realm = ? AND owner LIKE 'member:%' AND (updated_at >= ? OR {_OPEN}) GROUP BY owner"""
        with self._database.reading() as connection:
            rows = connection.execute(query, (self._realm, since)).fetchall()
        return {int(row["owner"].partition(":")[2]): Amounts(int(row["spent"]), int(row["at_risk"])) for row in rows}

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

    def booked(self, since: float, member_id: int | None = None) -> list[Booked]:
        """Return the payments since a moment, of everybody or of one person."""
        mine = "owner LIKE 'member:%'" if member_id is None else "owner = ?"
        values = [self._realm, since, *([] if member_id is None else [f"member:{member_id}"])]
        query = f"""SELECT updated_at, amount, state FROM authorizations
            WHERE realm = ? AND updated_at >= ? AND state <> 'released' AND {mine}"""
        with self._database.reading() as connection:
            rows = connection.execute(query, values).fetchall()
        return [Booked(row["updated_at"], int(row["amount"]), row["state"] == "settled") for row in rows]

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
            rows = connection.execute(f"{_ORDERS} {condition}", tuple(values)).fetchall()
            images: dict[int, list[str]] = {}
            ids = [row["id"] for row in rows]
            if ids:
                query = f"""SELECT order_id, file FROM order_images WHERE order_id IN ({placeholders(ids)})
                    ORDER BY order_id, position"""
                for row in connection.execute(query, ids):
                    images.setdefault(row["order_id"], []).append(row["file"])
        return [_order(row, images.get(row["id"], [])) for row in rows]


def _order(row: Row, images: list[str]) -> OrderRow:
    return OrderRow(
        *(row["id"], row["member_id"], row["state"], row["created_at"], row["finished_at"]),
        json.loads(row["request"]) if row["request"] else None,
        json.loads(row["error"]) if row["error"] else None,
        *(int(row["charged"]), int(row["at_risk"])),
        tuple(images),
    )
