"""SQLite: a checked file that only its owner can read, with errors translated into ours."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from blockrun_magic.database.engine import Connection, Database, Migration, UnknownLayout
from blockrun_magic.database.file_errors import FOREIGN, in_our_words, translate_errors
from blockrun_magic.database.locks import FileLocks, Lock
from blockrun_magic.database.log import WriteAheadLog
from blockrun_magic.database.migrations import apply_missing, missing_migrations
from blockrun_magic.errors import LedgerError, Money
from blockrun_magic.files import create_folder, create_private

__all__ = ["BUSY_SECONDS", "SqliteDatabase"]

BUSY_SECONDS = 10.0
"""Seconds to wait for another process that is writing."""
_LOG_PAGES = 4000
"""Pages of the log (of 4 kB) before they are moved to the file, which takes three waits for the disk."""
_MAX_CHECKED_BYTES = 8 * 1024 * 1024


class SqliteDatabase(Database):
    """The database in the file at `path`, shared by the processes of one machine."""

    row_lock = ""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.name = str(path)
        self._lock = _ProcessLock()
        self._locks = FileLocks(path.parent / "locks")
        self._overwritten = False
        with translate_errors(path):
            self.was_empty = not path.is_file() or path.stat().st_size == 0
            self._connection = _connect(path)
            self._log = _log_of(self._connection, path)
        self._turn = _Turn(path, self._connection, self._lock)
        self._opened = self._identity()
        self._rooms: dict[str, Sequence[Migration]] = {}
        self._version = self._read_version()

    @contextmanager
    def transaction(self, *, durable: bool = True, new_ids: bool = False) -> Iterator[Connection]:  # noqa: ARG002
        """Yield a transaction for which all processes wait; a crash that loses ids also ends this process."""
        if durable and self._log is not None:
            with translate_errors(self.path), self._log.lasting(), self._transaction() as connection:
                yield connection
        else:
            with self._transaction() as connection:
                yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._turn as connection, self._changes("IMMEDIATE"):
            yield connection

    @contextmanager
    def _changes(self, kind: str) -> Iterator[None]:
        self._connection.execute(f"BEGIN {kind}")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk ends the transaction; ending it again would hide the first error.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def reading(self) -> AbstractContextManager[Connection]:
        """Yield the connection, which sees the changes of this thread's transaction."""
        return self._turn

    def serialize(self, connection: Connection, name: str) -> None:
        """Do nothing: one transaction writes at a time."""

    def migrate(self, room: str, migrations: Sequence[Migration]) -> None:
        """Run the migrations of `room` that have not run yet, in one transaction for which all processes wait."""
        with self._turn:
            self._migrate(room, migrations)
            self._rooms[room] = migrations
            self._version = self._read_version()

    def _migrate(self, room: str, migrations: Sequence[Migration]) -> None:
        tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'migrations'"
        exists = bool(self._connection.execute(tables).fetchone()[0])
        if exists and not missing_migrations(self._connection, room, migrations):
            return
        # Tables are rebuilt with foreign keys off, as SQLite's manual says; dangling references are an error.
        self._connection.execute("PRAGMA foreign_keys = OFF")
        try:
            with self._changes("EXCLUSIVE"):
                self._check_owner()
                apply_missing(self._connection, room, migrations)
                if broken := self._connection.execute("PRAGMA foreign_key_check").fetchone():
                    raise UnknownLayout(f"a row of {broken[0]} belongs to none of {broken[2]}")
        finally:
            self._connection.execute("PRAGMA foreign_keys = ON")

    def _check_owner(self) -> None:
        """Raise UnknownLayout for a database of another program: tables without a version."""
        tables = {row[0] for row in self._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if tables and "migrations" not in tables and self.layout(self._connection) == 0:
            raise UnknownLayout("it is a database of another program, or its version is missing")

    def layout(self, connection: Connection) -> int:
        """Return `user_version`."""
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def set_layout(self, connection: Connection, number: int) -> None:
        """Change `user_version`."""
        connection.execute(f"PRAGMA user_version = {number}")

    def forbid_changes(self, connection: Connection, table: str) -> None:
        """Make `table` append-only, by triggers."""
        for action in ("UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER {table}_refuses_{action.lower()} BEFORE {action} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )

    def lock(self, name: str, *, shared: bool = False) -> Lock:
        """Return the file lock called `name`, in the folder `locks` beside the database."""
        return self._locks.lock(name, shared=shared)

    def is_locked(self, name: str) -> bool:
        """Return whether a process holds the file lock called `name`."""
        return self._locks.is_locked(name)

    def now(self) -> float:
        """Return the time of this machine."""
        return time.time()

    def verify(self) -> None:
        """Raise LedgerError unless the file at the path is the open one, complete, and of the same version.

        This opens nothing, because closing a file would release SQLite's locks of it. File locks cannot be lost.
        """
        identity = self._identity()
        if (
            self._opened is None
            or identity is None
            or identity[:2] != self._opened[:2]
            or identity[2] < self._opened[2]
        ):
            raise LedgerError(
                f"The ledger {self.path} was moved, removed, cut or replaced while it was open.",
                "Put it back, or restart the kernel to continue with the file that is there now.",
                Money.nothing_sent(),
            )
        with translate_errors(self.path):
            self._check_version()

    def _check_version(self) -> None:
        """Raise UnknownLayout if a newer version has changed the tables since the last check."""
        version = self._read_version()
        if version == self._version:
            return
        if version[1] != self._version[1]:
            raise UnknownLayout(f"it has version {version[1]} since a moment ago")
        for room, migrations in self._rooms.items():
            missing_migrations(self._connection, room, migrations)
        self._version = version

    def _read_version(self) -> tuple[int, int]:
        """Return a number that changes with the tables, and `user_version`."""
        with translate_errors(self.path):
            return int(self._connection.execute("PRAGMA schema_version").fetchone()[0]), self.layout(self._connection)

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size

    def erase(self) -> bool:
        """Empty the write-ahead log, unless another process reads it right now."""
        with self._turn:
            self._connection.execute("PRAGMA busy_timeout = 0")
            try:
                [busy, _, _] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                return not busy
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

    def another(self) -> SqliteDatabase:
        """Return the same file, opened once more."""
        return SqliteDatabase(self.path)

    def close(self) -> None:
        """Close the file; in a forked child the parent's stays open."""
        if self._lock.is_own:
            with self._lock:
                self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file at `path`, created for its owner only."""
    create_folder(path.parent)
    create_private(path)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    # SQLite's lower() handles only ASCII letters, and prompts are in any language.
    connection.create_function("casefold", 1, str.casefold, deterministic=True)
    try:
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        _check_pages(connection, path)
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


def _log_of(connection: sqlite3.Connection, path: Path) -> WriteAheadLog | None:
    """Return the write-ahead log; without one, each commit waits for the disk."""
    [mode] = connection.execute("PRAGMA journal_mode").fetchone()
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
    return WriteAheadLog(path) if mode == "wal" else None


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for this change when several kernels start together, so we wait.
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


class _Turn:
    """A turn of this thread at the connection, with errors translated. One object for all turns, for speed."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: _ProcessLock) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock

    def __enter__(self) -> Connection:
        self._lock.__enter__()
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._lock.__exit__()
        if isinstance(error, FOREIGN):
            raise in_our_words(self._path, error) from (None if isinstance(error, UnknownLayout) else error)


class _ProcessLock:
    """A lock between the threads of one process; in a forked child, it raises LedgerError.

    SQLite forbids using a connection in a child, where a thread of the parent may hold the lock forever.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()

    @property
    def is_own(self) -> bool:
        """Whether this is the process that opened the database."""
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
