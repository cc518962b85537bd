"""Purchases in the ledger, its settings and limits, and the transactions that write them."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blockrun_magic.database.engine import Connection, Database, Row
from blockrun_magic.payments.ledger import counters
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, NO_CAPS, Caps, Usage
from blockrun_magic.payments.ledger.queries import LedgerReader
from blockrun_magic.payments.ledger.records import Purchase, StoredImage
from blockrun_magic.payments.ledger.windows import Standing, Window, check_subject, find_zone, in_order, windows_of

__all__ = ["PurchaseLedger", "wipe_headers"]

_ZONE = "class.timezone"
_FIELDS = ("endpoint", "model", "size", "quality", "n", "mask")


class _Running(threading.local):
    """The transaction of this thread."""

    connection: Connection | None = None
    durable = new_ids = False


class PurchaseLedger(LedgerReader):
    """The part of the ledger that writes purchases, settings and limits."""

    def __init__(self, place: Path | Database, session: str, clock: Callable[[], float] | None = None) -> None:
        super().__init__(place, session, clock)
        self._running = _Running()

    _wiped = False
    """Whether the database's files may still contain a wiped header."""

    def create_purchase(
        self, realm: str, gateway: str, digest: str, take: int, request: Mapping[str, Any], *, private: bool
    ) -> Purchase:
        """Return the purchase of this request and take, created now unless it exists."""
        record = json.dumps(request, sort_keys=True)
        with self.transaction(durable=False, new_ids=True) as connection:
            row = connection.execute(
                """INSERT INTO purchases (id, owner, created_at, realm, gateway, digest, take, request, private)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (owner, realm, digest, take) DO NOTHING RETURNING *""",
                (secrets.token_hex(5), self.owner, self.clock(), realm, gateway, digest, take, record, int(private)),
            ).fetchone()
        purchase = self.purchase(realm, digest, take) if row is None else Purchase.from_row(row)
        assert purchase is not None  # noqa: S101  it is there, or was written just now
        return purchase

    def change_gateway(self, purchase: Purchase, gateway: str) -> Purchase:
        """Move an unpaid purchase to `gateway`, without the answers of the other gateway, and return it."""
        with self.transaction() as connection:
            connection.execute(
                "UPDATE purchases SET gateway = ?, poll_url = NULL, answer = NULL WHERE id = ?", (gateway, purchase.id)
            )
        changed = self.purchase(purchase.realm, purchase.digest, purchase.take)
        assert changed is not None  # noqa: S101  purchases are never removed
        return changed

    def has_order(self, key: str) -> bool:
        """Return whether a payment has the key of this order."""
        return bool(self._read("SELECT 1 FROM authorizations WHERE nonce = ?", (key,)))

    def forget_job(self, purchase_id: str) -> None:
        """Forget a job that ended without an image, so that the request is sent again."""
        with self.transaction() as connection:
            connection.execute("UPDATE purchases SET poll_url = NULL WHERE id = ?", (purchase_id,))

    def save_image_urls(self, purchase_id: str, items: Sequence[Mapping[str, Any]], *, durable: bool = True) -> None:
        """Store the image addresses of a paid answer."""
        with self.transaction(durable=durable) as connection:
            connection.execute("UPDATE purchases SET answer = ? WHERE id = ?", (json.dumps(items), purchase_id))

    def finish(
        self,
        purchase_id: str,
        images: Sequence[StoredImage],
        seconds: float,
        answer: Sequence[Mapping[str, Any]] = (),
        *,
        durable: bool = True,
    ) -> None:
        """Record the images of a purchase, which ends it; its settled headers are wiped unless an image is missing.

        `answer` has the addresses of its images, and marks the missing ones. Without `durable`, it is on disk with the
        next payment that is sent: until then, a power cut leaves a purchase whose images are requested again.
        """
        rows = [
            (purchase_id, index, image.file, image.media_type, image.width, image.height, image.revised_prompt)
            for index, image in enumerate(images)
        ]
        with self.transaction(durable=durable) as connection:
            connection.execute("DELETE FROM pictures WHERE purchase_id = ?", (purchase_id,))
            connection.executemany(
                """INSERT INTO pictures (purchase_id, position, file, media_type, width, height, revised_prompt)
                VALUES (?, ?, ?, ?, ?, ?, ?)""",
                rows,
            )
            connection.execute(
                "UPDATE purchases SET finished_at = ?, seconds = ?, answer = ? WHERE id = ?",
                (self.clock(), seconds, json.dumps(list(answer)) if answer else None, purchase_id),
            )
            wiped = wipe_headers(connection, purchase_id)
        self._erase(wiped, now=durable)

    def reopen(self, purchase_id: str) -> None:
        """Make a finished purchase unfinished again: its stored image can no longer be used."""
        with self.transaction() as connection:
            connection.execute("UPDATE purchases SET finished_at = NULL WHERE id = ?", (purchase_id,))

    def erase(self, purchase_id: str) -> bool:
        """Erase the request and the images of a purchase, and keep its payments; False while one of them is open."""
        erased = json.dumps({**dict.fromkeys(_FIELDS), "prompt": "", "image": [], "uploads": []}, sort_keys=True)
        with self.transaction() as connection:
            done = connection.execute(
                """UPDATE purchases SET request = ?, digest = ?, answer = NULL, poll_url = NULL,
                    finished_at = coalesce(finished_at, created_at)
                WHERE id = ? AND NOT EXISTS (SELECT 1 FROM authorizations WHERE purchase_id = purchases.id
                    AND state NOT IN ('settled', 'released'))""",
                (erased, f"erased:{purchase_id}", purchase_id),
            ).rowcount
            if done:
                connection.execute("DELETE FROM pictures WHERE purchase_id = ?", (purchase_id,))
            wiped = wipe_headers(connection, purchase_id) if done else 0
        self._erase(wiped + done)
        return bool(done)

    def is_stored_file_used(self, file: str) -> bool:
        """Return whether a purchase has the file with this SHA-256 (hex), as an image or as a source."""
        query = "SELECT 1 FROM pictures WHERE file = ?1 UNION ALL SELECT 1 FROM purchases WHERE instr(request, ?1) > 0"
        return bool(self._read(f"{query} LIMIT 1", (file,)))

    def log_settled(self, realm: str, write: Callable[[Sequence[Row]], None]) -> None:
        """Pass the settled payments of `realm` that are not in the cost log to `write`: each once, of all kernels.

        It leaves out estimates, for which the log has no field, and payments of a class, because the class paid.
        """
        query = """
            SELECT authorizations.id, updated_at, amount, payer, network, request FROM authorizations
            JOIN purchases ON purchases.id = purchase_id
            WHERE state = 'settled' AND logged = 0 AND authorizations.realm = ? AND estimated = 0
                AND coalesce(authorizations.gateway, '') <> 'classroom' ORDER BY updated_at"""
        if not self._read(f"{query} LIMIT 1", (realm,)):
            return
        with self.transaction(durable=False) as connection:  # the log itself is no more durable
            self.database.serialize(connection, "cost log")
            rows = connection.execute(query, (realm,)).fetchall()
            write(rows)
            connection.executemany("UPDATE authorizations SET logged = 1 WHERE id = ?", [(row["id"],) for row in rows])

    # -- settings and limits

    def setting(self, name: str) -> str | None:
        """Return a setting that all kernels share, or None."""
        rows = self._read("SELECT value FROM settings WHERE name = ?", (name,))
        return str(rows[0]["value"]) if rows else None

    def set_setting(self, name: str, value: str) -> None:
        """Change a setting that all kernels share."""
        with self.transaction() as connection:
            connection.execute(
                """INSERT INTO settings (name, value) VALUES (?, ?)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
                (name, value),
            )

    def caps(self, defaults: Caps = DEFAULT_CAPS) -> Caps:
        """Return the limits of a notebook, which all kernels share: those that were set, else `defaults`.

        A member's payments ignore them.
        """
        if self.owner:
            return NO_CAPS
        with self.database.reading() as connection:
            return counters.read_caps(connection, defaults)

    def set_caps(self, **caps: int | None) -> Caps:
        """Change some of the limits (`image`, `session`, `day`, micro-USDC; None removes one); return all of them."""
        with self.transaction() as connection:
            for period, amount in caps.items():
                counters.write_limit(connection, "", period, amount)
            return counters.read_caps(connection)

    def committed(self, realm: str) -> Usage:
        """Return what counts against the limits of this session and this UTC day."""
        with self.database.reading() as connection:
            return self._usage(connection, realm, self.clock())

    # -- limits of many people

    def set_limit(self, subject: str, period: str, micros: int | None) -> None:
        """Set a limit in micro-USDC, or remove it with None.

        `subject` is all, class, group:NAME, member:ID, or each: every member without one of their own. `period` is
        total, month, week or day. Raises UsageError.
        """
        check_subject(subject, period)
        with self.transaction() as connection:
            counters.write_limit(connection, subject, period, micros)

    def limits(self) -> dict[tuple[str, str], int]:
        """Return the limits of all subjects, by subject and period, in micro-USDC."""
        with self.database.reading() as connection:
            return {place: amount for place, amount in counters.read_limits(connection).items() if place[0]}

    def standing(self, realm: str, subjects: Sequence[str]) -> list[Standing]:
        """Return the standing of each of `subjects` in each period: members, groups, the class; short periods first."""
        with self.database.reading() as connection:
            windows = self._windows(connection, self.clock())
            return counters.read_standings(connection, realm, in_order(subjects), windows)

    def owners_of_open_payments(self) -> list[str]:
        """Return the owners of payments whose sum is at risk, without the notebook."""
        query = """
            SELECT DISTINCT owner FROM authorizations
            WHERE state NOT IN ('settled', 'released') AND owner <> '' ORDER BY 1"""
        return [str(row[0]) for row in self._read(query, ())]

    def set_timezone(self, name: str) -> None:
        """Let days, weeks and months begin at midnight of a time zone like Europe/Berlin; raises LedgerError."""
        find_zone(name)
        self.set_setting(_ZONE, name)

    def _windows(self, connection: Connection, now: float) -> list[Window]:
        row = connection.execute("SELECT value FROM settings WHERE name = ?", (_ZONE,)).fetchone()
        return windows_of(now, find_zone(row[0] if row else None))

    def _limits_and_windows(
        self, connection: Connection, subjects: Sequence[str], now: float
    ) -> tuple[dict[tuple[str, str], int], list[Window]]:
        limits, zone = counters.read_limits_and_setting(connection, subjects, _ZONE)
        return limits, windows_of(now, find_zone(zone))

    def check(self) -> dict[tuple[str, ...], tuple[int, int]]:
        """Return the counters that differ from the sums of the payments: none, unless there is a bug."""
        with self.database.reading() as connection:
            return counters.wrong_counters(connection)

    def _usage(self, connection: Connection, realm: str, now: float) -> Usage:
        return counters.read_usage(connection, self.database, realm, self.session, now)

    @contextmanager
    def transaction(self, *, durable: bool = True, new_ids: bool = False) -> Iterator[Connection]:
        """Yield a transaction for which all kernels wait: all of it applies, or nothing has changed.

        With `durable`, the transaction and all earlier ones are on disk afterwards. Without it, a power cut may undo
        the transaction; use that only for changes that do not yet allow anything to be sent. Inside another transaction
        of this thread, it is a part of that one.
        """
        outer = self._running
        if outer.connection is not None:
            assert outer.durable >= durable and outer.new_ids >= new_ids  # noqa: S101, PT018  a part is not safer
            yield outer.connection
            return
        with self.database.transaction(durable=durable, new_ids=new_ids) as connection:
            outer.connection, outer.durable, outer.new_ids = connection, durable, new_ids
            try:
                yield connection
            finally:
                outer.connection = None

    def _erase(self, wiped: int = 0, *, now: bool = True) -> None:
        """Remove wiped headers from the database's files: `now`, or once at the end of a batch.

        This waits for the disk three times, and is skipped while another kernel reads the files.
        """
        self._wiped = self._wiped or bool(wiped)
        if self._wiped and now:
            self._wiped = not self.database.erase()  # otherwise, the next purchase does it


def wipe_headers(connection: Connection, purchase_id: str) -> int:
    """Wipe the headers of the settled payments of a purchase, once it has all its images; return their number."""
    cursor = connection.execute(
        """UPDATE payloads SET header_value = NULL WHERE header_value IS NOT NULL AND authorization_id IN (
            SELECT authorizations.id FROM authorizations JOIN purchases ON purchases.id = purchase_id
            WHERE purchase_id = ? AND state = 'settled' AND finished_at IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM json_each(answer)
                WHERE CAST(json_extract(value, '$.missing') AS TEXT) IN ('1', 'true')))""",
        (purchase_id,),
    )
    return cursor.rowcount
