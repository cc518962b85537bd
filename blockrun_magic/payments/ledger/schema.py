"""Tables of the ledger: one schema, and the named migrations that came after it.

`user_version` counts them; the table `migrations` has their names and dates. Never edit a migration that was
released: add another one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime

from blockrun_magic.payments.ledger.states import State

__all__ = ["UnknownLayout", "migrate"]

Migration = Callable[[sqlite3.Connection], None]
_MIGRATIONS: dict[str, Migration] = {}
_SCHEMA_VERSION = 6
"""The version of `_create`: ledgers of 0.1.0's development have it already."""


class UnknownLayout(Exception):
    """The file is a database that this version does not know how to read."""


def migration(function: Migration) -> Migration:
    """Add `function` to the migrations, in the order of this file, under its own name."""
    _MIGRATIONS[function.__name__] = function
    return function


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database up to date; safe while other kernels do the same. Raises UnknownLayout."""
    if _version(connection) != _newest():
        connection.execute("BEGIN EXCLUSIVE")
        try:
            _apply_all(connection)
            connection.execute("COMMIT")
        except BaseException:
            # A full disk ends the transaction; a second end would hide the first error.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    query = "SELECT DISTINCT state FROM authorizations WHERE state NOT IN ('settled', 'released')"
    unknown = {row[0] for row in connection.execute(query)} - set(State)
    if unknown:
        raise UnknownLayout(f"it holds payments in a state that this version does not know ({min(unknown)!r:.40})")


def _apply_all(connection: sqlite3.Connection) -> None:
    # Read inside the lock: another kernel may have been faster.
    version = _version(connection)
    if version == 0:
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise UnknownLayout("it is a database of another program, or its version is missing")
        _create(connection)
    elif not _SCHEMA_VERSION <= version <= _newest():
        raise UnknownLayout(f"it has version {version}, and this version of blockrun-magic reads {_newest()}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for name, step in list(_MIGRATIONS.items())[max(0, version - _SCHEMA_VERSION) :]:
        step(connection)
        connection.execute("INSERT INTO migrations VALUES (?, ?)", (name, now))
    connection.execute(f"PRAGMA user_version = {_newest()}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _newest() -> int:
    return _SCHEMA_VERSION + len(_MIGRATIONS)


def _create(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)


_SCHEMA = """
CREATE TABLE purchases (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    realm TEXT NOT NULL,
    gateway TEXT NOT NULL,
    digest TEXT NOT NULL,
    take INTEGER NOT NULL,
    request TEXT NOT NULL,
    private INTEGER NOT NULL DEFAULT 0,
    poll_url TEXT,
    answer TEXT,
    finished_at REAL,
    seconds REAL,
    UNIQUE (realm, digest, take)
) STRICT;
CREATE TABLE authorizations (
    id INTEGER PRIMARY KEY,
    purchase_id TEXT NOT NULL REFERENCES purchases (id),
    session TEXT NOT NULL,
    realm TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    state TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    network TEXT,
    payer TEXT,
    pay_to TEXT,
    nonce TEXT UNIQUE,
    valid_before INTEGER,
    header_name TEXT,
    header_value TEXT,
    refused INTEGER NOT NULL DEFAULT 0,
    transaction_hash TEXT,
    note TEXT,
    logged INTEGER NOT NULL DEFAULT 0,
    prepaid INTEGER NOT NULL DEFAULT 0,
    estimated INTEGER NOT NULL DEFAULT 0,
    gateway TEXT,
    last_height INTEGER
) STRICT;
CREATE TABLE pictures (
    purchase_id TEXT NOT NULL REFERENCES purchases (id),
    position INTEGER NOT NULL,
    file TEXT NOT NULL,
    media_type TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    revised_prompt TEXT,
    PRIMARY KEY (purchase_id, position)
) STRICT;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE holds (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    realm TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    expires_at REAL NOT NULL
) STRICT;
CREATE TABLE quotes (
    gateway TEXT NOT NULL,
    price_key TEXT NOT NULL,
    challenge TEXT NOT NULL,
    seen_at REAL NOT NULL,
    PRIMARY KEY (gateway, price_key)
) STRICT;
CREATE INDEX by_purchase ON authorizations (purchase_id);
CREATE INDEX by_session ON authorizations (session, realm);
CREATE INDEX by_day ON authorizations (realm, created_at);
CREATE INDEX by_open_state ON authorizations (state) WHERE state NOT IN ('settled', 'released');
CREATE INDEX by_age ON purchases (realm, created_at) WHERE finished_at IS NOT NULL;
CREATE INDEX by_end ON purchases (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX unfinished ON purchases (created_at) WHERE finished_at IS NULL
"""


@migration
def payloads_and_limits(connection: sqlite3.Connection) -> None:
    """Give every signature, every reservation and every limit a row of its own."""
    for statement in _PAYLOADS_AND_LIMITS.split(";"):
        connection.execute(statement)


_PAYLOADS_AND_LIMITS = """
CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL) STRICT;
DROP TRIGGER IF EXISTS summed;
DROP TRIGGER IF EXISTS moved;
DROP TABLE IF EXISTS sums;
ALTER TABLE authorizations ADD COLUMN witness TEXT;
ALTER TABLE authorizations ADD COLUMN sent_at REAL;
ALTER TABLE authorizations ADD COLUMN cashed_payload INTEGER;
ALTER TABLE authorizations ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0;
UPDATE authorizations SET sent_at = updated_at WHERE state NOT IN ('reserved', 'signed', 'released');
UPDATE authorizations SET superseded = 1 WHERE state <> 'released' AND id <> (
    SELECT max(id) FROM authorizations AS others
    WHERE others.purchase_id = authorizations.purchase_id AND others.state <> 'released');
