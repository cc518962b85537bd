"""The database interface, tested on both engines."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from blockrun_magic.database.engine import Connection, Database, NotUnique
from blockrun_magic.database.opening import open_database
from blockrun_magic.database.postgresql import PostgresDatabase
from blockrun_magic.errors import LedgerError
from harness.ledgers import ENGINES

TABLE = "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, weight REAL, data BLOB) STRICT;"
SELECT = "SELECT name FROM things WHERE "
WEIGHT = "SELECT weight FROM things WHERE name = 'a'"
INSERT = "INSERT INTO things (name, weight) VALUES (?, ?) RETURNING id"


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return an empty database with one table, for each engine."""
    if request.param == "sqlite":
        opened: Database = open_database(tmp_path / "a" / "things.sqlite")
    else:
        opened = PostgresDatabase(request.getfixturevalue("cluster").address(), f"test {secrets.token_hex(4)}")
    with closing(opened):
        opened.migrate("test", [("things", TABLE)])
        yield opened


def names(database: Database) -> list[str]:
    """Return the names of all rows, in order."""
    with database.reading() as connection:
        return [row["name"] for row in connection.execute("SELECT name FROM things ORDER BY id")]


def add(connection: Connection, name: str) -> int:
    """Add a row and return its id."""
    return int(connection.execute(INSERT, (name, 1.5)).fetchone()[0])


@pytest.mark.parametrize("durable", [True, False])
def test_a_transaction_is_whole_or_nothing(database: Database, durable: bool) -> None:
    """An error undoes its transaction; another connection sees the completed transactions."""
    with database.transaction(durable=durable) as connection:
        first = add(connection, "a")
    with pytest.raises(ZeroDivisionError), database.transaction(durable=durable) as connection:
        raise ZeroDivisionError(add(connection, "b"))

    with closing(database.another()) as other:
        assert ["a"] == names(other)
        with other.reading() as connection:
            [row] = connection.execute("SELECT * FROM things WHERE id = ?", (first,)).fetchall()
    assert (first, "a", 1.5, None) == tuple(row)
    assert (first, "a") == (row["id"], row[1])
    assert ["id", "name", "weight", "data"] == list(row.keys())


def test_values_have_marks_of_three_kinds(database: Database) -> None:
    """Placeholders are `?` in order, `?1` by number and `:name` by name; inside quotes they are text."""
    with database.transaction() as connection:
        for name in ("a", "b", "what?", ":x"):
            add(connection, name)
        connection.executemany("UPDATE things SET weight = ? WHERE name = ?", [(2, "a"), (3, "b")])

        def found(sql: str, values: object) -> list[str]:
            return [row[0] for row in connection.execute(SELECT + sql, values)]

        assert ["a"] == found("name = ?", ("a",))
        assert ["b"] == found("weight > ?2 AND weight < ?1 AND name <> ?3 AND weight <> ?1", (4, 2, ":x"))
        assert ["a"] == found("name = :one AND weight = :two AND name = :one", {"one": "a", "two": 2})
        assert ["what?"] == found("name = 'what?' AND name <> ?", ("b",))
        assert [":x"] == found("name = ':x' AND name <> :y", {"y": "b"})


def test_a_duplicate_has_an_error_of_its_own(database: Database) -> None:
    """A duplicate name is refused, and its whole transaction is undone."""
    with database.transaction() as connection:
        add(connection, "a")

    with pytest.raises(NotUnique), database.transaction() as connection:
        [add(connection, name) for name in ("b", "a")]

    assert ["a"] == names(database)


def test_migrations_run_once_and_in_order(database: Database) -> None:
    """Only new migrations run; a database with unknown newer migrations is refused."""
    first = ("things", TABLE)
    more = (
        "more",
        "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7;\nCREATE INDEX by_size ON things (size);",
    )
    database.migrate("test", [first, more])
    with closing(database.another()) as other:
        other.migrate("test", [first, more])
        other.migrate("another room", [("things", "CREATE TABLE others (id INTEGER PRIMARY KEY);")])

    with pytest.raises(LedgerError):
        database.migrate("test", [first])


def test_a_migration_is_whole_or_nothing(database: Database) -> None:
    """A migration that fails leaves the tables as they were."""

    def fail(connection: Connection) -> None:
        connection.execute("DROP TABLE things")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.migrate("test", [("things", TABLE), ("fails", fail)])

    assert [] == names(database)


