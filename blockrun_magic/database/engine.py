"""The interface of a database: transactions, named migrations, locks, and the SQL that both engines read.

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
    """A row that must be the only one of its kind is there already; the transaction has changed nothing."""


class UnknownLayout(Exception):
    """The database has tables that this version does not know how to read."""


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
        """How many rows were changed."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""

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
    """The file, or None where a server has it."""
    name: str
    """The name of the database in messages; it holds no password."""
    row_lock: str
    """The end of a SELECT whose rows nobody else may change before the transaction ends."""
    lost_locks: AbstractSet[str] = frozenset()
    """The locks that this process held until their connection broke, and that another process has now."""
    was_empty: bool
    """Whether it was a new file when it was opened."""

    @abstractmethod
    def transaction(self, *, durable: bool = True, new_ids: bool = False) -> AbstractContextManager[Connection]:
        """Yield a transaction: all of it holds afterwards, or nothing has changed.

        With `durable`, this and all earlier transactions are on disk afterwards. Without it, a power cut may undo the
        transaction. With `new_ids`, it makes rows whose ids this process will use: they must be there as long as it
        lives, whatever happens to a server.
        """

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """Yield a connection for reading."""

    @abstractmethod
    def serialize(self, connection: Connection, name: str) -> None:
        """Let one transaction at a time do what is called `name`: the others wait here until it has ended."""

    @abstractmethod
    def migrate(self, room: str, migrations: Sequence[Migration]) -> None:
        """Run the migrations of a room that have not run yet, in one transaction; safe with many processes.

        They are known by their names and never change. Raises LedgerError where the database knows a newer one.
        """

    @abstractmethod
    def layout(self, connection: Connection) -> int:
        """Return the number by which versions before named migrations know the tables of a file; 0 without one."""

    @abstractmethod
    def set_layout(self, connection: Connection, number: int) -> None:
        """Change that number, so that such versions do not touch newer tables."""

    @abstractmethod
    def forbid_changes(self, connection: Connection, table: str) -> None:
        """Make `table` append-only: the database itself refuses UPDATE and DELETE."""

    @abstractmethod
    def lock(self, name: str, *, shared: bool = False) -> Lock:
        """Return the lock called `name`; it ends with its process.

        With `shared`, all that this process takes by this name count as one.
        """

    @abstractmethod
    def is_locked(self, name: str) -> bool:
        """Return whether a process holds the lock called `name`."""

    @abstractmethod
    def now(self) -> float:
        """Return Unix seconds by the clock of the database."""

    @abstractmethod
    def verify(self) -> None:
        """Raise LedgerError unless this is still the database that was opened; find out which locks were lost."""

    @abstractmethod
    def erase(self) -> bool:
        """Remove what was overwritten from the files, as far as that can be done now; return whether it was."""

    @abstractmethod
    def another(self) -> Database:
        """Return the same database, opened once more."""

    @abstractmethod
    def close(self) -> None:
        """Close it; it is not used afterwards. In a forked child the parent's stays open."""


def placeholders(values: Sequence[Any] | Mapping[Any, Any]) -> str:
    """Return as many SQL placeholders as there are `values`."""
    return ", ".join("?" * len(values))