CREATE UNIQUE INDEX one_open_authorization ON authorizations (purchase_id)
    WHERE state <> 'released' AND superseded = 0;
CREATE TABLE payloads (
    id INTEGER PRIMARY KEY,
    authorization_id INTEGER NOT NULL REFERENCES authorizations (id),
    session TEXT NOT NULL,
    signed_at REAL NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    pay_to TEXT,
    valid_after INTEGER,
    valid_before INTEGER,
    last_height INTEGER,
    header_name TEXT NOT NULL,
    header_value TEXT
) STRICT;
CREATE INDEX by_authorization ON payloads (authorization_id);
INSERT INTO payloads (authorization_id, session, signed_at, amount, pay_to, valid_before, last_height,
    header_name, header_value)
    SELECT id, session, created_at, amount, pay_to, valid_before, last_height, header_name, header_value
    FROM authorizations WHERE header_name IS NOT NULL;
UPDATE authorizations SET header_value = NULL;
CREATE TABLE reservations (
    id INTEGER PRIMARY KEY,
    authorization_id INTEGER NOT NULL REFERENCES authorizations (id),
    session TEXT NOT NULL,
    reserved_at REAL NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0)
) STRICT;
CREATE INDEX reserved_for ON reservations (authorization_id);
INSERT INTO reservations (authorization_id, session, reserved_at, amount)
    SELECT id, session, created_at, amount FROM authorizations;
CREATE TABLE limits (
    owner TEXT NOT NULL,
    period TEXT NOT NULL CHECK (period IN ('image', 'session', 'day')),
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (owner, period)
) STRICT, WITHOUT ROWID;
INSERT INTO limits SELECT 'all', substr(name, 5), CAST(value AS INTEGER) FROM settings
    WHERE name IN ('cap.image', 'cap.session', 'cap.day');
DELETE FROM settings WHERE name LIKE 'cap.%';
DELETE FROM holds;
ALTER TABLE quotes ADD COLUMN monotonic REAL;
CREATE VIEW counted AS
    SELECT authorizations.id AS authorization_id, 'all' AS owner, realm, 'session' AS period,
        reservations.session AS key, reservations.amount AS amount
    FROM authorizations JOIN reservations ON authorization_id = authorizations.id WHERE state <> 'released'
    UNION ALL
    SELECT id, 'all', realm, 'day', CAST(CAST(updated_at / 86400 AS INTEGER) AS TEXT), amount
    FROM authorizations WHERE state = 'settled'
    UNION ALL
    SELECT id, 'all', realm, 'at risk', '', amount FROM authorizations WHERE state NOT IN ('settled', 'released');
CREATE TABLE counters (
    owner TEXT NOT NULL,
    realm TEXT NOT NULL,
    period TEXT NOT NULL,
    key TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (owner, realm, period, key)
) STRICT, WITHOUT ROWID;
INSERT INTO counters SELECT owner, realm, period, key, sum(amount) FROM counted GROUP BY 1, 2, 3, 4
"""
