"""The write-ahead log: transactions that arrive during a disk sync share the next sync."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from blockrun_magic.database import log
from blockrun_magic.database.sqlite import SqliteDatabase
from blockrun_magic.errors import LedgerError
from harness import PATIENCE


class Disk:
    """A disk whose syncs end when the test releases them; it counts them."""

    def __init__(self) -> None:
        self.waits = 0
        self.begun, self.released = threading.Semaphore(0), threading.Semaphore(0)

    def sync(self, _: int) -> None:
        """Wait until the test releases this sync."""
        self.waits += 1
        self.begun.release()
        assert self.released.acquire(timeout=PATIENCE)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """Return a database with a table."""
    with closing(SqliteDatabase(tmp_path / "things.sqlite")) as opened:
        opened.migrate("test", [("things", "CREATE TABLE things (id INTEGER PRIMARY KEY) STRICT;")])
        yield opened


def count(database: SqliteDatabase) -> int:
    """Return the number of rows."""
    with database.reading() as connection:
        return int(connection.execute("SELECT count(*) FROM things").fetchone()[0])


def add(database: SqliteDatabase) -> None:
    """Add a row in a durable transaction."""
    with database.transaction() as connection:
        connection.execute("INSERT INTO things DEFAULT VALUES")


def test_those_that_wait_share_the_next_wait(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight transactions written during one sync all wait for the next one, which they share."""
    disk = Disk()
    monkeypatch.setattr(log, "_sync", disk.sync)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(add, database)
        assert disk.begun.acquire(timeout=PATIENCE)
        others: list[Future[None]] = [pool.submit(add, database) for _ in range(8)]
        written = threading.Event()
        while count(database) < 9:
            written.wait(0.001)
        disk.released.release()
        first.result(PATIENCE)
        assert disk.begun.acquire(timeout=PATIENCE)

        assert not any(other.done() for other in others)
        disk.released.release()
        for other in others:
            other.result(PATIENCE)

    assert 2 == disk.waits


def test_a_wait_that_fails_is_an_error_of_each(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed sync is an error of each transaction; later transactions work again."""

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(log, "_sync", fail)
    for _ in range(2):
        with pytest.raises(LedgerError):
            add(database)
    monkeypatch.undo()
    add(database)


def test_one_that_may_be_lost_does_not_wait(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is not durable returns without a sync."""
    disk = Disk()
    monkeypatch.setattr(log, "_sync", disk.sync)
    with database.transaction(durable=False) as connection:
        connection.execute("INSERT INTO things DEFAULT VALUES")

    assert 0 == disk.waits
