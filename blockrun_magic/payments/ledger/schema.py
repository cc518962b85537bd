"""Tables of the ledger, and their named migrations.

The SQL is for both engines. Files of 0.1 (`user_version` 6 and 7) are SQLite's, and are brought to the same tables.
Never edit a migration that was released: add another one.
"""

from __future__ import annotations

from functools import partial

from blockrun_magic.database.engine import Connection, Database, Migration, UnknownLayout
from blockrun_magic.database.migrations import statements
from blockrun_magic.payments.ledger.states import State

__all__ = ["migrate"]

_LAYOUT = 8
"""The `user_version` of these tables: 0.1 does not open them. It never changes again; migrations have names."""


def migrate(database: Database) -> None:
    """Bring the tables of the ledger up to date; safe while other processes do the same. Raises LedgerError."""
    first: Migration = ("owners", partial(_create_or_convert, database))
    database.migrate("ledger", [first, *_MIGRATIONS])
    with database.reading() as connection:
        if (layout := database.layout(connection)) not in (0, _LAYOUT):
            raise _unknown_version(layout)
        query = "SELECT DISTINCT state FROM authorizations WHERE state NOT IN ('settled', 'released')"
        unknown = {row[0] for row in connection.execute(query)} - set(State)
        if unknown:
            raise UnknownLayout(f"it holds payments in a state that this version does not know ({min(unknown)!r:.40})")


def _create_or_convert(database: Database, connection: Connection) -> None:
    match database.layout(connection):
        case 0:
            script = _TABLES + _INDEXES + _COUNTERS
        case 6:
            script = _FROM_6_TO_7 + _FROM_7
        case 7:
            script = _FROM_7
        case version:
            raise _unknown_version(version)
    for statement in statements(script):
        connection.execute(statement)
    database.set_layout(connection, _LAYOUT)


def _unknown_version(version: int) -> UnknownLayout:
    return UnknownLayout(f"it has version {version}, and this version of blockrun-magic reads {_LAYOUT}")


def _index_settled_payments(connection: Connection) -> None:
    """Index settled payments, so that today's, and those missing in the cost log, are found without reading all."""
    connection.execute("CREATE INDEX settled_by_time ON authorizations (realm, updated_at) WHERE state = 'settled'")
    connection.execute(
        "CREATE INDEX missing_in_log ON authorizations (realm, updated_at) WHERE state = 'settled' AND logged = 0"
    )


_SUMS = """
CREATE TABLE sums (
    realm TEXT NOT NULL, model TEXT NOT NULL, day INTEGER NOT NULL,
    payments INTEGER NOT NULL, settled INTEGER NOT NULL, estimated INTEGER NOT NULL,
    PRIMARY KEY (realm, model, day)
) STRICT, WITHOUT ROWID;
"""
_MIGRATIONS: list[Migration] = [("settled payments", _index_settled_payments), ("sums of payments", _SUMS)]
"""Migrations of the tables below, the newest last."""

