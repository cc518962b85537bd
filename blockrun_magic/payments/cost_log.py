"""The cost log of BlockRun's SDKs, so that their billing command includes our payments.

One JSON object a line in `~/.blockrun/cost_log.jsonl` (gateway protocol, section 1). Only real money is written: play
money and test networks would falsify the sum. Each line has the `id` of its payment, and a payment whose id is in the
log already is not written again: a failed commit of the ledger cannot double it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from blockrun_magic.database.engine import Row
from blockrun_magic.errors import LedgerError
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.x402.networks import BASE, BASE_SEPOLIA, NETWORKS, SOLANA

__all__ = ["append_settled"]

_SDK_NETWORKS = {BASE.id: "base-mainnet", BASE_SEPOLIA.id: "base-sepolia", SOLANA.id: "solana-mainnet"}
"""Networks by the names that the official SDK writes and filters by."""
_MAX_SEARCHED = 16 * 1024 * 1024
"""Bytes at the end of the log that are searched for the ids of new lines."""


def append_settled(ledger: Ledger) -> None:
    """Append every settled real payment that is not in the log yet.

    Failures are ignored; the entries are written next time.
    """
    if ledger.path is None:
        return  # the SDK knows the log of one machine
    folder = ledger.path.parent.parent
    with suppress(LedgerError):
        ledger.log_settled(BASE.realm, lambda rows: _append(_log_path(folder), rows))


def _log_path(folder: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file that the SDKs read: they ignore `BLOCKRUN_HOME` for it (gateway protocol, section 9)."""
    moved = environ.get("BLOCKRUN_HOME")
    if moved and Path(moved).expanduser().absolute() == folder.absolute():
        folder = Path.home() / ".blockrun"
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "cost_log.jsonl"


def _append(path: Path, rows: Sequence[Row]) -> None:
    """Write the missing lines of `rows`, either all or none; raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        size = os.fstat(descriptor).st_size
        written = _tail(descriptor, size)
        entries = [entry for entry in map(_line, rows) if json.dumps(entry["id"]).encode() not in written]
        lines = "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()
        if lines:
            # Another program may have left an unfinished line: our first line must not become a part of it.
            _write_whole(descriptor, (b"" if written[-1:] in (b"", b"\n") else b"\n") + lines, size)
    finally:
        os.close(descriptor)


def _tail(descriptor: int, size: int) -> bytes:
    os.lseek(descriptor, max(0, size - _MAX_SEARCHED), os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 1024 * 1024):
        parts.append(part)
    return b"".join(parts)


def _write_whole(descriptor: int, data: bytes, size: int) -> None:
    """Append `data` in one write, so that appends of several processes do not mix; undo an incomplete write."""
    count = os.write(descriptor, data)
    if count == len(data):
        return
    if os.fstat(descriptor).st_size == size + count:
        os.ftruncate(descriptor, size)
    raise OSError(f"{count} of {len(data)} bytes were written")


def _line(row: Row) -> dict[str, Any]:
    request = json.loads(row["request"])
    network = row["network"]
    named = NETWORKS.get(network)
    entry = {
        "ts": row["updated_at"],
        "endpoint": request["endpoint"],
        "cost_usd": row["amount"] / 1_000_000,
        "model": request["model"],
        "wallet": row["payer"],
        "network": _SDK_NETWORKS.get(network, named.v1_name if named else network),
        "client_kind": "blockrun-magic",
        "id": f"{row['id']}-{row['updated_at']:.6f}",
    }
    return {name: value for name, value in entry.items() if value is not None}
