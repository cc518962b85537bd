"""The ledger's tables, as migrations that are applied once each, in order.

A migration is a plain function; `@migration` adds it to the list. Never edit one that was released:
add another.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

__all__ = ["migrate"]

Migration = Callable[[sqlite3.Connection], None]
_MIGRATIONS: list[Migration] = []


def migration(function: Migration) -> Migration:
    """Add `function` to the migrations, in the order of this file."""
    _MIGRATIONS.append(function)
    return function


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database up to date; safe while other kernels do the same."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == len(_MIGRATIONS):
        return
    connection.execute("BEGIN EXCLUSIVE")
    try:
        # Read again inside the lock: another kernel may have been faster.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for step in _MIGRATIONS[version:]:
            step(connection)
        connection.execute(f"PRAGMA user_version = {max(version, len(_MIGRATIONS))}")
        connection.execute("COMMIT")
    except BaseException:
        # A full disk ends the transaction by itself; a second end would hide the first error.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@migration
def purchases_authorizations_pictures(connection: sqlite3.Connection) -> None:
    """Create the three tables of a purchase: what was wanted, how it was paid, what came."""
    connection.execute("""
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
        ) STRICT""")
    connection.execute("""
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
            logged INTEGER NOT NULL DEFAULT 0
        ) STRICT""")
    connection.execute("""
        CREATE TABLE pictures (
            purchase_id TEXT NOT NULL REFERENCES purchases (id),
            position INTEGER NOT NULL,
            file TEXT NOT NULL,
            media_type TEXT NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            revised_prompt TEXT,
            PRIMARY KEY (purchase_id, position)
        ) STRICT""")
    connection.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
    connection.execute("CREATE INDEX by_purchase ON authorizations (purchase_id)")
    connection.execute("CREATE INDEX by_session ON authorizations (session, realm)")
    connection.execute("CREATE INDEX by_day ON authorizations (realm, created_at)")
    connection.execute(
        "CREATE INDEX by_open_state ON authorizations (state) WHERE state NOT IN ('settled', 'released')"
    )


@migration
def holds(connection: sqlite3.Connection) -> None:
    """Create the table of what batches hold of the caps before their parts are reserved."""
    connection.execute("""
        CREATE TABLE holds (
            id INTEGER PRIMARY KEY,
            session TEXT NOT NULL,
            realm TEXT NOT NULL,
            amount INTEGER NOT NULL CHECK (amount >= 0),
            expires_at REAL NOT NULL
        ) STRICT""")


@migration
def payments_by_others(connection: sqlite3.Connection) -> None:
    """Tell payments that somebody else makes, and sums that are estimated; each payment names its gateway."""
    connection.execute("ALTER TABLE authorizations ADD COLUMN prepaid INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE authorizations ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE authorizations ADD COLUMN gateway TEXT")
    connection.execute(
        "UPDATE authorizations SET gateway = (SELECT gateway FROM purchases WHERE purchases.id = purchase_id)"
    )


@migration
def heights(connection: sqlite3.Connection) -> None:
    """Keep the height after which no block of Solana can hold a payment."""
    connection.execute("ALTER TABLE authorizations ADD COLUMN last_height INTEGER")


@migration
def quotes(connection: sqlite3.Connection) -> None:
    """Keep what gateways asked for lately."""
    connection.execute("""
        CREATE TABLE quotes (
            gateway TEXT NOT NULL,
            price_key TEXT NOT NULL,
            challenge TEXT NOT NULL,
            seen_at REAL NOT NULL,
            PRIMARY KEY (gateway, price_key)
        ) STRICT""")


_ADDED = """
    INSERT INTO sums SELECT
        {row}.realm, CAST({row}.created_at / 86400 AS INTEGER), coalesce(json_extract(request, '$.model'), ''),
        {row}.state, {row}.estimated, {sign} {row}.amount, {sign} 1
    FROM purchases WHERE id = {row}.purchase_id
    ON CONFLICT DO UPDATE SET amount = amount + excluded.amount, payments = payments + excluded.payments;
"""


@migration
def quick_books(connection: sqlite3.Connection) -> None:
    """Answer in milliseconds after a million receipts: sums of days that triggers keep up, and indices."""
    connection.execute("""
        CREATE TABLE sums (
            realm TEXT NOT NULL,
            day INTEGER NOT NULL,
            model TEXT NOT NULL,
            state TEXT NOT NULL,
            estimated INTEGER NOT NULL,
            amount INTEGER NOT NULL,
            payments INTEGER NOT NULL,
            PRIMARY KEY (realm, day, model, state, estimated)
        ) STRICT, WITHOUT ROWID""")
    for name, event, signs in (
        ("summed", "INSERT", ("+ NEW",)),
        ("moved", "UPDATE OF state, amount, estimated, realm, created_at", ("- OLD", "+ NEW")),
    ):
        steps = " ".join(_ADDED.format(sign=sign, row=row) for sign, row in map(str.split, signs))
        connection.execute(f"CREATE TRIGGER {name} AFTER {event} ON authorizations BEGIN {steps} END")
    connection.execute("""
        INSERT INTO sums SELECT authorizations.realm, CAST(authorizations.created_at / 86400 AS INTEGER),
            coalesce(json_extract(request, '$.model'), ''), state, estimated, sum(amount), count(*)
        FROM authorizations JOIN purchases ON purchases.id = purchase_id GROUP BY 1, 2, 3, 4, 5""")
    connection.execute("CREATE INDEX by_age ON purchases (realm, created_at) WHERE finished_at IS NOT NULL")
    connection.execute("CREATE INDEX by_end ON purchases (finished_at) WHERE finished_at IS NOT NULL")
    connection.execute("CREATE INDEX unfinished ON purchases (created_at) WHERE finished_at IS NULL")
