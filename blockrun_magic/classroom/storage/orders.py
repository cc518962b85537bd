"""Orders as rows, written before their work starts, with everything that another process needs to take them over."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blockrun_magic.classroom.storage.order_queries import OPEN_SQL, OrderQueries
from blockrun_magic.classroom.storage.order_records import (
    NewOrder,
    Order,
    OrderImage,
    OrderState,
    Revoked,
    TooMany,
    order_of_row,
)
from blockrun_magic.database.engine import Connection, NotUnique

__all__ = ["OrderRows"]

_ALONE = """NOT EXISTS (
    SELECT 1 FROM orders AS other WHERE other.member_id = orders.member_id AND other.realm = orders.realm
    AND other.digest = orders.digest AND other.take = orders.take AND other.pays = 1 AND other.id <> orders.id)"""

_ACCEPT = """
    INSERT INTO orders (member_id, key, state, created_at, updated_at, body_hash, request, digest, student_digest,
        realm, take, max_price_micros, worker, tries, pays)
    SELECT :member_id, :key, CASE WHEN :begun = 1 THEN 'working' ELSE 'queued' END, :now, :now, :body_hash, :request,
        :digest, :student_digest, :realm, :take, :max_price, :worker, :begun, CASE WHEN :begun = 1 AND NOT EXISTS (
            SELECT 1 FROM orders WHERE member_id = :member_id AND realm = :realm AND digest = :digest AND take = :take
            AND pays = 1) THEN 1 ELSE 0 END
    WHERE (SELECT count(*) FROM orders WHERE member_id = :member_id AND state IN ('queued', 'working')) < :at_a_time
    RETURNING *"""
_ADDED = "tokens + CASE WHEN :now > tokens_at THEN (:now - tokens_at) * :rate / 60 ELSE 0 END"
_TOKENS = f"CASE WHEN tokens IS NULL OR {_ADDED} > :rate THEN :rate ELSE {_ADDED} END"
"""The tokens in a person's bucket, which refills at their rate per minute, up to that number."""
_TAKE_TOKEN = f"""
    UPDATE members SET tokens = {_TOKENS} - 1, tokens_at = :now
    WHERE id = :id AND revoked_at IS NULL AND {_TOKENS} >= 1 RETURNING id"""


