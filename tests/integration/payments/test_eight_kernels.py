"""Eight processes with one ledger: limits hold to the micro-dollar, and the file stays intact."""

from __future__ import annotations

import multiprocessing
import random
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.database import sqlite as database
from blockrun_magic.errors import BudgetError
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.states import State, Witness
from harness import PATIENCE
from harness.ledgers import HASH, Clock, another_purchase, authorize, fill_up, purchase

KERNELS = 8
FRESH = 4
DAY_CAP = 3_141_593


def be_a_kernel(number: int, folder: Path, together: Any, answers: Any) -> None:
    """Use ledgers as one of several processes; put the sum of the remaining payments or the error into `answers`."""
    # Eight busy processes may wait long for each other on a busy machine.
    database.BUSY_SECONDS = PATIENCE
    try:
        for fresh in range(FRESH):
            together.wait(PATIENCE)
            with closing(Ledger(folder / f"fresh-{fresh}.sqlite", f"kernel {number}")) as ledger:
                purchase(ledger)
        together.wait(PATIENCE)
        with closing(Ledger(folder / "ledger.sqlite", f"kernel {number}", Clock())) as ledger:
            kept = hammer(ledger, random.Random(number))  # noqa: S311  dice, not secrets
            together.wait(PATIENCE)
            kept += fill_up(ledger)
        answers.put((number, kept))
    except BaseException as error:  # noqa: BLE001  the test reports every error
        together.abort()
        answers.put((number, repr(error)))


def hammer(ledger: Ledger, dice: random.Random) -> int:
    """Reserve, release, settle and hold at random near the limit; return the sum of the remaining payments."""
    kept = 0
    for _ in range(12):
        amount = dice.randrange(1, 200_000)
        try:
            hold = ledger.hold("real", amount * 2)
            begin = ledger.reserve if dice.random() < 0.3 else partial(authorize, ledger)
            payment = begin(another_purchase(ledger), amount, hold=hold)
            ledger.drop_hold(hold)
        except BudgetError:
            continue
        assert ledger.committed("real").day <= DAY_CAP
        if payment.state is State.RESERVED or dice.random() < 0.3:
            ledger.release(payment.id, "never sent")
        else:
            kept += amount
            ledger.submit(payment.id)
            if dice.random() < 0.5:
                ledger.settle(payment.id, HASH, witness=Witness.CHAIN)
    return kept


@pytest.fixture(scope="module")
def hammered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Any]]:
    """Return a folder of ledgers that eight processes have used, and the answer of each process."""
    folder = tmp_path_factory.mktemp("hammered")
    with closing(Ledger(folder / "ledger.sqlite", "before", Clock())) as ledger:
        ledger.set_caps(session=10**9, day=DAY_CAP)
    spawn = multiprocessing.get_context("spawn")
    together, answers = spawn.Barrier(KERNELS), spawn.SimpleQueue()
    kernels = [spawn.Process(target=be_a_kernel, args=(number, folder, together, answers)) for number in range(KERNELS)]
    for kernel in kernels:
        kernel.start()
    kept = dict(answers.get() for _ in kernels)
    for kernel in kernels:
        kernel.join()
        kernel.close()
    answers.close()
    return folder, kept


def test_eight_processes_keep_one_cap_to_the_micro_dollar(hammered: tuple[Path, dict[int, Any]]) -> None:
    """Eight kernels reserve, release, hold and settle at once: the day's limit is filled and not exceeded."""
    folder, kept = hammered
    assert all(isinstance(total, int) for total in kept.values()), kept

    with closing(Ledger(folder / "ledger.sqlite", "after", Clock())) as ledger:
        assert DAY_CAP == sum(kept.values()) == ledger.committed("real").day
        assert ["ok"] == [row[0] for row in ledger.query("PRAGMA integrity_check")]
        assert [] == ledger.query("SELECT * FROM holds")
        with pytest.raises(BudgetError):
            ledger.reserve(another_purchase(ledger), 1)


def test_eight_processes_open_a_new_ledger_at_once(hammered: tuple[Path, dict[int, Any]]) -> None:
    """Kernels that start together use the same migrated ledger and create one purchase."""
    folder, kept = hammered
    assert all(isinstance(total, int) for total in kept.values()), kept

    for fresh in range(FRESH):
        with closing(Ledger(folder / f"fresh-{fresh}.sqlite", "after")) as ledger:
            assert [1] == [row[0] for row in ledger.query("SELECT count(*) FROM purchases")]
            assert ["wal"] == [row[0] for row in ledger.query("PRAGMA journal_mode")]
