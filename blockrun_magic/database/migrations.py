"""Named migrations: each runs once in a database, in the order of its room's list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from blockrun_magic.database.engine import Connection, Migration, UnknownLayout

__all__ = ["apply_missing", "missing_migrations", "statements"]

_TABLE = "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)"
_END = re.compile(r";[ \t]*(?:\n|$)")


def missing_migrations(connection: Connection, room: str, migrations: Sequence[Migration]) -> list[Migration]:
    """Return the migrations of `room` that have not run yet; raises UnknownLayout for one that a newer version ran."""
    query = "SELECT name FROM migrations WHERE name LIKE ?"
    done = {row[0].partition("/")[2] for row in connection.execute(query, (f"{room}/%",))}
    if unknown := done - {name for name, _ in migrations}:
        raise UnknownLayout(f"a newer version of blockrun-magic has changed it ({min(unknown)})")
    return [(name, step) for name, step in migrations if name not in done]


def apply_missing(connection: Connection, room: str, migrations: Sequence[Migration]) -> None:
    """Run the migrations of `room` that have not run yet, inside an exclusive transaction."""
    connection.execute(_TABLE)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for name, step in missing_migrations(connection, room, migrations):
        if isinstance(step, str):
            for statement in statements(step):
                connection.execute(statement)
        else:
            step(connection)
        connection.execute("INSERT INTO migrations (name, applied_at) VALUES (?, ?)", (f"{room}/{name}", now))


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; each ends its line with `;`."""
    return (statement.strip() for statement in _END.split(script) if statement.strip())
