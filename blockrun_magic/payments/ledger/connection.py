"""The ledger's file: opened for its owner only, checked, its errors turned into ours."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from blockrun_magic.errors import LedgerError, Money
from blockrun_magic.files import create_folder
from blockrun_magic.payments.ledger.schema import UnknownLayout, migrate

__all__ = [
    "LedgerFile",
    "ProcessLock",
    "SessionLock",
    "connect",
    "is_session_alive",
    "placeholders",
    "translate_errors",
]

BUSY_SECONDS = 10.0
"""How long to wait for another kernel that is writing."""
_MAX_CHECKED_BYTES = 8 * 1024 * 1024
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_RESTORE = "Restore it from a backup, or move it aside: the payments that are open in it would be forgotten."


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file at `path`, created for its owner only and brought up to date."""
    create_folder(path.parent)
    # Created by us with 0600 before SQLite sees it: never readable by others, not for a moment.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    # SQLite's own lower() knows only ASCII letters, and prompts are in any language.
    connection.create_function("casefold", 1, str.casefold, deterministic=True)
    try:
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        _check_pages(connection, path)
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size <= _MAX_CHECKED_BYTES:
        complaint = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        if complaint != "ok":
            error = sqlite3.DatabaseError(complaint.splitlines()[-1])
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for this change when several kernels start together: so we do.
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


class LedgerFile:
    """The identity of the open file: it has to be the one at its path before money is reserved or sent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = self._identity()

    def verify(self) -> None:
        """Raise LedgerError unless the file at the path is the one that is open."""
        if self._opened is None or self._identity() != self._opened:
            raise LedgerError(
                f"The ledger {self._path} was moved, removed or replaced while it was open.",
                "Put it back, or restart the kernel to continue with the file that is there now.",
                Money.nothing_sent(),
            )

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


class SessionLock:
    """A lock of the operating system that lives as long as this process: what the session holds ends with it.

    All ledgers of a session share it.
    """

    def __init__(self, ledger: Path, session: str) -> None:
        self._path = _lock_path(ledger, session)
        self._lock = FileLock(self._path, thread_local=False, is_singleton=True)
        self._taken = False

    def acquire(self) -> None:
        """Take the lock unless it is ours already; raises OSError where it cannot be taken."""
        if not self._taken:
            create_folder(self._path.parent)
            self._lock.acquire(timeout=0)
            self._taken = True

    def release(self) -> None:
        """Give the lock back; the last ledger of the session removes its file."""
        if self._taken:
            self._taken = False
            self._lock.release()
            if not self._lock.is_locked:
                self._path.unlink(missing_ok=True)


def is_session_alive(ledger: Path, session: str) -> bool:
    """Return whether a process holds the lock of `session`."""
    path = _lock_path(ledger, session)
    if not path.exists():
        return False
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return True  # it cannot be told: what it holds stays held
    path.unlink(missing_ok=True)
    lock.release()
    return False


def _lock_path(ledger: Path, session: str) -> Path:
    name = "".join(letter for letter in session if letter.isalnum() or letter in "-_")[:80]
    return ledger.parent / "locks" / f"session-{name}.lock"


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's and the file system's errors into ours, which say what is wrong and what to do."""
    try:
        yield
    except UnknownLayout as error:
        raise LedgerError(
            f"The ledger {path} cannot be used: {error}.",
            "Install the version of blockrun-magic that wrote it, or restore it from a backup.",
            Money.nothing_sent(),
        ) from None
    except (sqlite3.Error, OSError, Timeout) as error:
        raise LedgerError(f"The ledger {path} {_complaint(error)}.", _remedy(error), Money.nothing_sent()) from error


def _complaint(error: Exception) -> str:
    if _code(error) in _DAMAGE or "no such table" in str(error):
        return f"is damaged: {error}"
    return f"cannot be used: {error}"


def _remedy(error: Exception) -> str:
    code = _code(error)
    if code in _DAMAGE or "no such table" in str(error) or isinstance(error, IsADirectoryError):
        return _RESTORE
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "Another kernel is writing to it. Run the cell again in a moment."
    if code == sqlite3.SQLITE_FULL:
        return "Free some space, then run the cell again."
    return "Check its free space and permissions, then run the cell again."


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


class ProcessLock:
    """A lock between the threads of one process; in a forked child it raises LedgerError.

    SQLite forbids to use a connection in a child. The lock may also be held there for ever, by a thread of the parent.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()

    @property
    def is_own(self) -> bool:
        """Whether this is the process that opened the ledger."""
        return self._pid == os.getpid()

    def __enter__(self) -> None:
        if not self.is_own:
            raise LedgerError(
                "This studio was opened by the parent of this process.",
                "Open one in this process with open_studio(), or call generate() without a studio.",
                Money.nothing_sent(),
            )
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def placeholders(values: Sequence[Any]) -> str:
    """Return as many SQL placeholders as there are `values`."""
    return ", ".join("?" * len(values))
