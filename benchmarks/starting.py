"""The start of a kernel with 1,000 open payments and a million receipts: processor time, all in the background."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from clients import Ours
from growth import ledger_of
from measures import Figures, gateway, row

from blockrun_magic.payments.ledger.years.sums import add_up
from blockrun_magic.payments.x402.networks import ARC

__all__ = ["ALL"]

RECEIPTS, OPEN = 1_000_000, 1_000
STARTING = """
import json, threading, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("%load_ext blockrun_magic")
begun = time.process_time(), time.perf_counter()
shell.run_cell("%blockrun")
shown = time.perf_counter() - begun[1]
from blockrun_magic.notebook.extension import load
session = load(shell).session
while session.ledger.query("SELECT 1 FROM authorizations WHERE state NOT IN ('settled', 'released') LIMIT 1"):
    time.sleep(0.2)
time.sleep(1)
print()
print(json.dumps([time.process_time() - begun[0], shown]))
"""


def starting() -> Figures:
    """Seconds of processor time until every open payment has been checked at two servers and released."""
    with gateway() as place, tempfile.TemporaryDirectory() as folder:
        years = Path(folder) / "ledger.sqlite"
        _write_ledger(years)
        turns = [_start(place.url, years, Path(folder) / str(turn)) for turn in range(3)]
    taken, shown = zip(*turns, strict=True)
    name = "to start with 1,000 open payments and a million receipts"
    return row(f"seconds of processor time {name}", {Ours.name: list(taken)}) | row(
        f"seconds until %blockrun is there, {name}", {Ours.name: list(shown)}
    )


def _write_ledger(path: Path) -> None:
    ledger = ledger_of(path, RECEIPTS)
    add_up(ledger)
    with ledger.transaction() as connection:
        connection.execute(
            """UPDATE authorizations SET state = 'submitted', network = ?, payer = ?, sent_at = created_at,
                nonce = '0x' || printf('%064x', id), valid_before = ? WHERE id % ? = 0""",
            (ARC.id, "0x" + "5a" * 20, int(time.time()) - 3600, RECEIPTS // OPEN),
        )
    ledger.close()


def _start(url: str, years: Path, home: Path) -> tuple[float, float]:
    """Return the processor seconds of a kernel's start, and the seconds until `%blockrun` shows its card."""
    magic = home / ".blockrun" / "magic"
    magic.mkdir(parents=True)
    shutil.copy(years, magic)
    environ = os.environ | {
        "HOME": str(home),
        "BLOCKRUN_HOME": str(home / ".blockrun"),
        "BLOCKRUN_WALLET_KEY": "0x" + "3d" * 32,
        "BLOCKRUN_API_URL": "https://arc.blockrun.ai/api",
        "BLOCKRUN_ARC_RPC": f"{url}/rpc/1,{url}/rpc/2",
    }
    command = [sys.executable, "-c", STARTING]
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    taken, shown = json.loads(done.stdout.splitlines()[-1])
    return float(taken), float(shown)


ALL: dict[str, Callable[[], Figures]] = {"start": starting}
