"""PostgreSQL when it stops, when it is busy, and when the connection of the locks breaks."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from unittest import mock

import psycopg
import pytest

from blockrun_magic.database import pool
from blockrun_magic.database.engine import Database
from blockrun_magic.database.opening import open_database
from blockrun_magic.database.postgresql import PostgresDatabase
from blockrun_magic.errors import LedgerError, PaymentOutcomeUnknown
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import StoredImage
from blockrun_magic.payments.ledger.states import State, Witness
from harness import PATIENCE
from harness.ledgers import HASH, another_purchase, authorize, payment_in, purchase
from harness.postgresql import Cluster

IMAGE = StoredImage("cd" * 32, "image/png", 1024, 1024)


@pytest.fixture
def database(cluster: Cluster) -> Iterator[PostgresDatabase]:
    """Return a database in a new schema."""
    with closing(PostgresDatabase(cluster.address(), secrets.token_hex(6))) as opened:
        yield opened


@pytest.fixture
def other(database: PostgresDatabase) -> Iterator[PostgresDatabase]:
    """Return the same database, opened like in another process."""
    with closing(database.another()) as opened:
        yield opened


def impatient() -> AbstractContextManager[object]:
    """Return a context in which all waits are short, even on connections that it opens."""
    return mock.patch.object(pool, "PATIENCE", 0.3)


def break_lock_connection(database: PostgresDatabase) -> None:
    """End the connection of the locks, like a broken network."""
    connection = database._locks._connection
    assert connection is not None
    with database.reading() as reading:
        reading.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid})")


def test_many_processes_open_a_new_database_at_once(cluster: Cluster) -> None:
    """The schema and the tables are created once, and all processes can use them."""
    schema = f"new {secrets.token_hex(4)}"
    errors: list[Exception] = []

    def start() -> None:
        try:
            with closing(PostgresDatabase(cluster.address(), schema)) as database:
                purchase(Ledger(database, secrets.token_hex(4)))
        except LedgerError as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == errors
    with closing(PostgresDatabase(cluster.address(), schema)) as database:
        assert 1 == len(Ledger(database, "after").takes("real", "sha256:1"))


def test_a_server_that_starts_again_is_waited_for(cluster: Cluster, database: PostgresDatabase) -> None:
    """Reads and writes continue with new connections, and confirmed data is there."""
    ledger = Ledger(database, "one")
    payment = payment_in(ledger, State.SUBMITTED)
    cluster.stop()
    starting = threading.Timer(0.5, cluster.start)
    starting.start()

    assert State.SUBMITTED is ledger.payment(payment.id).state
    assert State.UNKNOWN is ledger.mark_unknown(payment.id, "no answer").state
    assert ledger.reserve(another_purchase(ledger), 1)
    assert {} == ledger.check()
    starting.join()


def test_a_server_that_is_away_is_two_lines(cluster: Cluster, database: PostgresDatabase) -> None:
    """Without the server, reads and writes fail with an error that hides the password."""
    ledger = Ledger(database, "one")
    begun = another_purchase(ledger)
    cluster.stop()
    try:
        with impatient():
            for attempt in (lambda: ledger.reserve(begun, 1), lambda: ledger.takes("real", "x"), database.another):
                with pytest.raises(LedgerError) as caught:
                    attempt()
                assert cluster.password not in "".join(traceback.format_exception(caught.value))
                assert caught.value.hint
    finally:
        cluster.start()

    assert ledger.reserve(begun, 1)


def test_nobody_waits_for_ever(database: PostgresDatabase) -> None:
    """A row that is locked for too long is an error; so is a transaction that is idle for too long."""
    ledger = Ledger(database, "one")
    payment = payment_in(ledger, State.SUBMITTED)
    with closing(database.another()) as holder, holder.transaction() as connection:
        connection.execute("SELECT * FROM authorizations FOR UPDATE")
        with impatient(), closing(database.another()) as other, pytest.raises(LedgerError):
            Ledger(other, "two").mark_unknown(payment.id, "no answer")
    with (  # noqa: PT012
        impatient(),
        closing(database.another()) as other,
        pytest.raises(LedgerError),
        other.transaction() as connection,
    ):
        time.sleep(0.5)
        connection.execute("SELECT 1")
    with closing(database.another()) as other, other.reading() as connection:
        assert 1 == connection.execute("SELECT 1").fetchone()[0]

    assert State.UNKNOWN is ledger.mark_unknown(payment.id, "no answer").state


def test_a_process_has_few_connections(database: PostgresDatabase) -> None:
    """A thread waits if all connections are in use, and then gets an error."""
    started, end = threading.Barrier(pool.MAX_CONNECTIONS + 1), threading.Event()

    def hold() -> None:
        with database.reading():
            started.wait(PATIENCE)
            end.wait(PATIENCE)

    threads = [threading.Thread(target=hold) for _ in range(pool.MAX_CONNECTIONS)]
    for thread in threads:
        thread.start()
    started.wait(PATIENCE)
    with impatient(), pytest.raises(LedgerError), database.reading():
        pass
    end.set()
    for thread in threads:
        thread.join()

    with database.reading() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'blockrun-magic' AND state IS NOT NULL"
        assert connection.execute(query).fetchone()[0] >= 1


# -- locks


def test_locks_are_taken_again_when_their_connection_breaks(
    database: PostgresDatabase, other: PostgresDatabase
) -> None:
    """If no other process has taken the locks, they are held as before."""
    lock = database.lock("a")
    assert lock.try_acquire()
    break_lock_connection(database)

    database.verify()

    assert lock.is_held
    assert not other.lock("a").try_acquire()
    lock.release()
    assert other.lock("a").try_acquire()


def test_a_lost_lock_lets_nothing_leave(database: PostgresDatabase, other: PostgresDatabase) -> None:
    """Another process has taken the purchase over: the first one cannot sign, send or reserve for it."""
    first, second = Ledger(database, "first"), Ledger(other, "second")
    new, begun = another_purchase(first), another_purchase(first)
    payment = payment_in(first, State.SIGNED, of=begun)
    locks = [database.lock(known.lock) for known in (new, begun)]
    assert [True] * 2 == [lock.try_acquire() for lock in locks]
    break_lock_connection(database)
    assert [True] * 2 == [other.lock(known.lock).try_acquire() for known in (new, begun)]

    with pytest.raises(LedgerError):
        first.reserve(new, 1)
    with pytest.raises(LedgerError):
        authorize(first, new, 1)
    with pytest.raises(LedgerError):
        first.submit(payment.id)

    assert [False] * 2 == [lock.is_held for lock in locks]
    assert [] == second.payments(new.id)
    assert payment == second.payment(payment.id)
    assert State.SUBMITTED is second.submit(payment.id).state
    assert first.reserve(another_purchase(first), 1)  # purchases with other locks continue


def test_the_state_of_a_payment_is_the_fence(database: PostgresDatabase, other: PostgresDatabase) -> None:
    """Even without locks, a purchase has one open payment, and each step is taken once."""
    first, second = Ledger(database, "first"), Ledger(other, "second")
    begun = another_purchase(first)
    outcomes: list[object] = []
    together = threading.Barrier(2)

    def reserve(ledger: Ledger) -> None:
        together.wait(PATIENCE)
        try:
            outcomes.append(ledger.reserve(begun, 1).id)
        except (PaymentOutcomeUnknown, LedgerError):
            outcomes.append(None)

    threads = [threading.Thread(target=reserve, args=(ledger,)) for ledger in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [payment_id] = [found for found in outcomes if found]
    second.release(payment_id, "taken over")
    with pytest.raises(LedgerError):
        first.submit(payment_id)
    assert {} == first.check()


def test_a_lock_ends_with_its_process(cluster: Cluster, database: PostgresDatabase) -> None:
    """`kill -9` frees a lock at once, without any clean-up."""
    script = f"""
