"""Purchases in the ledger, its settings and limits, and the transactions that write them."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from blockrun_magic.payments.ledger import counters
from blockrun_magic.payments.ledger.connection import BUSY_SECONDS, translate_errors
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, Caps, Usage
from blockrun_magic.payments.ledger.queries import LedgerReader
from blockrun_magic.payments.ledger.records import Purchase, StoredImage
from blockrun_magic.payments.ledger.states import State

__all__ = ["PurchaseLedger", "wipe_headers"]


class PurchaseLedger(LedgerReader):
    """The part of the ledger that writes purchases, settings and limits."""

    _wiped = False
    """Whether the write-ahead log may hold a header that was wiped."""

    def create_purchase(
        self, realm: str, gateway: str, digest: str, take: int, request: Mapping[str, Any], *, private: bool
    ) -> Purchase:
        """Return the purchase of this request and take, created now unless it exists."""
        record = json.dumps(request, sort_keys=True)
        with self.transaction(durable=False) as connection:
            connection.execute(
                """INSERT INTO purchases (id, created_at, realm, gateway, digest, take, request, private)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (realm, digest, take) DO NOTHING""",
                (secrets.token_hex(5), self.clock(), realm, gateway, digest, take, record, int(private)),
            )
        purchase = self.purchase(realm, digest, take)
        assert purchase is not None  # noqa: S101  it was written two lines above
        return purchase

    def change_gateway(self, purchase: Purchase, gateway: str) -> Purchase:
        """Return an unpaid purchase as one at `gateway`: what another gateway answered is forgotten."""
        with self.transaction() as connection:
            connection.execute(
                "UPDATE purchases SET gateway = ?, poll_url = NULL, answer = NULL WHERE id = ?", (gateway, purchase.id)
            )
        changed = self.purchase(purchase.realm, purchase.digest, purchase.take)
        assert changed is not None  # noqa: S101  purchases are never removed
        return changed

    def forget_job(self, purchase_id: str) -> None:
        """Forget a job that ended without an image, so that the request is sent again."""
        with self.transaction() as connection:
            connection.execute("UPDATE purchases SET poll_url = NULL WHERE id = ?", (purchase_id,))

    def save_image_urls(self, purchase_id: str, items: Sequence[Mapping[str, Any]]) -> None:
        """Store the addresses of the images of an answer that was paid for."""
        with self.transaction() as connection:
            connection.execute("UPDATE purchases SET answer = ? WHERE id = ?", (json.dumps(items), purchase_id))

    def finish(
        self,
        purchase_id: str,
        images: Sequence[StoredImage],
        seconds: float,
        answer: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Record the images of a purchase, which ends it; its settled headers are wiped unless an image is missing.

        `answer` has the addresses of its images, and says which of them are missing.
        """
        rows = [
            (purchase_id, index, image.file, image.media_type, image.width, image.height, image.revised_prompt)
            for index, image in enumerate(images)
        ]
        with self.transaction() as connection:
            connection.execute("DELETE FROM pictures WHERE purchase_id = ?", (purchase_id,))
            connection.executemany("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            connection.execute(
                "UPDATE purchases SET finished_at = ?, seconds = ?, answer = ? WHERE id = ?",
                (self.clock(), seconds, json.dumps(list(answer)) if answer else None, purchase_id),
            )
            wiped = wipe_headers(connection, purchase_id)
        self._empty_log(wiped)

    def reopen(self, purchase_id: str) -> None:
        """Make a finished purchase unfinished again: its stored image can no longer be used."""
        with self.transaction() as connection:
            connection.execute("UPDATE purchases SET finished_at = NULL WHERE id = ?", (purchase_id,))

    def log_settled(self, realm: str, write: Callable[[Sequence[sqlite3.Row]], None]) -> None:
        """Pass the settled payments of `realm` that are not in the cost log to `write`: each once, of all kernels.

        Estimated ones are left out: the log has no field for them.
        """
        query = """
            SELECT authorizations.id, updated_at, amount, payer, network, request FROM authorizations
            JOIN purchases ON purchases.id = purchase_id
            WHERE state = ? AND authorizations.realm = ? AND logged = 0 AND estimated = 0 ORDER BY updated_at"""
        if not self._read(query, (State.SETTLED, realm)):
            return
        with self.transaction(durable=False) as connection:  # the log itself is not more durable than that
            rows = connection.execute(query, (State.SETTLED, realm)).fetchall()
            write(rows)
            connection.executemany("UPDATE authorizations SET logged = 1 WHERE id = ?", [(row["id"],) for row in rows])

    # -- settings and limits

    def set_setting(self, name: str, value: str) -> None:
        """Change a setting that all kernels share."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def caps(self, defaults: Caps = DEFAULT_CAPS) -> Caps:
        """Return the limits in force, which all kernels share: those that were set, else `defaults`."""
        with translate_errors(self.path), self._lock:
            return counters.read_caps(self._connection, defaults)

    def set_caps(self, **caps: int) -> Caps:
        """Change some of the limits (`image`, `session`, `day`, micro-USDC); return all of them."""
        with self.transaction() as connection:
            counters.write_caps(connection, caps)
            return counters.read_caps(connection)

    def committed(self, realm: str) -> Usage:
        """Return what counts against the limits of this session and this UTC day."""
        with translate_errors(self.path), self._lock:
            return self._usage(self._connection, realm, self.clock())

    def check(self) -> dict[tuple[str, ...], tuple[int, int]]:
        """Return the counters that differ from what the payments add up to: none, unless there is a bug."""
        with translate_errors(self.path), self._lock:
            return counters.wrong_counters(self._connection)

    def _usage(self, connection: sqlite3.Connection, realm: str, now: float) -> Usage:
        return counters.read_usage(connection, self.path, realm, self.session, now)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Yield a transaction that all kernels wait for: all of it holds afterwards, or nothing has changed.

        With `durable`, the transaction and all earlier ones are on disk afterwards. Without it, a power cut may undo
        the transaction; use that only for changes that do not yet allow anything to be sent.
        """
        with translate_errors(self.path), self._lock:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk ends the transaction; a second end would hide the first error.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _empty_log(self, wiped: int) -> None:
        """Empty the write-ahead log where it may hold a wiped header, unless another kernel reads it right now.

        Without a `wiped` header nothing in it has to go, and emptying it waits for the disk three times.
        """
        self._wiped = self._wiped or bool(wiped)
        if not self._wiped:
            return
        with translate_errors(self.path), self._lock:
            self._connection.execute("PRAGMA busy_timeout = 0")
            try:
                [busy, _, _] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._wiped = bool(busy)  # then with the next purchase
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def wipe_headers(connection: sqlite3.Connection, purchase_id: str) -> int:
    """Wipe the headers of the settled payments of a purchase, once it has all its images; return their number."""
    cursor = connection.execute(
        """UPDATE payloads SET header_value = NULL WHERE header_value IS NOT NULL AND authorization_id IN (
            SELECT authorizations.id FROM authorizations JOIN purchases ON purchases.id = purchase_id
            WHERE purchase_id = ? AND state = ? AND finished_at IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM json_each(answer) WHERE json_extract(value, '$.missing')))""",
        (purchase_id, State.SETTLED),
    )
    return cursor.rowcount
