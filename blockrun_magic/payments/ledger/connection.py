"""The ledger's file: opened with the right mode, its errors told in our words."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blockrun_magic.errors import LedgerError, Money
from blockrun_magic.files import create_folder
from blockrun_magic.payments.ledger.schema import migrate

__all__ = ["connect", "placeholders", "translate_errors"]

BUSY_SECONDS = 10.0
"""How long to wait for another kernel that is writing."""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file at `path`, created for its owner only and brought up to date."""
    create_folder(path.parent)
    # Created by us with 0600 before SQLite sees it: never readable by others, not for a moment.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    # SQLite's own lower() knows no letters but ASCII's, and prompts are in any language.
    connection.create_function("casefold", 1, str.casefold, deterministic=True)
    try:
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # The one change that SQLite does not wait for when several kernels begin together: so we do.
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's and the file system's errors into ours, which say what to do."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"The ledger {path} cannot be used: {error}.",
            "Check free space and permissions, then run the cell again.",
            Money.nothing_sent(),
        ) from error


def placeholders(values: Sequence[Any]) -> str:
    """Return as many SQL placeholders as there are `values`."""
    return ", ".join("?" * len(values))
