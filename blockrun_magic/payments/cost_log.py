"""The official SDK's cost log, so that its billing command counts what was spent here too.

One JSON object a line in `~/.blockrun/cost_log.jsonl` (gateway protocol, section 1). Only real money
is written: play money and test networks would falsify the sum.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from blockrun_magic.payments.ledger import Ledger
from blockrun_magic.payments.networks import BASE
from blockrun_magic.payments.states import State

__all__ = ["append_settled"]


def append_settled(ledger: Ledger) -> None:
    """Append every settled real payment that is not in the log yet; raises LedgerError."""
    rows = ledger.query(
        """SELECT authorizations.id, updated_at, amount, payer, network, request FROM authorizations
        JOIN purchases ON purchases.id = purchase_id
        WHERE state = ? AND authorizations.realm = ? AND logged = 0 ORDER BY updated_at""",
        (State.SETTLED, BASE.realm),
    )
    for row in rows:
        request = json.loads(row["request"])
        line = {
            "ts": row["updated_at"],
            "endpoint": request["endpoint"],
            "cost_usd": row["amount"] / 1_000_000,
            "model": request["model"],
            "wallet": row["payer"],
            "network": row["network"],
            "client_kind": "blockrun-magic",
        }
        _append(ledger.path.parent.parent / "cost_log.jsonl", json.dumps(line))
        ledger.mark_logged(row["id"])


def _append(path: Path, line: str) -> None:
    # One write of one line: appends of several processes do not mix.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
