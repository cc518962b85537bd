"""Reservations of a class on each engine, under five nested limits."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from measures import Figures, row

from blockrun_magic.database.engine import Database
from blockrun_magic.database.opening import open_database
from blockrun_magic.payments.ledger.ledger import Ledger

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from harness.postgresql import Cluster

__all__ = ["ALL"]

_CLIENTS = 8
_EACH = 25
_ROUNDS = 5
_REQUEST = {"endpoint": "/v1/images/generations", "model": "google/nano-banana", "prompt": "a cat", "size": "1024x1024"}


def reservations() -> Figures:
    """Reservations per second by eight clients of one process; each transaction counts in twenty windows."""
    cluster = Cluster(durable=True)
    with tempfile.TemporaryDirectory() as folder:
        rates = {
            "SQLite": _rates(open_database(Path(folder) / "ledger.sqlite")),
            "PostgreSQL": _rates(open_database(cluster.address())),
        }
    cluster.close()
    return row("reservations a second under five limits", rates)


def _rates(database: Database) -> list[float]:
    with closing(database):
        ledger = Ledger(database, "bench")
        for subject in ("each", "group:red", "class", "all"):
            ledger.set_limit(subject, "total", 10**12)
        return [_rate(ledger, number) for number in range(_ROUNDS)]


def _rate(ledger: Ledger, number: int) -> float:
    def work(client: int) -> None:
        subjects = (f"member:{client}", "group:red", f"group:table {client % 2}", "class", "all")
        own = ledger.for_owner(subjects[0], lambda: subjects)
        for purchase in purchases[client]:
            own.reserve(purchase, 52_500)

    purchases = [
        [
            ledger.for_owner(f"member:{client}", list).create_purchase(
                "real", "base", f"sha256:{number}:{image}", 1, _REQUEST, private=False
            )
            for image in range(_EACH)
        ]
        for client in range(_CLIENTS)
    ]
    threads = [threading.Thread(target=work, args=(client,)) for client in range(_CLIENTS)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _CLIENTS * _EACH / (time.perf_counter() - begun)


ALL: dict[str, Callable[[], Figures]] = {"reservations": reservations}
