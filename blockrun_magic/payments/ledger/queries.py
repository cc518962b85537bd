"""Queries of the ledger: purchases, payments, images and settings."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from blockrun_magic.errors import LedgerError
from blockrun_magic.payments.ledger.connection import (
    LedgerFile,
    ProcessLock,
    SessionLock,
    connect,
    is_session_alive,
    placeholders,
    translate_errors,
)
from blockrun_magic.payments.ledger.records import (
    ImageFilter,
    ListedImage,
    Payload,
    Payment,
    Purchase,
    StoredImage,
    payload_of,
    payment_of,
    purchase_of,
)
from blockrun_magic.payments.ledger.states import AT_RISK, OPEN, State

__all__ = ["LedgerReader"]


_PLAIN = re.compile(r"[A-Za-z0-9.-]+")
_COUNTED = (*AT_RISK, State.SETTLED)
_LISTED = "FROM purchases CROSS JOIN pictures ON purchase_id = purchases.id WHERE finished_at IS NOT NULL"
"""In this order, so that the newest are found by the index on `finished_at`."""
_CONDITIONS = {
    "since": "created_at >= :since",
    "until": "created_at < :until",
    "practice": "(realm = 'practice') = :practice",
    "model": "json_extract(request, '$.model') = :model",
    "purchase": "purchases.id = :purchase",
    "file": "file = :file",
    "source": "instr(request, :source)",
    "only": "purchases.id || ':' || position IN (SELECT value FROM json_each(:only))",
    "without": "purchases.id || ':' || position NOT IN (SELECT value FROM json_each(:without))",
    "words": (
        "instr(casefold(json_extract(request, '$.prompt') || ' ' || json_extract(request, '$.model')),"
        " casefold(:words))"
    ),
}


class LedgerReader:
    """The open file of the ledger, and the questions that it answers.

    `session` names the process, `clock` returns Unix seconds. Every method raises LedgerError when the file cannot be
    read.
    """

    def __init__(self, path: Path, session: str, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.session = session
        self.clock = clock
        self._lock = ProcessLock()
        with translate_errors(path):
            self.was_empty = not path.is_file() or path.stat().st_size == 0
            self._connection = connect(path)
        self._file = LedgerFile(path)
        self._alive = SessionLock(path, session)

    def close(self) -> None:
        """Close the file; the ledger is not used afterwards. In a forked child the parent's stays open."""
        if not self._lock.is_own:
            return
        with self._lock:
            self._alive.release()
            self._connection.close()

    def is_alive(self, session: str) -> bool:
        """Return whether another process that has this ledger open is `session`."""
        return session != self.session and is_session_alive(self.path, session)

    def payment(self, payment_id: int) -> Payment:
        """Return the payment with this id; raises LedgerError when there is none."""
        payments = self._payments("SELECT * FROM authorizations WHERE id = ?", (payment_id,))
        if not payments:
            raise LedgerError(f"The ledger has no payment {payment_id}.", "Please report this with `%blockrun jobs`.")
        return payments[0]

    def setting(self, name: str) -> str | None:
        """Return a setting that all kernels share, or None."""
        rows = self._read("SELECT value FROM settings WHERE name = ?", (name,))
        return str(rows[0]["value"]) if rows else None

    def purchase(self, realm: str, digest: str, take: int) -> Purchase | None:
        """Return the purchase of this request and take, or None when it was never begun."""
        rows = self._read("SELECT * FROM purchases WHERE realm = ? AND digest = ? AND take = ?", (realm, digest, take))
        return purchase_of(rows[0]) if rows else None

    def purchase_by_id(self, prefix: str) -> Purchase | None:
        """Return the one purchase whose id starts with `prefix`, or None."""
        # A range, which the index on ids answers.
        rows = self._read("SELECT * FROM purchases WHERE id >= ?1 AND id < ?1 || char(1114111) LIMIT 2", (prefix,))
        return purchase_of(rows[0]) if len(rows) == 1 else None

    def takes(self, realm: str, digest: str) -> list[Purchase]:
        """Return every take of this request, oldest first."""
        query = "SELECT * FROM purchases WHERE realm = ? AND digest = ? ORDER BY take"
        return [purchase_of(row) for row in self._read(query, (realm, digest))]

    def open_purchases(self) -> list[Purchase]:
        """Return the purchases that are paid or at risk and have no image yet, oldest first."""
        query = f"""
            SELECT * FROM purchases WHERE finished_at IS NULL AND EXISTS (
                SELECT 1 FROM authorizations WHERE purchase_id = purchases.id AND state IN ({placeholders(OPEN)})
            ) ORDER BY created_at"""
        return [purchase_of(row) for row in self._read(query, OPEN)]

    def incomplete_purchases(self) -> list[Purchase]:
        """Return what was delivered without all of its images, oldest first."""
        query = """
            SELECT * FROM purchases WHERE finished_at IS NOT NULL AND instr(answer, '"missing"') AND EXISTS (
                SELECT 1 FROM json_each(answer) WHERE json_extract(value, '$.missing')
            ) ORDER BY created_at"""
        return [purchase_of(row) for row in self._read(query, ())]

    def search_finished(self, realm: str, words: str, limit: int, offset: int) -> list[Purchase]:
        """Return finished purchases whose prompt or model mentions `words`, newest first."""
        query = """
            SELECT * FROM purchases WHERE realm = ?1 AND finished_at IS NOT NULL
            AND (request LIKE ?5 OR instr(request, '\\u')) AND instr(
                casefold(json_extract(request, '$.prompt') || ' ' || json_extract(request, '$.model')), casefold(?2)
            )
            ORDER BY created_at DESC LIMIT ?3 OFFSET ?4"""
        # Most requests lack the longest plain part of the words, which SQLite sees without reading their JSON. What
        # JSON escapes may fold into plain letters.
        part = max(_PLAIN.findall(words), key=len, default="")
        rows = self._read(query, (realm, words, limit, offset, f"%{part[:100]}%"))
        return [purchase_of(row) for row in rows]

    def count_finished(self, realm: str, record: Mapping[str, Any]) -> int:
        """Return how many purchases were finished that `record` describes, whatever their images."""
        names = ("endpoint", "model", "n", "prompt", "quality", "size")
        conditions = " AND ".join(f"json_extract(request, '$.{name}') IS ?" for name in names)
        query = f"SELECT count(*) FROM purchases WHERE realm = ? AND finished_at IS NOT NULL AND {conditions}"
        return int(self._read(query, (realm, *(record[name] for name in names)))[0][0])

    def purchases_in_session(self, session: str, realm: str) -> list[Purchase]:
        """Return the finished purchases that `session` has paid for, newest first."""
        query = """
            SELECT DISTINCT purchases.* FROM purchases
            JOIN authorizations ON purchase_id = purchases.id
            WHERE authorizations.session = ? AND purchases.realm = ? AND finished_at IS NOT NULL
            ORDER BY finished_at DESC"""
        return [purchase_of(row) for row in self._read(query, (session, realm))]

    def usual_seconds(self, model: str, size: str) -> float | None:
        """Return the median seconds of the last images of this kind, or None before there are three."""
        query = """
            SELECT seconds FROM purchases WHERE finished_at IS NOT NULL
            AND json_extract(request, '$.model') = ? AND json_extract(request, '$.size') = ?
            ORDER BY finished_at DESC LIMIT 21"""
        found = [row["seconds"] for row in self._read(query, (model, size))]
        return median(found) if len(found) > 2 else None

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
        where, values = _where(images)
        query = f"""
            SELECT purchases.*, file, media_type, width, height, revised_prompt, position, (
                SELECT coalesce(sum(amount), 0) FROM authorizations
                WHERE purchase_id = purchases.id AND state IN ({", ".join(f"'{state}'" for state in _COUNTED)})
            ) AS paid {_LISTED}{where}
            ORDER BY finished_at DESC, purchases.id, position LIMIT :limit OFFSET :offset"""
        rows = self._read(query, {**values, "limit": limit, "offset": offset})
        return [
            ListedImage(
                purchase_of(row),
                StoredImage(row["file"], row["media_type"], row["width"], row["height"], row["revised_prompt"]),
                row["position"],
                row["paid"],
            )
            for row in rows
        ]

    def count_images(self, images: ImageFilter) -> int:
        """Return how many images `images` selects."""
        where, values = _where(images)
        return int(self._read(f"SELECT count(*) {_LISTED}{where}", values)[0][0])

    def models_used(self) -> list[str]:
        """Return the id of every model that has made an image, in alphabetical order."""
        query = (
            "SELECT DISTINCT json_extract(request, '$.model') FROM purchases WHERE finished_at IS NOT NULL ORDER BY 1"
        )
        return [str(row[0]) for row in self._read(query, ())]

    def recent_prompts(self, limit: int) -> list[str]:
        """Return the different prompts among the last `limit` finished purchases, the newest first."""
        query = """
            SELECT json_extract(request, '$.prompt') AS prompt FROM purchases
            WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT ?"""
        return list(dict.fromkeys(str(row["prompt"]) for row in self._read(query, (limit,))))

    def payments(self, purchase_id: str) -> list[Payment]:
        """Return every authorization signed for a purchase, oldest first."""
        return self._payments("SELECT * FROM authorizations WHERE purchase_id = ? ORDER BY id", (purchase_id,))

    def open_payment(self, purchase_id: str) -> Payment | None:
        """Return the newest payment of a purchase that was not released, or None."""
        return next((p for p in reversed(self.payments(purchase_id)) if p.state is not State.RELEASED), None)

    def open_payments(self, states: Sequence[State] = AT_RISK) -> list[Payment]:
        """Return every authorization whose sum is at risk, oldest first."""
        # The words of the index of open payments: without them it is not used for a list of marks.
        some_are_decided = {State.SETTLED, State.RELEASED} & {*states}
        open_ones = "" if some_are_decided else "state NOT IN ('settled', 'released') AND"
        query = f"SELECT * FROM authorizations WHERE {open_ones} state IN ({placeholders(states)}) ORDER BY id"
        return self._payments(query, states)

    def payments_via(self, gateway: str, since: float) -> list[tuple[Payment, str, str]]:
        """Return the payments at `gateway` from `since` (Unix seconds) that were not released.

        Each comes with the model and the endpoint of its request.
        """
        query = """
            SELECT authorizations.*, json_extract(request, '$.model') AS model,
                json_extract(request, '$.endpoint') AS endpoint
            FROM authorizations JOIN purchases ON purchases.id = purchase_id
            WHERE authorizations.gateway = ? AND authorizations.created_at >= ? AND state <> ?
            ORDER BY authorizations.id"""
        rows = self._read(query, (gateway, since, State.RELEASED))
        return [(payment_of(row), row["model"], row["endpoint"]) for row in rows]

    def first_payment_via(self, gateway: str) -> float | None:
        """Return when the first payment at `gateway` was made (Unix seconds), or None without one."""
        query = "SELECT min(created_at) AS first FROM authorizations WHERE gateway = ?"
        first = self._read(query, (gateway,))[0]["first"]
        return None if first is None else float(first)

    def session_started_at(self) -> float | None:
        """Return when this session made its first payment (Unix seconds), or None before that."""
        query = "SELECT min(created_at) AS first FROM authorizations WHERE session = ?"
        first = self._read(query, (self.session,))[0]["first"]
        return None if first is None else float(first)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return the rows of a reading query, for the other modules of this folder."""
        return self._read(sql, parameters)

    def _payments(self, sql: str, parameters: Sequence[Any]) -> list[Payment]:
        rows = self._read(sql, parameters)
        payloads: dict[int, list[Payload]] = {row["id"]: [] for row in rows}
        if rows:
            query = f"SELECT * FROM payloads WHERE authorization_id IN ({placeholders(rows)}) ORDER BY id"
            for row in self._read(query, list(payloads)):
                payloads[row["authorization_id"]].append(payload_of(row))
        return [payment_of(row, payloads[row["id"]]) for row in rows]

    def _read(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[sqlite3.Row]:
        with translate_errors(self.path), self._lock:
            return self._connection.execute(sql, parameters).fetchall()


def _where(images: ImageFilter) -> tuple[str, dict[str, Any]]:
    """Return the conditions of a filter as SQL, and their values."""
    values: dict[str, Any] = {name: getattr(images, name) for name in _CONDITIONS}
    given = {name: value for name, value in values.items() if value not in (None, "", frozenset())}
    if images.only is not None:
        given["only"] = images.only
    for name in ("only", "without"):
        if name in given:
            given[name] = json.dumps(sorted(given[name]))
    return "".join(f" AND {_CONDITIONS[name]}" for name in given), given
