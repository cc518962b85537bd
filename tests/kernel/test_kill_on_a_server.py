"""A ledger on PostgreSQL: killed processes and an abruptly stopped server lose nothing.

`make test` tries a few moments of each kind; `make soak` sets KILLS for more.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from blockrun_magic.database.postgresql import PostgresDatabase
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.states import AT_RISK, State
from harness import PATIENCE
from harness.crash import OWNER, SUBJECTS, Job, Nursery, nursery, practice_gateway, settlements_of
from harness.postgresql import Cluster, cluster

__all__ = ["cluster"]

_KILLS = int(os.environ.get("KILLS", "3"))
_SEED = 402
_STATEMENTS = 75
"""The approximate number of statements in a run, after the first 20."""
_CELLS = (0, 2)


@dataclass(frozen=True)
class World:
    """A practice gateway, a nursery and a server, shared by all tests of this file."""

    url: str
    kernels: Nursery
    cluster: Cluster

    def job(self, folder: Path, fatal: str = "") -> Job:
        """Return a job with its own schema and payer."""
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        return Job(str(folder), self.url, name, _CELLS, fatal=fatal, server=(self.cluster.address(), name))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[World]:
    """Return a gateway, a nursery of kernels to kill, and a server to stop."""
    with practice_gateway(tmp_path_factory.mktemp("practice")) as url, nursery() as kernels:
        yield World(url, kernels, cluster)


def assert_whole(world: World, job: Job) -> None:
    """Check that another process completes the job: every image exists, is settled once, and is counted."""
    successor = Job(job.folder, job.url, job.payer, _CELLS, session="the process after", server=job.server)
    run = world.kernels.start(successor)
    outcome = run.outcome()

    assert [None] * len(_CELLS) == [result["error"] for result in outcome["results"]]
    assert run.elapsed < PATIENCE
    for result in outcome["results"]:
        for file in map(Path, result["files"]):
            assert file.stem == hashlib.sha256(file.read_bytes()).hexdigest()

    assert job.server is not None
    with closing(PostgresDatabase(*job.server)) as database:
        ledger = Ledger(database, "the auditor")
        ada = ledger.for_owner(OWNER, lambda: SUBJECTS)
        settled = ada.open_payments((State.SETTLED,))
        paid = settlements_of(world.url, job.payer)
        assert len(_CELLS) == len(paid)
        assert {line["nonce"]: (int(line["amount"]), line["transaction"]) for line in paid} == {
            payment.nonce: (payment.amount, payment.transaction) for payment in settled
        }
        assert [] == ada.open_payments(AT_RISK)
        assert [] == ada.open_purchases()
        assert {} == ledger.check()
        total = sum(int(line["amount"]) for line in paid)
        assert [total] * len(SUBJECTS) == [
            one.used for one in ledger.standing("practice", SUBJECTS) if one.period == "total"
        ]


@pytest.mark.parametrize("number", range(_KILLS))
def test_a_process_killed_between_two_statements_loses_nothing(world: World, tmp_path: Path, number: int) -> None:
    """A process is killed at a random statement; another process completes with one settlement per image."""
    chance = random.Random(f"{_SEED} {number}")  # noqa: S311  moments, not secrets
    step = chance.randrange(_STATEMENTS * number // _KILLS, _STATEMENTS * (number + 1) // _KILLS)
    job = world.job(tmp_path, f"execute {step + 20}")

    assert -9 == world.kernels.start(job).outcome()["code"]
    assert_whole(world, job)


@pytest.mark.parametrize("step", ["submit 1", "settle 1"])
def test_a_process_killed_between_two_steps_loses_nothing(world: World, tmp_path: Path, step: str) -> None:
    """The same, with a process killed before a ledger step of a payment."""
    job = world.job(tmp_path, step)

    assert -9 == world.kernels.start(job).outcome()["code"]
    assert_whole(world, job)


@pytest.mark.parametrize("number", range(max(1, _KILLS // 3)))
def test_a_server_that_stops_at_once_loses_nothing(world: World, tmp_path: Path, number: int) -> None:
    """Confirmed transactions survive the stop of the server; the next run completes."""
    chance = random.Random(f"{_SEED} {number}")  # noqa: S311  moments, not secrets
    job = world.job(tmp_path)
    assert job.server is not None
    with closing(PostgresDatabase(*job.server)) as database:
        Ledger(database, "before")  # a process without tables could not create them while the server is stopped
    run = world.kernels.start(job)
    time.sleep(chance.uniform(0.1, 1.5))
    world.cluster.stop()
    time.sleep(chance.uniform(0, 1))
    world.cluster.start()

    assert 0 == run.outcome()["code"]
    assert_whole(world, job)
