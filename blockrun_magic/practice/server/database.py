"""The database of the practice gateway, in SQLite: balances, requests, settlements and jobs.

Several processes may share one file; every move of play money is one transaction.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import LedgerError, Money
from blockrun_magic.gateway.request import ENDPOINTS, ImageRequest, Upload
from blockrun_magic.practice.server.verification import InvalidPayment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blockrun_magic.practice.server.verification import PaymentPayload

__all__ = ["Database", "Job", "Settlement"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS wallets (address TEXT PRIMARY KEY, balance INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (digest TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS uploads (digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, payer TEXT NOT NULL, nonce TEXT NOT NULL, digest TEXT NOT NULL,
    amount INTEGER NOT NULL, created REAL NOT NULL, ready_at REAL NOT NULL, UNIQUE (payer, nonce)
);
CREATE TABLE IF NOT EXISTS settlements (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, tx TEXT NOT NULL UNIQUE, payer TEXT NOT NULL, nonce TEXT NOT NULL,
    amount INTEGER NOT NULL, digest TEXT NOT NULL, take INTEGER NOT NULL, model_seq INTEGER NOT NULL,
    model TEXT NOT NULL, job TEXT UNIQUE, at REAL NOT NULL, UNIQUE (payer, nonce)
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Settlement:
    """One transfer of play money, and the request that it paid for."""

    seq: int
    tx: str
    payer: str
    nonce: str
    amount: int
    digest: str
    take: int
    """The number of earlier purchases of the same request, since each take is a different image."""
    model_seq: int
    """The number of earlier images of this model, since some models alternate their result form."""
    model: str
    job: str | None
    at: float


@dataclass(frozen=True, slots=True)
class Job:
    """A verified request, which is paid when its images are collected."""

    id: str
    payer: str
    nonce: str
    digest: str
    amount: int
    created: float
    ready_at: float


def transaction_of(payer: str, nonce: str) -> str:
    """Return the transaction hash of this authorization's settlement."""
    return "0x" + hashlib.sha256(f"practice settlement {payer} {nonce}".encode()).hexdigest()


def _check_whole(connection: sqlite3.Connection) -> None:
    [state] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError(state)


