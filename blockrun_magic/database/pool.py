"""Connections to PostgreSQL: a few per process, opened at first use, and replaced when they break."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown

from blockrun_magic.database.dialect import row_class
from blockrun_magic.errors import LedgerError, Money

__all__ = ["MAX_CONNECTIONS", "PATIENCE", "ConnectionPool", "open_connection"]

MAX_CONNECTIONS = 8
"""Number of a process's connections for transactions; its locks use one more."""
PATIENCE = 10.0
"""Seconds to wait for a connection, for another process's transaction, and for a restarting server."""
_PAUSE = 0.1
_SETTINGS = """
SET synchronous_commit = on;
SET lock_timeout = {limit};
SET statement_timeout = {longest};
SET idle_in_transaction_session_timeout = {idle};
SET timezone = 'UTC';
SET jit = off;
SET search_path TO "{schema}";
"""
_PROMPT_END = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3;"
"""The server detects within 14 seconds that a machine is gone."""


class _Text(StrDumperUnknown):
    """Text for PostgreSQL, which has no NUL."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


class _Number(psycopg.adapt.Loader):
    """A sum of integers is an integer, as in SQLite."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


def open_connection(address: str, schema: str) -> psycopg.Connection[Any]:
    """Return a new connection; raises psycopg.Error."""
    connection: psycopg.Connection[Any] = psycopg.connect(
        address,
        autocommit=True,
        connect_timeout=5,
        tcp_user_timeout=20_000,
        application_name="blockrun-magic",
        cursor_factory=psycopg.RawCursor,
        row_factory=_rows,
        prepare_threshold=3,
    )
    try:
        connection.adapters.register_dumper(int, Int8Dumper)
        connection.adapters.register_dumper(str, _Text)
        connection.adapters.register_loader("numeric", _Number)
        limit = int(PATIENCE * 1000)
        settings = _SETTINGS.format(
            limit=limit, longest=3 * limit, idle=limit * 4 // 5, schema=schema.replace('"', '""')
        )
        connection.execute((_PROMPT_END + settings).encode(), prepare=False)
    except BaseException:
        connection.close()
        raise
    return connection


def _rows(cursor: psycopg.Cursor[Any]) -> Callable[[Any], Any]:
    result = cursor.pgresult  # the description would create an object per column for every statement
    return row_class(() if result is None else tuple(map(result.fname, range(result.nfields))))


class ConnectionPool:
    """The connections of this process; a forked child has to open its own."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._idle: list[psycopg.Connection[Any]] = []
        self._free = threading.Semaphore(MAX_CONNECTIONS)
        self._pid = os.getpid()
        self._closed = False

    @contextmanager
    def connection(self, begin: str | None = None) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection for this thread only, inside a transaction that `begin` starts.

        Replaces a broken one, and waits for a restarting server. Raises psycopg.Error or TimeoutError.
        """
        self._check()
        if not self._free.acquire(timeout=PATIENCE):
            raise TimeoutError(f"all {MAX_CONNECTIONS} connections of this process are busy")
        connection = None
        try:
            connection = self._begun(begin)
            yield connection
        finally:
            if connection is not None:
                self._put_back(connection)
            self._free.release()

    def _begun(self, begin: str | None) -> psycopg.Connection[Any]:
        end = time.monotonic() + PATIENCE
        while True:
            connection = None
            try:
                connection = self._idle.pop() if self._idle else self._connect()
                if begin is not None:
                    connection.execute(begin.encode(), prepare=False)
            except psycopg.OperationalError:
                if connection is not None:
                    connection.close()
                    continue  # other idle ones may be broken as well
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE)
            else:
                return connection

    def _put_back(self, connection: psycopg.Connection[Any]) -> None:
        if self._closed or connection.info.transaction_status is not TransactionStatus.IDLE:
            connection.close()  # the server rolls the transaction back
        else:
            self._idle.append(connection)

    def replace(self, broken: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
        """Return a working connection in place of a thread's broken one."""
        broken.close()
        return self._begun("SELECT 1")

    def close(self) -> None:
        """Close all connections; in a forked child the parent's stay open."""
        if self._pid == os.getpid():
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    def _check(self) -> None:
        if self._closed:
            raise psycopg.OperationalError("it was closed")
        if self._pid != os.getpid():
            raise LedgerError(
                "This database was opened by the parent of this process.",
                "Open it in this process.",
                Money.nothing_sent(),
            )
