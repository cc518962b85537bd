"""The ledger's file: opened with the right mode, its errors told in our words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blockrun_magic.errors import LedgerError

__all__ = ["connect", "marks", "told"]


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file at `path`, created for its owner only, with durable writes."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Created by us with 0600 before SQLite sees it: never readable by others, not for a moment.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn SQLite's and the file system's errors into ours, which say what to do."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"The ledger {path} cannot be used: {error}.",
            "Nothing was sent. Check free space and permissions, then run the cell again.",
        ) from error


def marks(values: Sequence[Any]) -> str:
    """Return as many SQL placeholders as there are `values`."""
    return ", ".join("?" * len(values))
