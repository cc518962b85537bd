"""PostgreSQL, for several processes on several machines, with the same promises as a file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from blockrun_magic.database.advisory import AdvisoryLock, AdvisoryLocks, lock_key
from blockrun_magic.database.dialect import FUNCTIONS, translate
from blockrun_magic.database.engine import Connection, Cursor, Database, Migration
from blockrun_magic.database.locks import Lock
from blockrun_magic.database.migrations import apply_missing, missing_migrations
from blockrun_magic.database.pool import ConnectionPool, open_connection
from blockrun_magic.database.server_errors import translate_errors

__all__ = ["PostgresDatabase", "ServerConnection"]

_SCHEMA = "blockrun"
_SYNC_SECONDS = 30.0
_MAX_DRIFT = 0.5


def _create_functions(connection: Connection) -> None:
    for statement in FUNCTIONS:
        connection.execute(statement)


_FIRST: list[Migration] = [("functions", _create_functions)]


class PostgresDatabase(Database):
    """Tables in a separate schema of the database at `address`."""

    path = None
    row_lock = " FOR UPDATE"
    was_empty = False

    def __init__(self, address: str, schema: str = _SCHEMA) -> None:
        self._address = address
        self._schema = schema
        self.name = _name(address)
        self._local = threading.local()
        self._clock = _ServerClock()
        self._pool = ConnectionPool(self._connect)
        self._locks = AdvisoryLocks(self._connect, schema)
        self._create_schema()

    def _connect(self) -> psycopg.Connection[Any]:
        return open_connection(self._address, self._schema)

    def _create_schema(self) -> None:
        query = "SELECT 1 FROM pg_namespace WHERE nspname = ?"
        with self.reading() as reading:
            if reading.execute(query, (self._schema,)).fetchall():
                return
        with self.transaction() as connection:
            self.serialize(connection, "migrations")
            if not connection.execute(query, (self._schema,)).fetchall():
                connection.execute(f"CREATE SCHEMA {_quoted(self._schema)}")

    def _errors(self) -> AbstractContextManager[None]:
        return translate_errors(self.name)

    @contextmanager
    def transaction(self, *, durable: bool = True, new_ids: bool = False) -> Iterator[Connection]:
        """Yield a transaction at READ COMMITTED; after a crash of the server, a sequence may repeat a lost id."""
        begin = "BEGIN" if durable or new_ids else "BEGIN; SET LOCAL synchronous_commit = off"
        with self._errors(), self._begun(begin) as connection:
            yield connection

    @contextmanager
    def _begun(self, begin: str) -> Iterator[ServerConnection]:
        if getattr(self._local, "connection", None) is not None:
            raise psycopg.ProgrammingError("a transaction inside a transaction")
        with self._pool.connection(begin) as raw:
            self._local.connection = ServerConnection(raw)
            try:
                yield self._local.connection
                _commit(raw)
            except BaseException:
                if not raw.broken and raw.info.transaction_status in _OPEN:
                    raw.execute(b"ROLLBACK", prepare=False)
                raise
            finally:
                self._local.connection = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection: this thread's transaction, or one in which each statement is a transaction."""
        current = getattr(self._local, "connection", None)
        with self._errors():
            if current is not None:
                yield current
                return
            with self._pool.connection() as raw:
                reading = _ReadingConnection(raw, self._pool)
                try:
                    yield reading
                finally:
                    reading.close_replacement()

    def serialize(self, connection: Connection, name: str) -> None:
        """Wait until no other transaction has this name, with an advisory lock that ends with the transaction."""
        connection.execute("SELECT pg_advisory_xact_lock(?)", (lock_key(self._schema, f"transaction {name}"),))

    def migrate(self, room: str, migrations: Sequence[Migration]) -> None:
        """Run the migrations of `room` that have not run yet, in one transaction for which all processes wait."""
        with self._errors():
            with self.reading() as reading:
                exists = reading.execute("SELECT to_regclass('migrations')").fetchone()[0] is not None
                if exists and not missing_migrations(reading, room, migrations):
                    return
            with self._begun("BEGIN; SET LOCAL lock_timeout = 60000; SET LOCAL statement_timeout = 0") as connection:
                self.serialize(connection, "migrations")
                apply_missing(connection, "database", _FIRST)
                apply_missing(connection, room, migrations)

    def layout(self, connection: Connection) -> int:  # noqa: ARG002
        """Return 0: no version before named migrations wrote to a server."""
        return 0

    def set_layout(self, connection: Connection, number: int) -> None:
        """Do nothing: no version before named migrations reads a server."""

    def forbid_changes(self, connection: Connection, table: str) -> None:
        """Make `table` append-only, by triggers."""
        for each, action in (("ROW", "UPDATE OR DELETE"), ("STATEMENT", "TRUNCATE")):
            connection.execute(
                f"CREATE TRIGGER {table}_refuses_{each.lower()} BEFORE {action} ON {table}"
                f" FOR EACH {each} EXECUTE FUNCTION refuse_changes()"
            )

    def lock(self, name: str, *, shared: bool = False) -> Lock:
        """Return the session advisory lock called `name`."""
        return _TranslatedLock(AdvisoryLock(self._locks, name, shared=shared), self.name)

    def is_locked(self, name: str) -> bool:
        """Return whether any process holds the advisory lock called `name`."""
        key = lock_key(self._schema, name) & 0xFFFF_FFFF_FFFF_FFFF
        query = """
            SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND CAST(classid AS bigint) = ? AND CAST(objid AS bigint) = ?"""
        with self.reading() as connection:
            return bool(connection.execute(query, (key >> 32, key & 0xFFFF_FFFF)).fetchone())

    @property
    def lost_locks(self) -> AbstractSet[str]:  # type: ignore[override]  # it changes only here
        """Locks that another process has taken since their connection broke, until they are released."""
        return self._locks.lost

    def verify(self) -> None:
        """Ensure a connection that holds our locks; if it broke, take them again. Raises LedgerError."""
        with self._errors():
            self._locks.verify()

    def now(self) -> float:
        """Return the time of the server, which is asked from time to time."""
        if self._clock.is_old():
            with self.reading() as connection:
                self._clock.set(connection)
        return self._clock.now()

    def erase(self) -> bool:
        """Do nothing: the server overwrites deleted content (autovacuum), and users cannot read its files."""
        return True

    def another(self) -> PostgresDatabase:
        """Return the same database with connections of its own."""
        return PostgresDatabase(self._address, self._schema)

    def close(self) -> None:
        """Close all connections, which releases this process's locks."""
        self._pool.close()
        self._locks.close()


