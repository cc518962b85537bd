"""Opening of the database at a path or an address."""

from __future__ import annotations

from pathlib import Path

from blockrun_magic.database.engine import Database
from blockrun_magic.database.sqlite import SqliteDatabase
from blockrun_magic.errors import MissingDependency

__all__ = ["open_database"]

_SERVERS = ("postgresql://", "postgres://")


def open_database(place: Path | str) -> Database:
    """Return the database at a path (SQLite, created unless it exists) or an address (PostgreSQL).

    Raises LedgerError, or MissingDependency if psycopg is not installed.
    """
    if not str(place).startswith(_SERVERS):
        return SqliteDatabase(Path(place))
    try:
        from blockrun_magic.database.postgresql import PostgresDatabase
    except ImportError:
        raise MissingDependency(
            "PostgreSQL needs the library psycopg, which is not installed.",
            'Run `pip install "blockrun-magic[classroom]"`.',
        ) from None
    return PostgresDatabase(str(place))
