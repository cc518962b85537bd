"""The start of a kernel with 1,000 open payments and a million receipts: processor time, all in the background."""

from __future__ import annotations

import json
import os
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
    with gateway() as place, tempfile.TemporaryDirectory() as home:
        magic = Path(home) / ".blockrun" / "magic"
        magic.mkdir(parents=True)
        ledger = ledger_of(magic / "ledger.sqlite", RECEIPTS)
        add_up(ledger)
        with ledger.transaction() as connection:
            connection.execute(
                """UPDATE authorizations SET state = 'submitted', network = ?, payer = ?, sent_at = created_at,
                    nonce = '0x' || printf('%064x', id), valid_before = ? WHERE id % ? = 0""",
                (ARC.id, "0x" + "5a" * 20, int(time.time()) - 3600, RECEIPTS // OPEN),
            )
        ledger.close()
        environ = os.environ | {
            "HOME": home,
            "BLOCKRUN_HOME": f"{home}/.blockrun",
            "BLOCKRUN_WALLET_KEY": "0x" + "3d" * 32,
            "BLOCKRUN_API_URL": "https://arc.blockrun.ai/api",
            "BLOCKRUN_ARC_RPC": f"{place.url}/rpc/1,{place.url}/rpc/2",
        }
        command = [sys.executable, "-c", STARTING]
        done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    taken, shown = json.loads(done.stdout.splitlines()[-1])
    name = "to start with 1,000 open payments and a million receipts"
    return row(f"seconds of processor time {name}", {Ours.name: [taken]}) | row(
        f"seconds until %blockrun is there, {name}", {Ours.name: [shown]}
    )


ALL: dict[str, Callable[[], Figures]] = {"start": starting}
