"""Limits are exact: many processes and many clients reserve, release, raise and settle at once.

`make test` runs a short version; `make soak` sets ROOM to 400: eight processes with 25 clients each on PostgreSQL.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from blockrun_magic.database import pool
from blockrun_magic.database.engine import Database
from blockrun_magic.database.opening import open_database
from blockrun_magic.database.postgresql import PostgresDatabase
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.states import Witness
from blockrun_magic.payments.ledger.windows import LimitReached
from blockrun_magic.payments.x402.protocol import PaymentPayload
from harness.ledgers import another_purchase, authorize, signed
from harness.postgresql import Cluster

ROOM = int(os.environ.get("ROOM", "40"))
PROCESSES, CLIENTS = (8, 25) if ROOM >= 400 else (3, 7)
MEMBERS = PROCESSES * CLIENTS
PRICE = 52_500
PATIENCE = 300.0
ROUNDS = 3
SCHEMA = "exact limits"


def subjects_of(member: int) -> tuple[str, ...]:
    """Return the five subjects whose limits apply to a member."""
    return f"member:{member}", f"group:table {member % 4}", f"group:half {member % 2}", "class", "all"


def set_limits(ledger: Ledger) -> None:
    """Set five limits, each a little wider than the next one; the last one allows ROOM images."""
    ledger.set_limit("each", "total", PRICE * (ROOM * 3 // MEMBERS + 1))
    for table in range(4):
        ledger.set_limit(f"group:table {table}", "day", PRICE * (ROOM * 9 // 32))
    for half in range(2):
        ledger.set_limit(f"group:half {half}", "month", PRICE * (ROOM * 21 // 40))
    ledger.set_limit("class", "week", PRICE * (ROOM + 1))
    ledger.set_limit("all", "total", PRICE * ROOM)


def be_a_client(ledger: Ledger, member: int, together: Any) -> None:
    """Order as one member: first at random, then until a limit is reached."""
    own = ledger.for_owner(f"member:{member}", lambda: subjects_of(member))
    dice = random.Random(member)  # noqa: S311  dice, not secrets
    for _ in range(ROUNDS):
        with suppress(LimitReached):
            change(own, signed(), dice)
    together.wait(PATIENCE)
    with suppress(LimitReached):
        while True:
            own.reserve(another_purchase(own), PRICE)


def change(ledger: Ledger, first: PaymentPayload, dice: random.Random) -> None:
    """Authorize a payment; then release it, or settle it for its price, perhaps after a higher payload."""
    payment = authorize(ledger, another_purchase(ledger), PRICE, first)
    if dice.random() < 0.4:
        ledger.release(payment.id, "never sent")
        return
    ledger.submit(payment.id)
    if dice.random() < 0.6:
        dearer = replace(first, authorization=replace(first.authorization, value=PRICE * 6 // 5))
        with suppress(LimitReached):
            ledger.add_payload(payment.id, dearer)
    if dice.random() < 0.3:
        ledger.release(payment.id, "expired unused", witness=Witness.CHAIN)
    else:
        ledger.settle(payment.id, None, witness=Witness.CHAIN, charged=PRICE)


def be_a_process(number: int, address: str, together: Any, answers: Any) -> None:
    """Run the clients of one process; put all errors except refusals into `answers`."""
    # Busy clients may wait long for each other on a busy machine.
    pool.PATIENCE = PATIENCE
    try:
        with closing(PostgresDatabase(address, SCHEMA)) as database:
            members = range(number * CLIENTS, (number + 1) * CLIENTS)
            answers.put(run_clients(Ledger(database, f"process {number}"), members, together))
    except BaseException as error:  # noqa: BLE001  the test reports every error
        together.abort()
        answers.put([repr(error)])


def run_clients(ledger: Ledger, members: Iterable[int], together: Any) -> list[str]:
    """Run a thread for each member; return all errors except refusals."""
    errors: list[str] = []

    def client(member: int) -> None:
        try:
            be_a_client(ledger, member, together)
        except BaseException as error:  # noqa: BLE001
            errors.append(repr(error))
            together.abort()

    threads = [threading.Thread(target=client, args=(member,)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@contextmanager
def watched(database: Database) -> Iterator[None]:
    """Compare the counters with the payments and the limits again and again during the block."""
    wrong: list[str] = []
    end = threading.Event()
    everybody = sorted({subject for member in range(MEMBERS) for subject in subjects_of(member)})

    def watch() -> None:
        with closing(database.another()) as other, closing(Ledger(other, "watch")) as ledger:
            while not (end.wait(0.05) or wrong):
                wrong.extend(str(found) for found in ledger.check().items())
                standings = ledger.standing("real", everybody)
                wrong.extend(str(one) for one in standings if one.limit is not None and one.used > one.limit)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        end.set()
        watcher.join()
    assert [] == wrong


def check_outcome(database: Database) -> None:
    """Assert that exactly ROOM payments remain and that the counters agree."""
    ledger = Ledger(database, "after")
    amounts = [row["amount"] for row in ledger.query("SELECT amount FROM authorizations WHERE state <> 'released'")]
    assert [PRICE] * ROOM == amounts
    assert {} == ledger.check()
    assert [PRICE * ROOM] == [one.used for one in ledger.standing("real", ["all"]) if one.period == "total"]


def test_processes_grant_exactly_what_there_is_room_for(cluster: Cluster) -> None:
    """Many processes order at once: all five limits hold at every moment, and the last one is used completely."""
    spawn = multiprocessing.get_context("spawn")
    together, answers = spawn.Barrier(MEMBERS), spawn.SimpleQueue()
    with closing(PostgresDatabase(cluster.address(), SCHEMA)) as database:
        set_limits(Ledger(database, "before"))
        with watched(database):
            processes = [
                spawn.Process(target=be_a_process, args=(number, cluster.address(), together, answers))
                for number in range(PROCESSES)
            ]
            for process in processes:
                process.start()
            errors = [answers.get() for _ in processes]
            for process in processes:
                process.join()
                process.close()
            answers.close()
        assert [[]] * PROCESSES == errors
        check_outcome(database)


def test_clients_of_one_process_grant_exactly_what_there_is_room_for(tmp_path: Path) -> None:
    """The same holds on SQLite with all clients in one process."""
    with closing(open_database(tmp_path / "ledger.sqlite")) as database:
        ledger = Ledger(database, "one")
        set_limits(ledger)
        with watched(database):
            errors = run_clients(ledger, range(MEMBERS), threading.Barrier(MEMBERS))
        assert [] == errors
        check_outcome(database)