def test_a_table_is_append_only(database: Database) -> None:
    """The database refuses to change or delete rows of an append-only table."""
    database.migrate(
        "test", [("things", TABLE), ("fixed", lambda connection: database.forbid_changes(connection, "things"))]
    )
    with database.transaction() as connection:
        add(connection, "a")

    for statement in ("UPDATE things SET name = 'b'", "DELETE FROM things"):
        with pytest.raises(LedgerError), database.transaction() as connection:
            connection.execute(statement)

    assert ["a"] == names(database)


def test_a_lock_has_one_holder(database: Database) -> None:
    """An exclusive lock can be held once; a shared lock is free after its last holder releases it."""
    with closing(database.another()) as other:
        lock, same, theirs = database.lock("a b"), database.lock("a b"), other.lock("a b")
        assert lock.try_acquire()
        assert [False, False] == [same.try_acquire(), theirs.try_acquire()]
        assert other.is_locked("a b")
        lock.release()
        assert not other.is_locked("a b")
        assert theirs.try_acquire()

        shared = [database.lock("s", shared=True) for _ in range(2)]
        assert [True, True] == [lock.try_acquire() for lock in shared]
        shared[0].release()
        assert database.is_locked("s")
        shared[1].release()
        assert not database.is_locked("s")


def test_threads_wait_for_each_other(database: Database) -> None:
    """Twenty threads update one row at the same time, and no update is lost."""
    with database.transaction() as connection:
        add(connection, "a")

    def work() -> None:
        for _ in range(5):
            with database.transaction(durable=False) as connection:
                weight = connection.execute(WEIGHT + database.row_lock).fetchone()["weight"]
                connection.execute("UPDATE things SET weight = ? WHERE name = 'a'", (weight + 1,))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.reading() as connection:
        assert 101.5 == connection.execute("SELECT weight FROM things").fetchone()[0]


def test_a_closed_database_is_our_error(database: Database) -> None:
    """A closed database raises LedgerError."""
    database.close()

    with pytest.raises(LedgerError):
        names(database)
    with pytest.raises(LedgerError), database.transaction():
        pass


def test_json_and_any_language(database: Database) -> None:
    """Both engines give the same results for the JSON and text functions in our SQL."""
    document = json.dumps({"prompt": "Stra\xdfe \u212a \0", "n": 1, "no": None, "is": True, "list": ["a", {"b": 2}]})
    lists = json.dumps(["one", "two"])
    with database.reading() as connection:

        def ask(expression: str, *values: object) -> object:
            return connection.execute(f"SELECT {expression}", values).fetchone()[0]

        assert ask("json_extract(?, '$.no')", document) is None
        assert ["1", "1"] == [
            str(ask("CAST(json_extract(?, '$.n') AS TEXT)", document)),
            {"true": "1"}.get(str(ask("CAST(json_extract(?, '$.is') AS TEXT)", document)), "1"),
        ]
        assert 1 == ask("instr(casefold(json_extract(?, '$.prompt')), casefold(?))", document, "STRASSE")
        assert ask("instr(casefold(json_extract(?, '$.prompt')), casefold(?))", document, "K") > 0
        assert ["one", "two"] == [row[0] for row in connection.execute("SELECT value FROM json_each(?)", (lists,))]
        assert 2 == ask("count(*) FROM json_each(?, '$.list')", document)
        assert 0 == ask("count(*) FROM json_each(?)", None)
        assert [("a", "x"), ("b", "y")] == sorted(
            tuple(row) for row in connection.execute("SELECT key, value FROM json_each(?)", ('{"a": "x", "b": "y"}',))
        )
        assert (2, -2) == (ask("CAST(? / 2.0 AS INTEGER)", 5.9), ask("CAST(? / 2.0 AS INTEGER)", -5.9))
        assert 3 == ask("sum(id) FROM (SELECT 1 AS id UNION ALL SELECT 2) AS ids")
        assert isinstance(ask("sum(id) FROM (SELECT 1 AS id) AS ids"), int)
        assert 1 == ask("count(*) WHERE 'ABC' LIKE ?", "a%")


def test_text_that_a_server_cannot_store_is_stored_nearly(database: Database) -> None:
    """Text with a NUL character is accepted; PostgreSQL stores a replacement character."""
    with database.transaction() as connection:
        add(connection, "a\0b")

    assert names(database) in (["a\0b"], ["a\ufffdb"])


def test_a_file_needs_no_server(tmp_path: Path) -> None:
    """A single user's ledger imports no database driver or web framework."""
    script = f"""
import sys, pathlib
from blockrun_magic.payments.ledger.ledger import Ledger
Ledger(pathlib.Path({str(tmp_path / "ledger.sqlite")!r}), "one").close()
print([name for name in sys.modules if name.partition(".")[0] in ("psycopg", "starlette", "jinja2")])
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]" == answer.stdout.strip()
