"""The database at a path or an address."""

from __future__ import annotations

from pathlib import Path

from blockrun_magic.database.engine import Database
from blockrun_magic.database.sqlite import SqliteDatabase

__all__ = ["open_database"]


def open_database(place: Path | str) -> Database:
    """Return the SQLite database at a path, which is created unless it exists; raises LedgerError."""
    return SqliteDatabase(Path(place))