import sys
from blockrun_magic.database.postgresql import PostgresDatabase
database = PostgresDatabase({cluster.address()!r}, {database._schema!r})
print(database.lock("a").try_acquire(), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert "True" == holder.stdout.readline().strip()
        assert database.is_locked("a")
        assert not database.lock("a").try_acquire()
        holder.kill()
        holder.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    lock = database.lock("a")
    while not lock.try_acquire():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- the stored data


def test_a_dump_of_the_database_has_no_header_of_a_finished_payment(
    cluster: Cluster, database: PostgresDatabase
) -> None:
    """The dump contains a header only until its payment is finished."""
    ledger = Ledger(database, "one")
    payment = payment_in(ledger, State.SUBMITTED)
    assert payment.payload is not None
    header = str(payment.payload.header_value)
    assert header in cluster.dump(schema=database._schema)
    ledger.settle(payment.id, HASH, witness=Witness.CHAIN)
    ledger.finish(payment.purchase_id, [IMAGE], 1.0)

    assert header not in cluster.dump(schema=database._schema)


def test_the_clock_is_the_servers(database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a wrong clock counts in the same windows as the others."""
    real = time.time
    before = real()
    monkeypatch.setattr(time, "time", lambda: real() - 3600)

    assert before - 5 < database.now() < real() + 5
    assert before - 5 < purchase(Ledger(database, "one")).purchased_at < real() + 5


def test_an_address_that_is_none_is_our_error() -> None:
    """The error hides the password."""
    for address in ("postgresql://u:geheim@127.0.0.1:1/x", "postgresql://u:geheim@127.0.0.1:x/x?no=thing"):
        with impatient(), pytest.raises(LedgerError) as caught:
            open_database(address)
        assert "geheim" not in "".join(traceback.format_exception(caught.value))


def test_the_driver_has_the_engine_alone(database: Database) -> None:
    """The driver's errors become LedgerError, and the connection works afterwards."""
    with pytest.raises(LedgerError) as caught, database.reading() as connection:
        connection.execute("this is no SQL")
    assert isinstance(caught.value.__cause__, psycopg.Error)

    with database.reading() as connection:
        assert 1 == connection.execute("SELECT 1").fetchone()[0]