def _connect(path: str | Path) -> sqlite3.Connection:
    """Return a connection to the file at `path`, whole and with its tables; raises sqlite3.Error."""
    connection = sqlite3.connect(str(path), timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        _check_whole(connection)
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


class Database:
    """The tables, over one connection; `start_balance` is the balance of a new wallet, in micro-USDC."""

    def __init__(self, path: str | Path = ":memory:", start_balance: int = 100_000_000) -> None:
        self.start_balance = start_balance
        self._lock = threading.RLock()
        try:
            self._db = _connect(path)
        except sqlite3.Error as error:
            raise LedgerError(
                f"The practice ledger {path} cannot be used: {error}.",
                "Start a new one with `%blockrun use practice --reset-book`; the old file is renamed.",
                Money.nothing_signed(),
            ) from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _one(self, sql: str, *values: object) -> sqlite3.Row | None:
        with self._lock:
            row: sqlite3.Row | None = self._db.execute(sql, values).fetchone()
            return row

    def balance(self, address: str) -> int:
        """Return the balance of `address`, in micro-USDC."""
        row = self._one("SELECT balance FROM wallets WHERE address = ?", address.lower())
        return self.start_balance if row is None else int(row["balance"])

    def refill(self, address: str) -> int:
        """Refill the wallet to the start balance and return its balance, in micro-USDC."""
        with self._transaction():
            balance = max(self.balance(address), self.start_balance)
            self._set_balance(address, balance)
        return balance

    def _set_balance(self, address: str, balance: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO wallets VALUES (?, ?)", (address.lower(), balance))

    def count(self, name: str) -> int:
        """Add one to the counter `name` and return its previous value."""
        sql = "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
        with self._transaction():
            self._db.execute(sql, (name,))
            return self.counter(name) - 1

    def counter(self, name: str) -> int:
        """Return the counter `name`, 0 when nothing was counted."""
        row = self._one("SELECT value FROM counters WHERE name = ?", name)
        return 0 if row is None else int(row["value"])

    def save_order(self, request: ImageRequest) -> None:
        """Store `request` with the bytes of its images, so that its result can be painted again."""
        with self._transaction() as db:
            row = (request.digest, json.dumps(request.to_record()))
            db.execute("INSERT OR IGNORE INTO orders VALUES (?, ?)", row)
            for upload in (*request.images, *((request.mask,) if request.mask else ())):
                row3 = (upload.digest, upload.media_type, upload.data)
                db.execute("INSERT OR IGNORE INTO uploads VALUES (?, ?, ?)", row3)

    def order(self, digest: str) -> ImageRequest:
        """Return the stored request; raises KeyError if there is none."""
        row = self._one("SELECT record FROM orders WHERE digest = ?", digest)
        if row is None:
            raise KeyError(digest)
        record: dict[str, Any] = json.loads(row["record"])
        return ImageRequest(
            operation="edit" if record["endpoint"] == ENDPOINTS["edit"] else "generate",
            prompt=record["prompt"],
            model=record["model"],
            size=record["size"],
            quality=record["quality"],
            n=record["n"],
            images=tuple(self._upload(each) for each in record["image"]),
            mask=self._upload(record["mask"]) if record["mask"] else None,
        )

    def _upload(self, digest: str) -> Upload:
        row = self._one("SELECT media_type, data FROM uploads WHERE digest = ?", digest)
        if row is None:
            raise KeyError(digest)
        return Upload(row["data"], row["media_type"], digest)

    def settlement(self, payer: str, nonce: str) -> Settlement | None:
        """Return the settlement of this authorization, or None while it is unused."""
        return _settlement(
            self._one("SELECT * FROM settlements WHERE payer = ? COLLATE NOCASE AND nonce = ?", payer, nonce)
        )

    def settlement_of(self, job: str) -> Settlement | None:
        """Return the settlement of a job, or None while it is not paid for."""
        return _settlement(self._one("SELECT * FROM settlements WHERE job = ?", job))

    def settlement_in(self, tx: str) -> Settlement | None:
        """Return the settlement with that transaction hash, or None."""
        return _settlement(self._one("SELECT * FROM settlements WHERE tx = ?", tx))

    def settlements(self) -> list[Settlement]:
        """Return every settlement, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM settlements ORDER BY seq").fetchall()
        return [Settlement(**dict(row)) for row in rows]

    def settle(self, payload: PaymentPayload, request: ImageRequest, job: Job | None = None) -> tuple[Settlement, bool]:
        """Move the money once; return the settlement, and whether it is new. Raises InvalidPayment.

        The same authorization for the same request, and a job that was already collected, return the
        existing settlement.
        """
        with self._transaction():
            earlier = self.settlement_of(job.id) if job else None
            earlier = earlier or self.settlement(payload.payer, payload.nonce)
            if earlier is not None:
                if earlier.digest != request.digest or (job and earlier.job != job.id):
                    raise replayed()
                return earlier, False
            other = self.job_paid_by(payload.payer, payload.nonce)
            if other is not None and (job is None or other.id != job.id):
                raise replayed()
            self.check_balance(payload)
            self._set_balance(payload.payer, self.balance(payload.payer) - payload.value)
            return self._record(payload, request, job), True

    def check_balance(self, payload: PaymentPayload) -> None:
        """Raise InvalidPayment unless the payer's balance covers the amount."""
        balance = self.balance(payload.payer)
        if balance < payload.value:
            details = f"The wallet holds {balance} micro-USDC; the price is {payload.value}."
            raise InvalidPayment(details, "insufficient_funds", "INSUFFICIENT_FUNDS")

    def _record(self, payload: PaymentPayload, request: ImageRequest, job: Job | None) -> Settlement:
        take = self._one("SELECT COUNT(*) AS n FROM settlements WHERE digest = ?", request.digest)
        of_model = self._one("SELECT COUNT(*) AS n FROM settlements WHERE model = ?", request.model)
        values = (
            transaction_of(payload.payer, payload.nonce), payload.payer, payload.nonce, payload.value, request.digest,
            take["n"] if take else 0, of_model["n"] if of_model else 0, request.model,
            job.id if job else None, time.time(),
        )  # fmt: skip
        sql = """INSERT INTO settlements (tx, payer, nonce, amount, digest, take, model_seq, model, job, at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
        seq = int(self._db.execute(sql, values).lastrowid or 0)
        return Settlement(seq, *values)

    def open_job(self, payload: PaymentPayload, request: ImageRequest, seconds: float) -> Job:
        """Return the job of this authorization, opened if necessary; raises InvalidPayment."""
        with self._transaction() as db:
            job = self.job_paid_by(payload.payer, payload.nonce)
            if job is not None:
                return job
            if self.settlement(payload.payer, payload.nonce) is not None:
                raise replayed()
            now = time.time()
            job_id = "job_" + transaction_of(payload.payer, "job " + payload.nonce)[2:26]
            row = (job_id, payload.payer, payload.nonce, request.digest, payload.value, now, now + seconds)
            db.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            return Job(*row)

    def job(self, job_id: str) -> Job | None:
        """Return the job with that id, or None."""
        row = self._one("SELECT * FROM jobs WHERE id = ?", job_id)
        return None if row is None else Job(**dict(row))

    def job_paid_by(self, payer: str, nonce: str) -> Job | None:
        """Return the job that this authorization opened, or None."""
        row = self._one("SELECT * FROM jobs WHERE payer = ? AND nonce = ?", payer, nonce)
        return None if row is None else Job(**dict(row))


def replayed() -> InvalidPayment:
    """Return the rejection of an authorization that paid for another request."""
    return InvalidPayment(
        "This authorization was used already.", "invalid_exact_evm_nonce_already_used", "PAYMENT_REPLAY"
    )


def _settlement(row: sqlite3.Row | None) -> Settlement | None:
    return None if row is None else Settlement(**dict(row))
