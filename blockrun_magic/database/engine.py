"""Interface of a database: transactions, named migrations, locks, and SQL for both engines.

The SQL is SQLite's, as far as PostgreSQL has the same: `?`, `?1` or `:name` for values, INTEGER, REAL, TEXT and
BLOB, `RETURNING`, `ON CONFLICT`. A row is read by name and by index.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from blockrun_magic.database.locks import Lock
from blockrun_magic.errors import LedgerError

__all__ = ["Connection", "Cursor", "Database", "Migration", "NotUnique", "Row", "UnknownLayout", "placeholders"]


class NotUnique(LedgerError):
    """A row that must be unique exists already; the transaction has changed nothing."""


class UnknownLayout(Exception):
    """The database has tables that this version cannot read."""


class Row(Protocol):
    """One row, read by name and by index."""

    def __getitem__(self, key: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def keys(self) -> Any:
        """Return the names of the columns."""


class Cursor(Protocol):
    """The rows of one statement."""

    @property
    def rowcount(self) -> int:
        """The number of changed rows."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return the remaining rows."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection inside a transaction, or for reading."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor:
        """Run one statement."""

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor:
        """Run one statement for each of `parameters`."""


Migration = tuple[str, str | Callable[[Connection], None]]
"""A name, and the statements (each ends its line with `;`) or the function that changes the tables."""


class Database(ABC):
    """A database; safe from several threads and processes.

    Every method raises LedgerError when the database cannot be used, and then nothing has changed.
    """

    path: Path | None
    """The file, or None for a server."""
    name: str
    """The name of the database in messages; it holds no password."""
    row_lock: str
    """The end of a SELECT whose rows are locked until the transaction ends."""
    lost_locks: AbstractSet[str] = frozenset()
    """Locks that this process held until their connection broke, and that another process holds now."""
    was_empty: bool
    """Whether opening it created a new file."""

    @abstractmethod
    def transaction(self, *, durable: bool = True, new_ids: bool = False) -> AbstractContextManager[Connection]:
        """Yield a transaction: all of it applies, or nothing has changed.

        With `durable`, this and all earlier transactions are on disk afterwards. Without it, a power cut may undo the
        transaction. With `new_ids`, it makes rows whose ids this process will use: they must survive a crash of the
        server.
        """

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """Yield a connection for reading."""

    @abstractmethod
    def serialize(self, connection: Connection, name: str) -> None:
        """Let only one transaction at a time pass with `name`; the others wait here until it has ended."""

    @abstractmethod
    def migrate(self, room: str, migrations: Sequence[Migration]) -> None:
        """Run the migrations of a room that have not run yet, in one transaction; safe with many processes.

        They are identified by their names and never change. Raises LedgerError if the database has a newer one.
        """

    @abstractmethod
    def layout(self, connection: Connection) -> int:
        """Return the version number that a file had before named migrations; 0 without one."""

    @abstractmethod
    def set_layout(self, connection: Connection, number: int) -> None:
        """Change that number, so that older releases do not open newer tables."""

    @abstractmethod
    def forbid_changes(self, connection: Connection, table: str) -> None:
        """Make `table` append-only: the database itself refuses UPDATE and DELETE."""

    @abstractmethod
    def lock(self, name: str, *, shared: bool = False) -> Lock:
        """Return the lock called `name`; it ends with its process.

        With `shared`, all locks of this name in this process count as one.
        """

    @abstractmethod
    def is_locked(self, name: str) -> bool:
        """Return whether a process holds the lock called `name`."""

    @abstractmethod
    def now(self) -> float:
        """Return Unix seconds by the clock of the database."""

    @abstractmethod
    def verify(self) -> None:
        """Raise LedgerError unless this is still the database that was opened; detects lost locks."""

    @abstractmethod
    def erase(self) -> bool:
        """Remove overwritten content from the files, if possible now; return whether it was removed."""

    @abstractmethod
    def another(self) -> Database:
        """Return the same database, opened once more."""

    @abstractmethod
    def close(self) -> None:
        """Close the database for good. In a forked child, the parent's stays open."""


def placeholders(values: Sequence[Any] | Mapping[Any, Any]) -> str:
    """Return as many SQL placeholders as there are `values`."""
    return ", ".join("?" * len(values))
