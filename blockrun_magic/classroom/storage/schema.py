"""Tables of the classroom, in the database of the ledger."""

from __future__ import annotations

from blockrun_magic.database.engine import Connection, Database, Migration

__all__ = ["create_tables"]

_TABLES = """
CREATE TABLE members (
    id INTEGER PRIMARY KEY,
    name TEXT,
    origin TEXT NOT NULL CHECK (origin IN ('code', 'hub')),
    role TEXT NOT NULL CHECK (role IN ('student', 'teacher')),
    created_at REAL NOT NULL,
    revoked_at REAL,
    forgotten_at REAL,
    tokens REAL,
    tokens_at REAL,
    UNIQUE (origin, name)
);
CREATE TABLE member_groups (
    member_id INTEGER NOT NULL REFERENCES members (id),
    name TEXT NOT NULL,
    PRIMARY KEY (member_id, name)
);
CREATE INDEX members_of_group ON member_groups (name);
CREATE TABLE invitations (
    id INTEGER PRIMARY KEY,
    code_hash TEXT NOT NULL UNIQUE,
    member_id INTEGER REFERENCES members (id),
    people INTEGER NOT NULL,
    uses_left INTEGER NOT NULL CHECK (uses_left >= 0),
    role TEXT NOT NULL,
    group_names TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    revoked_at REAL
);
CREATE TABLE passes (
    hash TEXT PRIMARY KEY,
    member_id INTEGER NOT NULL REFERENCES members (id),
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    revoked_at REAL,
    invitation_id INTEGER REFERENCES invitations (id),
    attempt_hash TEXT
);
CREATE INDEX passes_of_member ON passes (member_id);
CREATE INDEX passes_of_attempt ON passes (invitation_id, attempt_hash);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    member_id INTEGER NOT NULL REFERENCES members (id),
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    body_hash TEXT NOT NULL,
    request TEXT,
    digest TEXT NOT NULL,
    student_digest TEXT,
    realm TEXT NOT NULL,
    take INTEGER NOT NULL,
    max_price_micros INTEGER,
    price_micros INTEGER,
    worker TEXT,
    pays INTEGER NOT NULL DEFAULT 0,
    purchase_id TEXT,
    deferred INTEGER NOT NULL DEFAULT 0,
    cancel_asked INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try_at REAL,
    error TEXT,
    finished_at REAL,
    delivered_at REAL,
    UNIQUE (member_id, key)
);
CREATE UNIQUE INDEX one_paying_order ON orders (member_id, realm, digest, take) WHERE pays = 1;
CREATE INDEX open_orders ON orders (created_at) WHERE state IN ('queued', 'working', 'unknown');
CREATE INDEX orders_by_digest ON orders (realm, digest, take);
CREATE INDEX orders_by_age ON orders (created_at);
CREATE TABLE order_images (
    order_id INTEGER NOT NULL REFERENCES orders (id),
    position INTEGER NOT NULL,
    file TEXT NOT NULL,
    media_type TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    revised_prompt TEXT,
    PRIMARY KEY (order_id, position)
);
CREATE INDEX order_images_by_file ON order_images (file);
CREATE TABLE policies (
    scope TEXT PRIMARY KEY,
    rules TEXT NOT NULL
);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    old_value TEXT,
    new_value TEXT
);
"""


def create_tables(database: Database) -> None:
    """Create missing tables; raises LedgerError if a newer version has changed them."""

    def append_only(connection: Connection) -> None:
        database.forbid_changes(connection, "audit")

    migrations: list[Migration] = [("tables", _TABLES), ("audit_is_append_only", append_only)]
    database.migrate("classroom", migrations)