_OPEN = (psycopg.pq.TransactionStatus.INTRANS, psycopg.pq.TransactionStatus.INERROR)


class ServerConnection:
    """A connection that reads SQLite's dialect."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self._raw = raw

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Cursor:
        """Run one statement."""
        statement = translate(sql)
        values = statement.arrange(parameters)
        return self._raw.execute(statement.sql, values or None)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor:
        """Run one statement for each of `parameters`."""
        statement = translate(sql)
        cursor = self._raw.cursor()
        cursor.executemany(statement.sql, [statement.arrange(values) for values in parameters])
        return cursor


class _ReadingConnection(ServerConnection):
    """A read-only connection, whose statements are repeated if it turns out to be broken."""

    def __init__(self, raw: psycopg.Connection[Any], pool: ConnectionPool) -> None:
        super().__init__(raw)
        self._pool = pool
        self._first = raw

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Cursor:
        """Run one reading statement."""
        try:
            return super().execute(sql, parameters)
        except psycopg.OperationalError:
            if not self._raw.broken:
                raise
            self._raw = self._pool.replace(self._raw)
            return super().execute(sql, parameters)

    def close_replacement(self) -> None:
        """Close the connection that replaced a broken one."""
        if self._raw is not self._first:
            self._raw.close()


class _TranslatedLock:
    """A lock whose errors are ours."""

    def __init__(self, lock: AdvisoryLock, database: str) -> None:
        self._lock = lock
        self._database = database

    def try_acquire(self) -> bool:
        with translate_errors(self._database):
            return self._lock.try_acquire()

    def release(self) -> None:
        self._lock.release()

    @property
    def is_held(self) -> bool:
        return self._lock.is_held


class _ServerClock:
    """The clock of a server, as its offset from this machine's; asked again after a while, or after a clock change."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._set_at: tuple[float, float] | None = None

    def is_old(self) -> bool:
        """Return whether the offset is outdated."""
        if self._set_at is None:
            return True
        passed = time.monotonic() - self._set_at[0]
        return passed > _SYNC_SECONDS or abs(time.time() - self._set_at[1] - passed) > _MAX_DRIFT

    def set(self, connection: Connection) -> None:
        """Ask the server for its time."""
        before = time.time()
        there = float(connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()[0])
        here = time.time()
        self._ahead = there - (before + here) / 2
        self._set_at = time.monotonic(), here

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time() + self._ahead


def _commit(connection: psycopg.Connection[Any]) -> None:
    if connection.execute(b"COMMIT", prepare=False).statusmessage != "COMMIT":
        raise psycopg.ProgrammingError("a statement of the transaction had failed, so nothing was changed")


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _name(address: str) -> str:
    """Return the address without user, password and options."""
    with translate_errors("at this address"):
        parts = conninfo_to_dict(address)
    return f"postgresql://{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