_PURCHASES = """
CREATE TABLE {name} (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL DEFAULT '',
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
    UNIQUE (realm, digest, take, owner)
) STRICT;
"""
_TABLES = (
    _PURCHASES.format(name="purchases")
    + """
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
    last_height INTEGER,
    witness TEXT,
    sent_at REAL,
    cashed_payload INTEGER,
    superseded INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT ''
) STRICT;
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
CREATE TABLE reservations (
    id INTEGER PRIMARY KEY,
    authorization_id INTEGER NOT NULL REFERENCES authorizations (id),
    session TEXT NOT NULL,
    reserved_at REAL NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    subjects TEXT,
    windows TEXT
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
    monotonic REAL,
    PRIMARY KEY (gateway, price_key)
) STRICT;
"""
)
_INDEXES_OF_PURCHASES = """
CREATE INDEX by_age ON purchases (realm, created_at) WHERE finished_at IS NOT NULL;
CREATE INDEX by_end ON purchases (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX unfinished ON purchases (created_at) WHERE finished_at IS NULL;
"""
_INDEXES = (
    _INDEXES_OF_PURCHASES
    + """
CREATE INDEX by_purchase ON authorizations (purchase_id);
CREATE INDEX by_session ON authorizations (session, realm);
CREATE INDEX by_day ON authorizations (realm, created_at);
CREATE INDEX by_open_state ON authorizations (state) WHERE state NOT IN ('settled', 'released');
CREATE UNIQUE INDEX one_open_authorization ON authorizations (purchase_id)
    WHERE state <> 'released' AND superseded = 0;
CREATE INDEX by_authorization ON payloads (authorization_id);
CREATE INDEX reserved_for ON reservations (authorization_id);
"""
)
_COUNTERS = """
CREATE TABLE limits (
    subject TEXT NOT NULL,
    period TEXT NOT NULL CHECK (period IN ('image', 'session', 'day', 'week', 'month', 'total')),
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (subject, period)
) STRICT, WITHOUT ROWID;
CREATE VIEW counted AS
    SELECT authorizations.id AS authorization_id, '' AS subject, realm, 'session' AS period,
        reservations.session AS key, reservations.amount AS amount
    FROM authorizations JOIN reservations ON authorization_id = authorizations.id
    WHERE state <> 'released' AND owner = ''
    UNION ALL
    SELECT id, '', realm, 'day', CAST(CAST(updated_at / 86400 AS INTEGER) AS TEXT), amount
    FROM authorizations WHERE state = 'settled' AND owner = ''
    UNION ALL
    SELECT id, '', realm, 'at risk', '', amount
    FROM authorizations WHERE state NOT IN ('settled', 'released') AND owner = ''
    UNION ALL
    SELECT authorizations.id, subject.value, realm, period.key, period.value, reservations.amount
    FROM authorizations JOIN reservations ON authorization_id = authorizations.id
    CROSS JOIN json_each(reservations.subjects) AS subject CROSS JOIN json_each(reservations.windows) AS period
    WHERE state <> 'released' AND owner <> '';
CREATE TABLE counters (
    subject TEXT NOT NULL,
    realm TEXT NOT NULL,
    period TEXT NOT NULL,
    key TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (subject, realm, period, key)
) STRICT, WITHOUT ROWID;
INSERT INTO counters (subject, realm, period, key, amount)
    SELECT subject, realm, period, key, sum(amount) FROM counted GROUP BY 1, 2, 3, 4;
"""

_FROM_6_TO_7 = """
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
CREATE TABLE limits (owner TEXT NOT NULL, period TEXT NOT NULL, amount INTEGER NOT NULL) STRICT;
INSERT INTO limits SELECT 'all', substr(name, 5), CAST(value AS INTEGER) FROM settings
    WHERE name IN ('cap.image', 'cap.session', 'cap.day');
DELETE FROM settings WHERE name LIKE 'cap.%';
DELETE FROM holds;
ALTER TABLE quotes ADD COLUMN monotonic REAL;
"""
_FROM_7 = (
    """
DROP VIEW IF EXISTS counted;
DROP TABLE IF EXISTS counters;
ALTER TABLE limits RENAME TO limits_of_0_1;
ALTER TABLE authorizations ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE reservations ADD COLUMN subjects TEXT;
ALTER TABLE reservations ADD COLUMN windows TEXT;
"""
    + _PURCHASES.format(name="purchases_with_owners")
    + """
INSERT INTO purchases_with_owners (id, created_at, realm, gateway, digest, take, request, private, poll_url, answer,
    finished_at, seconds)
    SELECT id, created_at, realm, gateway, digest, take, request, private, poll_url, answer, finished_at, seconds
    FROM purchases;
DROP TABLE purchases;
ALTER TABLE purchases_with_owners RENAME TO purchases;
"""
    + _INDEXES_OF_PURCHASES
    + _COUNTERS
    + """
INSERT INTO limits (subject, period, amount) SELECT '', period, amount FROM limits_of_0_1;
DROP TABLE limits_of_0_1;
"""
)
