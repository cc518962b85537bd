"""Queries of orders, and their erasure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from blockrun_magic.classroom.storage.order_records import Order, OrderImage, image_of_row, order_of_row
from blockrun_magic.database.engine import Database, placeholders

__all__ = ["OPEN_SQL", "OrderQueries"]

OPEN_SQL = "state IN ('queued', 'working', 'unknown')"
"""The condition of the index of open orders."""
_MADE = "body_hash <> ''"
"""Not a mark of a key that was cancelled before its order came."""


class OrderQueries:
    """The orders of one database, for reading."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, member_id: int, key: str) -> Order | None:
        """Return the order of this person with this key, or None."""
        return next(iter(self._select("WHERE member_id = ? AND key = ?", (member_id, key))), None)

    def by_id(self, order_id: int) -> Order | None:
        """Return the order with this id, or None."""
        return next(iter(self._select("WHERE id = ?", (order_id,))), None)

    def marks(self, member_id: int, seconds: float) -> int:
        """Return the number of unknown keys that a person has cancelled within the last `seconds`."""
        query = "SELECT count(*) FROM orders WHERE member_id = ? AND body_hash = '' AND created_at > ?"
        with self._database.reading() as connection:
            return int(connection.execute(query, (member_id, self._database.now() - seconds)).fetchone()[0])

    def unfinished(self) -> list[Order]:
        """Return the open orders, oldest first."""
        return self._select(f"WHERE {OPEN_SQL} ORDER BY created_at", ())

    def images(self, order_id: int) -> list[OrderImage]:
        """Return the images of an order, in the gateway's order."""
        query = "SELECT * FROM order_images WHERE order_id = ? ORDER BY position"
        with self._database.reading() as connection:
            return [image_of_row(row) for row in connection.execute(query, (order_id,))]

    def image_of(self, member_id: int, file: str) -> OrderImage | None:
        """Return an image of a person's own orders, or of a teacher's, by the SHA-256 of its file, or None."""
        query = """
            SELECT order_images.* FROM order_images JOIN orders ON orders.id = order_id
            JOIN members ON members.id = member_id
            WHERE file = ? AND (member_id = ? OR role = 'teacher') LIMIT 1"""
        with self._database.reading() as connection:
            row = connection.execute(query, (file, member_id)).fetchone()
        return None if row is None else image_of_row(row)

    def shared(self, realm: str, digest: str, take: int) -> Order | None:
        """Return an order of a teacher that has the images of this request, or None."""
        condition = """WHERE realm = ? AND digest = ? AND take = ? AND state = 'done' AND request IS NOT NULL
            AND member_id IN (SELECT id FROM members WHERE role = 'teacher') ORDER BY id LIMIT 1"""
        return next(iter(self._select(condition, (realm, digest, take))), None)

    def listed(self, member_id: int | None = None, limit: int = 200, offset: int = 0) -> list[Order]:
        """Return orders, newest first, of everyone or of one person."""
        mine = "" if member_id is None else " AND member_id = ?"
        values = [] if member_id is None else [member_id]
        condition = f"WHERE body_hash <> ''{mine} ORDER BY id DESC LIMIT ? OFFSET ?"
        return self._select(condition, [*values, limit, offset])

    def open_for(self, member_id: int) -> list[Order]:
        """Return the orders for a kernel that has lost its disk: in progress, or with unsent images."""
        condition = f"""WHERE member_id = ? AND ({OPEN_SQL} OR (state = 'done' AND delivered_at IS NULL))
            ORDER BY id"""
        return self._select(condition, (member_id,))

    def counts(self, realm: str) -> dict[int, tuple[int, int, float | None]]:
        """Return the finished orders, their images and the time of the last order of each person."""
        query = """
            SELECT member_id, count(*) FILTER (WHERE state = 'done') AS done, max(created_at) AS last,
                coalesce(sum((SELECT count(*) FROM order_images WHERE order_id = orders.id)), 0) AS images
            FROM orders WHERE realm = ? AND body_hash <> '' GROUP BY member_id"""
        with self._database.reading() as connection:
            rows = connection.execute(query, (realm,)).fetchall()
        return {row["member_id"]: (int(row["done"]), int(row["images"]), row["last"]) for row in rows}

    # -- the whole class

    def activity(self, realm: str) -> dict[int, tuple[int, int, float | None]]:
        """Return each person's number of orders and images in all states, and the time of the last order."""
        orders = f"""SELECT member_id, count(*) AS orders, max(created_at) AS last_at FROM orders
            WHERE realm = ? AND {_MADE} GROUP BY member_id"""
        images = """SELECT member_id, count(*) AS images FROM orders JOIN order_images ON order_id = orders.id
            WHERE realm = ? GROUP BY member_id"""
        with self._database.reading() as connection:
            rows = connection.execute(images, (realm,)).fetchall()
            made = {row["member_id"]: int(row["images"]) for row in rows}
            rows = connection.execute(orders, (realm,)).fetchall()
        return {row["member_id"]: (int(row["orders"]), made.get(row["member_id"], 0), row["last_at"]) for row in rows}

    def states(self, realm: str) -> dict[str, int]:
        """Return how many orders are in each state."""
        query = f"SELECT state, count(*) AS orders FROM orders WHERE realm = ? AND {_MADE} GROUP BY state"
        with self._database.reading() as connection:
            rows = connection.execute(query, (realm,)).fetchall()
        return {row["state"]: int(row["orders"]) for row in rows}

    def images_since(self, realm: str, since: float) -> int:
        """Return how many images were made since a moment."""
        query = """SELECT count(*) FROM orders JOIN order_images ON order_id = orders.id
            WHERE realm = ? AND finished_at >= ?"""
        with self._database.reading() as connection:
            return int(connection.execute(query, (realm, since)).fetchone()[0])

    def search(
        self,
        realm: str,
        *,
        member_id: int | None = None,
        state: str = "",
        with_images: bool = False,
        limit: int,
        offset: int = 0,
    ) -> list[Order]:
        """Return orders of a realm, newest first: of one person, in one state, or those with images."""
        conditions = [f"realm = ? AND {_MADE}"]
        values: list[object] = [realm]
        if member_id is not None:
            conditions.append("member_id = ?")
            values.append(member_id)
        if state:
            conditions.append("state = ?")
            values.append(state)
        if with_images:
            conditions.append("id IN (SELECT order_id FROM order_images) AND request IS NOT NULL")
        condition = f"WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ? OFFSET ?"
        return self._select(condition, (*values, limit, offset))

    def after(self, realm: str, order_id: int, limit: int) -> list[Order]:
        """Return the orders that follow one, oldest first."""
        condition = f"WHERE realm = ? AND {_MADE} AND id > ? ORDER BY id LIMIT ?"
        return self._select(condition, (realm, order_id, limit))

    def files(self, orders: Sequence[Order]) -> dict[int, tuple[str, ...]]:
        """Return the SHA-256 of each image's file by order, in the gateway's order."""
        files: dict[int, tuple[str, ...]] = {}
        if not orders:
            return files
        query = f"""SELECT order_id, file FROM order_images WHERE order_id IN ({placeholders(orders)})
            ORDER BY order_id, position"""
        with self._database.reading() as connection:
            for row in connection.execute(query, [order.id for order in orders]):
                files[row["order_id"]] = (*files.get(row["order_id"], ()), row["file"])
        return files

    def media_type(self, realm: str, file: str) -> str | None:
        """Return the media type of an image of the class, or None if there is no such image."""
        query = """SELECT media_type FROM order_images JOIN orders ON orders.id = order_id
            WHERE file = ? AND realm = ? LIMIT 1"""
        with self._database.reading() as connection:
            row = connection.execute(query, (file, realm)).fetchone()
        return None if row is None else str(row["media_type"])

    # -- erasing

    def with_content(self, *, member_id: int | None = None, before: float | None = None) -> list[Order]:
        """Return the orders with a request: a person's, or those older than `before` and of forgotten people."""
        if member_id is not None:
            return self._select("WHERE request IS NOT NULL AND member_id = ? ORDER BY id", (member_id,))
        condition = """WHERE request IS NOT NULL AND (created_at < ? OR member_id IN (
            SELECT id FROM members WHERE forgotten_at IS NOT NULL)) ORDER BY id"""
        return self._select(condition, (before,))

    def shares_purchase(self, order: Order) -> bool:
        """Return whether another order with content has the purchase of `order`."""
        query = "SELECT 1 FROM orders WHERE purchase_id = ? AND id <> ? AND request IS NOT NULL LIMIT 1"
        with self._database.reading() as connection:
            return connection.execute(query, (order.purchase_id, order.id)).fetchone() is not None

    def erase(self, order_id: int) -> list[tuple[str, str]]:
        """Erase the request and the images of an order; return the SHA-256 and the media type of each file."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT request FROM orders WHERE id = ?", (order_id,)).fetchone()
            record = json.loads(row["request"] or "{}")
            files = [(upload["file"], upload["media_type"]) for upload in record.get("uploads", ())]
            images = connection.execute("SELECT file, media_type FROM order_images WHERE order_id = ?", (order_id,))
            files += [(image["file"], image["media_type"]) for image in images.fetchall()]
            connection.execute("DELETE FROM order_images WHERE order_id = ?", (order_id,))
            connection.execute(
                """UPDATE orders SET request = NULL, error = NULL, student_digest = NULL,
                    digest = ?, body_hash = ? WHERE id = ?""",
                (f"erased:{order_id}", f"erased:{order_id}", order_id),
            )
        return files

    def is_file_used(self, file: str) -> bool:
        """Return whether an order has the file with this SHA-256 (hex), as an image or as a source."""
        query = """
            SELECT 1 FROM order_images WHERE file = ?1
            UNION ALL SELECT 1 FROM orders WHERE request IS NOT NULL AND instr(request, ?1) > 0 LIMIT 1"""
        with self._database.reading() as connection:
            return connection.execute(query, (file,)).fetchone() is not None

    def _select(self, condition: str, values: Sequence[object]) -> list[Order]:
        with self._database.reading() as connection:
            return [
                order_of_row(row) for row in connection.execute(f"SELECT * FROM orders {condition}", values).fetchall()
            ]
