"""The official SDK's cost log, so that its billing command counts what was spent here too.

One JSON object a line in `~/.blockrun/cost_log.jsonl` (gateway protocol, section 1). Only real money
is written: play money and test networks would falsify the sum.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from blockrun_magic.errors import LedgerError
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.x402.networks import BASE

__all__ = ["append_settled"]


def append_settled(ledger: Ledger) -> None:
    """Append every settled real payment that is not in the log yet.

    What cannot be written now is written the next time: no picture is worth less for it.
    """
    log = ledger.path.parent.parent / "cost_log.jsonl"
    with suppress(LedgerError):
        ledger.log_settled(BASE.realm, lambda rows: _append(log, rows))


def _append(path: Path, rows: Sequence[sqlite3.Row]) -> None:
    lines = "".join(f"{json.dumps(_line(row))}\n" for row in rows)
    # One write: appends of several processes do not mix.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, lines.encode())
    finally:
        os.close(descriptor)


def _line(row: sqlite3.Row) -> dict[str, Any]:
    request = json.loads(row["request"])
    return {
        "ts": row["updated_at"],
        "endpoint": request["endpoint"],
        "cost_usd": row["amount"] / 1_000_000,
        "model": request["model"],
        "wallet": row["payer"],
        "network": row["network"],
        "client_kind": "blockrun-magic",
    }