class OrderRows(OrderQueries):
    """The orders of one database."""

    def accept(
        self,
        member_id: int,
        new: NewOrder,
        worker: str,
        *,
        rate: int,
        at_a_time: int,
        again: bool = False,
        begun: bool = False,
    ) -> Order:
        """Return a new order of `worker`: one transaction counts it against the person's rate and writes it.

        `again`: the key may be that of a refused order, which it replaces. `begun`: the work has started.
        Raises TooMany or Revoked, and then nothing is written; NotUnique if a request with the same key or for the same
        purchase was faster.
        """
        now = self._database.now()
        with self._database.transaction() as connection:
            self._take_token(connection, member_id, rate, now)
            if again:
                connection.execute(
                    "DELETE FROM orders WHERE member_id = ? AND key = ? AND state = 'refused'", (member_id, new.key)
                )
            values = {"member_id": member_id, "now": now, "worker": worker, "at_a_time": at_a_time, "begun": int(begun)}
            row = connection.execute(_ACCEPT, values | _values_of(new)).fetchone()
            if row is None:
                raise TooMany(None)
            return order_of_row(row)

    def _take_token(self, connection: Connection, member_id: int, rate: int, now: float) -> None:
        """Take a token from a person's bucket, and lock its row; raises TooMany or Revoked."""
        values = {"id": member_id, "rate": float(rate), "now": now}
        if connection.execute(_TAKE_TOKEN, values).fetchone() is not None:
            return
        query = f"SELECT revoked_at, {_TOKENS} AS tokens_now FROM members WHERE id = :id"
        row = connection.execute(query, values).fetchone()
        if row is None or row["revoked_at"] is not None:
            raise Revoked
        raise TooMany((1 - row["tokens_now"]) * 60 / max(rate, 1))

    def mark_cancelled(self, member_id: int, key: str, realm: str) -> bool:
        """Mark an unknown key as cancelled, so that a late order with it is refused; return False if it is known."""
        now = self._database.now()
        try:
            with self._database.transaction() as connection:
                connection.execute(
                    """INSERT INTO orders (member_id, key, state, created_at, updated_at, body_hash, digest, realm,
                        take, finished_at) VALUES (?, ?, 'cancelled', ?, ?, '', '', ?, 1, ?)""",
                    (member_id, key, now, now, realm, now),
                )
        except NotUnique:
            return False
        return True

    def begin(self, order_id: int, worker: str) -> Order | None:
        """Return the started order, or None if it was cancelled or belongs to another worker now.

        The first order of a purchase pays for it.
        """
        try:
            return self._begin(order_id, worker, _ALONE)
        except NotUnique:  # another order of the same purchase was faster
            return self._begin(order_id, worker, "0 = 1")

    def _begin(self, order_id: int, worker: str, alone: str) -> Order | None:
        with self._database.transaction(durable=False) as connection:
            row = connection.execute(
                f"""UPDATE orders SET state = 'working', updated_at = ?, tries = tries + 1,
                    pays = CASE WHEN pays = 1 OR {alone} THEN 1 ELSE 0 END
                WHERE id = ? AND worker = ? AND cancel_asked = 0 AND {OPEN_SQL} RETURNING *""",
                (self._database.now(), order_id, worker),
            ).fetchone()
        return None if row is None else order_of_row(row)

    def finish(
        self,
        order_id: int,
        state: OrderState,
        *,
        images: Sequence[OrderImage] = (),
        error: Mapping[str, Any] | None = None,
        purchase_id: str | None = None,
        price: int | None = None,
        pays: bool | None = None,
    ) -> Order | None:
        """End an open order, and return it; None when it has ended already.

        `pays`: this order pays for its purchase, unless another one does.
        """
        try:
            return self._finish(order_id, state, images, error, purchase_id, price, pays, _ALONE)
        except NotUnique:
            return self._finish(order_id, state, images, error, purchase_id, price, pays, "0 = 1")

    def _finish(
        self,
        order_id: int,
        state: OrderState,
        images: Sequence[OrderImage],
        error: Mapping[str, Any] | None,
        purchase_id: str | None,
        price: int | None,
        pays: bool | None,
        alone: str,
    ) -> Order | None:
        now = self._database.now()
        paying = "pays" if pays is None else f"CASE WHEN pays = 1 OR {alone} THEN 1 ELSE 0 END" if pays else "0"
        with self._database.transaction() as connection:
            row = connection.execute(
                f"""UPDATE orders SET state = ?, updated_at = ?, finished_at = ?, error = ?, worker = NULL,
                    purchase_id = coalesce(?, purchase_id), price_micros = coalesce(?, price_micros), pays = {paying}
                WHERE id = ? AND {OPEN_SQL} RETURNING *""",
                (state, now, now, json.dumps(error) if error else None, purchase_id, price, order_id),
            ).fetchone()
            if row is None:
                return None
            for position, image in enumerate(images):
                connection.execute(
                    """INSERT INTO order_images (order_id, position, file, media_type, width, height, revised_prompt)
                    VALUES (?, ?, ?, ?, ?, ?, ?)""",
                    (
                        *(order_id, position, image.file, image.media_type),
                        *(image.width, image.height, image.revised_prompt),
                    ),
                )
        return replace(order_of_row(row), images=tuple(images))

    def postpone(
        self, order_id: int, error: Mapping[str, Any], seconds: float, purchase_id: str | None, price: int | None
    ) -> None:
        """Record that the outcome of an order is unknown, and the time of the next try."""
        now = self._database.now()
        with self._database.transaction() as connection:
            connection.execute(
                f"""UPDATE orders SET state = 'unknown', deferred = 1, updated_at = ?, error = ?, next_try_at = ?,
                    purchase_id = coalesce(?, purchase_id), price_micros = coalesce(?, price_micros)
                WHERE id = ? AND {OPEN_SQL}""",
                (now, json.dumps(error), now + seconds, purchase_id, price, order_id),
            )

    def discard(self, order_id: int) -> bool:
        """Remove a refused order that no caller has seen; return False if one has."""
        with self._database.transaction() as connection:
            gone = connection.execute(f"DELETE FROM orders WHERE id = ? AND deferred = 0 AND {OPEN_SQL}", (order_id,))
            return gone.rowcount == 1

    def defer(self, order_id: int) -> bool:
        """Record that a caller has seen the order in progress; return False if it no longer exists."""
        with self._database.transaction(durable=False) as connection:
            return connection.execute("UPDATE orders SET deferred = 1 WHERE id = ?", (order_id,)).rowcount == 1

    def mark_delivered(self, order_id: int) -> None:
        """Record that the images of an order were sent."""
        with self._database.transaction(durable=False) as connection:
            connection.execute(
                "UPDATE orders SET delivered_at = ? WHERE id = ? AND delivered_at IS NULL",
                (self._database.now(), order_id),
            )

    def ask_cancel(self, order_id: int) -> None:
        """Request that the process working on an order cancels it, if nothing is signed yet."""
        with self._database.transaction() as connection:
            connection.execute(f"UPDATE orders SET cancel_asked = 1 WHERE id = ? AND {OPEN_SQL}", (order_id,))

    def refuse_cancel(self, order_id: int) -> None:
        """Record that an order can no longer be cancelled: it continues."""
        with self._database.transaction() as connection:
            connection.execute(
                f"UPDATE orders SET cancel_asked = 0, worker = NULL WHERE id = ? AND {OPEN_SQL}", (order_id,)
            )

    def cancel_refused(self, order_id: int) -> None:
        """Cancel a refused order, so that it is not repeated."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE orders SET state = 'cancelled' WHERE id = ? AND state = 'refused'", (order_id,))

    # -- take-over

    def take(self, order: Order, worker: str) -> bool:
        """Assign the order to `worker`; return False if another process was faster."""
        with self._database.transaction(durable=False) as connection:
            taken = connection.execute(
                f"UPDATE orders SET worker = ? WHERE id = ? AND coalesce(worker, '') = ? AND {OPEN_SQL}",
                (worker, order.id, order.worker or ""),
            )
            return taken.rowcount == 1

    def give_back(self, worker: str) -> int:
        """Release the open orders of a worker that ends; return their number."""
        with self._database.transaction() as connection:
            given = connection.execute(f"UPDATE orders SET worker = NULL WHERE worker = ? AND {OPEN_SQL}", (worker,))
            return given.rowcount


def _values_of(new: NewOrder) -> dict[str, Any]:
    return {
        "key": new.key,
        "body_hash": new.body_hash,
        "request": json.dumps(new.request),
        "digest": new.digest,
        "student_digest": new.student_digest,
        "realm": new.realm,
        "take": new.take,
        "max_price": new.max_price_micros,
    }
