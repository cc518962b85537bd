"""Errors of SQLite and of the file system, translated into ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from blockrun_magic.database.engine import NotUnique, UnknownLayout
from blockrun_magic.errors import LedgerError, Money

__all__ = ["FOREIGN", "in_our_words", "translate_errors"]

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_RESTORE = "Restore it from a backup, or move it aside: its open payments are then forgotten."
FOREIGN = (sqlite3.Error, OSError, Timeout, UnknownLayout)
_NOT_UNIQUE = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and the file system into ours."""
    try:
        yield
    except FOREIGN as error:
        raise in_our_words(path, error) from (None if isinstance(error, UnknownLayout) else error)


def in_our_words(path: Path, error: Exception) -> LedgerError:
    """Return our error for one of `FOREIGN` about the file at `path`."""
    if isinstance(error, UnknownLayout):
        return LedgerError(
            f"The ledger {path} cannot be used: {error}.",
            "Install the version of blockrun-magic that wrote it, or restore it from a backup.",
            Money.nothing_sent(),
        )
    kind = NotUnique if getattr(error, "sqlite_errorcode", None) in _NOT_UNIQUE else LedgerError
    return kind(f"The ledger {path} {_complaint(error)}.", _remedy(error), Money.nothing_sent())


def _complaint(error: Exception) -> str:
    if _code(error) in _DAMAGE:
        return f"is damaged: {error}"
    return f"cannot be used: {error}"


def _remedy(error: Exception) -> str:
    code = _code(error)
    if code in _DAMAGE or isinstance(error, IsADirectoryError):
        return _RESTORE
    if code == sqlite3.SQLITE_ERROR:  # a table is missing, or a statement of ours is wrong
        return "Restore it from a backup if another program has changed it; otherwise report this line."
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "Another kernel is writing to it. Run the cell again in a moment."
    if code == sqlite3.SQLITE_FULL:
        return "Free some space, then run the cell again."
    return "Check its free space and permissions, then run the cell again."


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
