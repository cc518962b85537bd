"""`kill -9` at any moment of a notebook's run: afterwards every image exists and is settled once.

`KILLS` is the number of random moments, 12 by default.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.states import AT_RISK, State
from harness.crash import Job, Nursery, nursery, practice_gateway, settlements_of

_KILLS = int(os.environ.get("KILLS", "12"))
_SEED = 402
_DRAWS = 20
_STEPS = (
    "put 1",
    "put 3",
    "create_purchase 1",
    "create_purchase 4",
    "authorize 1",
    "authorize 4",
    "submit 1",
    "submit 2",
    "post 2",
    "post 4",
    "poll 1",
    "get 1",
    "get 2",
    "settle 1",
    "settle 2",
    "save_image_urls 1",
    "save_image_urls 2",
    "download 1",
    "finish 1",
    "finish 2",
    "finish 3",
    "finish 4",
)
"""Calls of the ledger, the client or the store before which a kernel is killed, one between any two steps."""


@dataclass(frozen=True)
class World:
    """A practice gateway and a nursery in separate processes, shared by all tests of this file."""

    url: str
    kernels: Nursery


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return a gateway and a nursery of kernels to kill."""
    with practice_gateway(tmp_path_factory.mktemp("practice")) as url, nursery() as kernels:
        yield World(url, kernels)


@pytest.fixture(scope="module")
def length(world: World, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return the seconds of an undisturbed run on a warm gateway."""
    elapsed = []
    for name in ("cold", "warm", "warmer"):
        run = world.kernels.start(Job(str(tmp_path_factory.mktemp("whole")), world.url, f"undisturbed, {name}"))
        outcome = run.outcome()
        elapsed.append(run.elapsed)

        assert [None] * 4 == [result["error"] for result in outcome["results"]]
    return min(elapsed)


def _assert_whole(world: World, job: Job) -> None:
    """Check that another run completes: every image exists, each is settled once, and the records agree."""
    again = world.kernels.start(Job(job.folder, job.url, job.payer, session="the kernel after")).outcome()

    assert [None] * 4 == [result["error"] for result in again["results"]]
    for result in again["results"]:
        for file in map(Path, result["files"]):
            assert file.stem == hashlib.sha256(file.read_bytes()).hexdigest()

    paid = settlements_of(world.url, job.payer)
    ours = _settled(Path(job.folder) / "ledger.sqlite")

    assert {line["nonce"]: (int(line["amount"]), line["transaction"]) for line in paid} == ours
    assert Counter({("/v1/images/generations", "256x256"): 3, ("/v1/images/image2image", "1024x1024"): 1}) == Counter(
        (line["endpoint"], line["size"]) for line in paid
    )


def _settled(path: Path) -> dict[str, tuple[int, str]]:
    """Return amounts and transactions by nonce, and check that the ledger is intact and has nothing open."""
    with sqlite3.connect(path) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    ledger = Ledger(path, "the auditor")
    try:
        assert [] == ledger.open_payments(AT_RISK)
        assert [] == ledger.open_purchases()
        settled = ledger.open_payments((State.SETTLED,))
    finally:
        ledger.close()
    return {payment.nonce or "": (payment.amount, payment.transaction or "") for payment in settled}


@pytest.mark.parametrize("step", _STEPS)
def test_a_kernel_killed_between_two_steps_loses_nothing(world: World, tmp_path: Path, step: str) -> None:
    """A kernel is killed before each step; the next run completes with one settlement per image."""
    job = Job(str(tmp_path), world.url, f"killed before {step}", fatal=step)

    assert -9 == world.kernels.start(job).outcome()["code"]
    _assert_whole(world, job)


@pytest.mark.parametrize("number", range(_KILLS))
def test_a_kernel_killed_at_any_moment_loses_nothing(world: World, tmp_path: Path, length: float, number: int) -> None:
    """A kernel is killed at a random moment, as is every third successor; the next run completes."""
    chance = random.Random(f"{_SEED} {number}")  # noqa: S311  moments, not secrets

    def killed(job: Job) -> bool:
        run = world.kernels.start(job)
        run.kill_after(chance.uniform(0, length))
        return run.outcome()["code"] == -9

    # A run that ended before its moment was not killed, so another run is started.
    jobs = (Job(str(tmp_path / str(n)), world.url, f"killed at random {number}, {n}") for n in range(_DRAWS))
    job = next(job for job in jobs if killed(job))
    if number % 3 == 0:
        killed(job)
    _assert_whole(world, job)
