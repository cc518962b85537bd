"""Queries of the ledger: purchases, payments, images and settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from blockrun_magic.database.engine import Database, Row, placeholders
from blockrun_magic.database.opening import open_database
from blockrun_magic.errors import LedgerError
from blockrun_magic.payments.ledger.counters import session_lock
from blockrun_magic.payments.ledger.records import (
    ImageFilter,
    ListedImage,
    Payload,
    Payment,
    Purchase,
    StoredImage,
)
from blockrun_magic.payments.ledger.schema import migrate
from blockrun_magic.payments.ledger.states import AT_RISK, OPEN, State
from blockrun_magic.payments.ledger.years.search import HistorySearch, history_queries
from blockrun_magic.payments.realm import Realm

__all__ = ["LedgerReader"]

_COUNTED = (*AT_RISK, State.SETTLED)
_LISTED = """FROM purchases CROSS JOIN pictures
    WHERE purchase_id = purchases.id AND finished_at IS NOT NULL AND owner = :owner"""
"""In this order, so that the newest are found by the index on `finished_at`."""
_CONDITIONS = {
    "since": "created_at >= :since",
    "until": "created_at < :until",
    "practice": f"(realm = '{Realm.PRACTICE}') = :practice",
    "model": "json_extract(request, '$.model') = :model",
    "purchase": "purchases.id = :purchase",
    "file": "file = :file",
    "source": "instr(request, :source) > 0",
    "only": "purchases.id || ':' || position IN (SELECT value FROM json_each(:only))",
    "without": "purchases.id || ':' || position NOT IN (SELECT value FROM json_each(:without))",
    "words": (
        "instr(casefold(json_extract(request, '$.prompt') || ' ' || json_extract(request, '$.model')),"
        " casefold(:words)) > 0"
    ),
}


class LedgerReader:
    """The open ledger and its queries.

    `session` names the process, `clock` returns Unix seconds. Every method raises LedgerError when the file cannot be
    read.
    """

    def __init__(self, place: Path | Database, session: str, clock: Callable[[], float] | None = None) -> None:
        self.database = open_database(place) if isinstance(place, Path) else place
        self.path = self.database.path
        self.session = session
        self.clock = clock or self.database.now
        self.owner = ""
        self._closes = isinstance(place, Path)
        self._process: int | None = os.getpid()
        self._alive = self.database.lock(session_lock(session), shared=True)
        try:
            migrate(self.database)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the ledger, which is not used afterwards; a database that was passed in stays open.

        In a forked child, the parent's stays open; so does the ledger of which this one is an owner's part.
        """
        if self._process != os.getpid():
            return
        self._alive.release()
        if self._closes:
            self.database.close()

    def is_alive(self, session: str) -> bool:
        """Return whether another process that has this ledger open is `session`."""
        return session != self.session and self.database.is_locked(session_lock(session))

    def payment(self, payment_id: int) -> Payment:
        """Return the payment with this id; raises LedgerError when there is none."""
        payments = self._payments("SELECT * FROM authorizations WHERE id = ?", (payment_id,))
        if not payments:
            raise LedgerError(f"The ledger has no payment {payment_id}.", "Please report this with `%blockrun jobs`.")
        return payments[0]

    def purchase(self, realm: str, digest: str, take: int) -> Purchase | None:
        """Return the purchase of this request and take, or None if it was never started."""
        query = "SELECT * FROM purchases WHERE owner = ? AND realm = ? AND digest = ? AND take = ?"
        rows = self._read(query, (self.owner, realm, digest, take))
        return Purchase.from_row(rows[0]) if rows else None

    def purchase_by_id(self, prefix: str) -> Purchase | None:
        """Return the one purchase whose id starts with `prefix`, or None."""
        # A range, so that the index on ids is used.
        query = "SELECT * FROM purchases WHERE id >= ? AND id < ? AND owner = ? LIMIT 2"
        rows = self._read(query, (prefix, prefix + chr(0x10FFFF), self.owner))
        return Purchase.from_row(rows[0]) if len(rows) == 1 else None

    def takes(self, realm: str, digest: str) -> list[Purchase]:
        """Return every take of this request, oldest first."""
        query = "SELECT * FROM purchases WHERE owner = ? AND realm = ? AND digest = ? ORDER BY take"
        return [Purchase.from_row(row) for row in self._read(query, (self.owner, realm, digest))]

    def open_purchases(self) -> list[Purchase]:
        """Return the purchases that are paid or at risk and have no image yet, oldest first."""
        query = f"""
            SELECT * FROM purchases WHERE finished_at IS NULL AND EXISTS (
                SELECT 1 FROM authorizations WHERE purchase_id = purchases.id AND state IN ({placeholders(OPEN)})
            ) AND owner = ? ORDER BY created_at"""
        return [Purchase.from_row(row) for row in self._read(query, (*OPEN, self.owner))]

    def incomplete_purchases(self) -> list[Purchase]:
        """Return the delivered purchases that lack images, oldest first."""
        query = """
            SELECT * FROM purchases WHERE finished_at IS NOT NULL AND instr(answer, '"missing"') > 0 AND EXISTS (
                SELECT 1 FROM json_each(answer) WHERE CAST(json_extract(value, '$.missing') AS TEXT) IN ('1', 'true')
            ) AND owner = ? ORDER BY created_at"""
        return [Purchase.from_row(row) for row in self._read(query, (self.owner,))]

    def search_finished(self, search: HistorySearch, limit: int, offset: int = 0) -> list[Purchase]:
        """Return the finished purchases that match `search`, newest first."""
        rows: list[Row] = []
        for query, values in history_queries(search, self.owner, limit, offset):
            rows = self._read(query, values)
            if len(rows) == limit:
                break
        return [Purchase.from_row(row) for row in rows]

    def count_finished(self, realm: str, record: Mapping[str, Any]) -> int:
        """Return the number of finished purchases that match `record`, with any images."""
        names = ("endpoint", "model", "n", "prompt", "quality", "size")
        same = " AND ".join(f"coalesce(CAST(json_extract(request, '$.{name}') AS TEXT), '') = ?" for name in names)
        query = f"SELECT count(*) FROM purchases WHERE realm = ? AND finished_at IS NOT NULL AND owner = ? AND {same}"
        values = ("" if record[name] is None else str(record[name]) for name in names)
        return int(self._read(query, (realm, self.owner, *values))[0][0])

    def purchases_in_session(self, session: str, realm: str) -> list[Purchase]:
        """Return the finished purchases that `session` has paid for, newest first."""
        query = """
            SELECT DISTINCT purchases.* FROM purchases
            JOIN authorizations ON purchase_id = purchases.id
            WHERE authorizations.session = ? AND purchases.realm = ? AND finished_at IS NOT NULL
            AND purchases.owner = ? ORDER BY finished_at DESC"""
        return [Purchase.from_row(row) for row in self._read(query, (session, realm, self.owner))]

    def usual_seconds(self, model: str, size: str) -> float | None:
        """Return the median seconds of the last images of this kind, or None before there are three."""
        query = """
            SELECT seconds FROM purchases WHERE finished_at IS NOT NULL
            AND json_extract(request, '$.model') = ? AND json_extract(request, '$.size') = ?
            ORDER BY finished_at DESC LIMIT 21"""
        seconds = [row["seconds"] for row in self._read(query, (model, size))]
        return median(seconds) if len(seconds) > 2 else None

    def amount_paid(self, purchase_id: str) -> int:
        """Return the micro-USDC that a purchase cost: settled, or still at risk."""
        counted = (*AT_RISK, State.SETTLED)
        states = placeholders(counted)
        query = f"SELECT coalesce(sum(amount), 0) FROM authorizations WHERE purchase_id = ? AND state IN ({states})"
        return int(self._read(query, (purchase_id, *counted))[0][0])

    def images(self, purchase_id: str) -> list[StoredImage]:
        """Return the images of a purchase, in the gateway's order."""
        query = "SELECT * FROM pictures WHERE purchase_id = ? ORDER BY position"
        return [
            StoredImage(row["file"], row["media_type"], row["width"], row["height"], row["revised_prompt"])
            for row in self._read(query, (purchase_id,))
        ]

    def listed_images(self, images: ImageFilter, limit: int, offset: int = 0) -> list[ListedImage]:
        """Return the images of all sessions and gateways that `images` selects, newest first."""
        where, values = self._where(images)
        query = f"""
            SELECT purchases.*, file, media_type, width, height, revised_prompt, position, (
                SELECT coalesce(sum(amount), 0) FROM authorizations
                WHERE purchase_id = purchases.id AND state IN ({", ".join(f"'{state}'" for state in _COUNTED)})
            ) AS paid {_LISTED}{where}
            ORDER BY finished_at DESC, purchases.id, position LIMIT :limit OFFSET :offset"""
        rows = self._read(query, {**values, "limit": limit, "offset": offset})
        return [
            ListedImage(
                Purchase.from_row(row),
                StoredImage(row["file"], row["media_type"], row["width"], row["height"], row["revised_prompt"]),
                row["position"],
                row["paid"],
            )
            for row in rows
        ]

    def count_images(self, images: ImageFilter) -> int:
        """Return the number of images that `images` selects."""
        where, values = self._where(images)
        return int(self._read(f"SELECT count(*) {_LISTED}{where}", values)[0][0])

    def models_used(self) -> list[str]:
        """Return the id of every model that has made an image, in alphabetical order."""
        query = """
            SELECT DISTINCT json_extract(request, '$.model') FROM purchases
            WHERE finished_at IS NOT NULL AND owner = ? ORDER BY 1"""
        return [str(row[0]) for row in self._read(query, (self.owner,))]

    def recent_prompts(self, limit: int) -> list[str]:
        """Return the different prompts among the last `limit` finished purchases, the newest first."""
        query = """
            SELECT json_extract(request, '$.prompt') AS prompt FROM purchases
            WHERE finished_at IS NOT NULL AND owner = ? ORDER BY finished_at DESC LIMIT ?"""
        return list(dict.fromkeys(str(row["prompt"]) for row in self._read(query, (self.owner, limit))))

    def payments(self, purchase_id: str, *, signatures: bool = True) -> list[Payment]:
        """Return every authorization signed for a purchase, oldest first; `signatures`: with its payloads."""
        query = "SELECT * FROM authorizations WHERE purchase_id = ? ORDER BY id"
        return self._payments(query, (purchase_id,), signatures=signatures)

    def open_payment(self, purchase_id: str) -> Payment | None:
        """Return the newest payment of a purchase that was not released, or None."""
        return next((p for p in reversed(self.payments(purchase_id)) if p.state is not State.RELEASED), None)

    def open_payments(self, states: Sequence[State] = AT_RISK) -> list[Payment]:
        """Return every authorization whose sum is at risk, oldest first."""
        # The condition of the index of open payments: without it, SQLite does not use the index for a list of
        # placeholders.
        some_are_decided = {State.SETTLED, State.RELEASED} & {*states}
        open_ones = "" if some_are_decided else "state NOT IN ('settled', 'released') AND"
        query = f"""
            SELECT * FROM authorizations WHERE {open_ones} state IN ({placeholders(states)})
            AND owner = ? ORDER BY id"""
        return self._payments(query, (*states, self.owner))

    def payments_via(self, gateway: str, since: float) -> list[tuple[Payment, str, str]]:
        """Return the payments at `gateway` from `since` (Unix seconds) that were not released.

        Each comes with the model and the endpoint of its request.
        """
        query = """
            SELECT authorizations.*, json_extract(request, '$.model') AS model,
                json_extract(request, '$.endpoint') AS endpoint
            FROM authorizations JOIN purchases ON purchases.id = purchase_id
            WHERE authorizations.gateway = ? AND authorizations.created_at >= ? AND state <> ?
            AND authorizations.owner = ? ORDER BY authorizations.id"""
        rows = self._read(query, (gateway, since, State.RELEASED, self.owner))
        return [(Payment.from_row(row), row["model"], row["endpoint"]) for row in rows]

    def first_payment_via(self, gateway: str) -> float | None:
        """Return the time of the first payment at `gateway` (Unix seconds), or None without one."""
        query = "SELECT min(created_at) AS first FROM authorizations WHERE gateway = ?"
        first = self._read(query, (gateway,))[0]["first"]
        return None if first is None else float(first)

    def session_started_at(self) -> float | None:
        """Return the time of this session's first payment (Unix seconds), or None without one."""
        query = "SELECT min(created_at) AS first FROM authorizations WHERE session = ?"
        first = self._read(query, (self.session,))[0]["first"]
        return None if first is None else float(first)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a reading query, for the other modules of this folder."""
        return self._read(sql, parameters)

    def _payments(self, sql: str, parameters: Sequence[Any], *, signatures: bool = True) -> list[Payment]:
        rows = self._read(sql, parameters)
        payloads: dict[int, list[Payload]] = {row["id"]: [] for row in rows}
        if rows and signatures:
            query = f"SELECT * FROM payloads WHERE authorization_id IN ({placeholders(rows)}) ORDER BY id"
            for row in self._read(query, list(payloads)):
                payloads[row["authorization_id"]].append(Payload.from_row(row))
        return [Payment.from_row(row, payloads[row["id"]]) for row in rows]

    def _read(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[Row]:
        with self.database.reading() as connection:
            return connection.execute(sql, parameters).fetchall()

    def _where(self, images: ImageFilter) -> tuple[str, dict[str, Any]]:
        """Return the conditions of a filter as SQL, and their values."""
        values: dict[str, Any] = {name: getattr(images, name) for name in _CONDITIONS}
        given = {name: value for name, value in values.items() if value not in (None, "", frozenset())}
        if images.only is not None:
            given["only"] = images.only
        for name in ("only", "without"):
            if name in given:
                given[name] = json.dumps(sorted(given[name]))
        return "".join(f" AND {_CONDITIONS[name]}" for name in given), {**given, "owner": self.owner}
