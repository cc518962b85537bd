"""A ledger and a store of the size that they have after years of use."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from clients import Ours
from measures import TURNS, Figures, row

from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.reports import spending_by_day, spending_by_model, spending_summary
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.ledger.years.search import HistorySearch
from blockrun_magic.payments.ledger.years.sums import add_up
from blockrun_magic.studio.pruning import plan_pruning, remove_files

__all__ = ["ALL", "ledger_of", "store_of"]

_SECONDS_BETWEEN = 60
_REMOVALS = 3
_REPORTS = (spending_summary, spending_by_model, spending_by_day)


def ledger_of(path: Path, count: int) -> Ledger:
    """Return a ledger with this number of settled and finished purchases, a minute apart; the last one is from now."""
    ledger = Ledger(path, "now")
    begun = time.time() - count * _SECONDS_BETWEEN
    model, endpoint = "black-forest/flux-1.1-pro", "/v1/images/generations"
    request = json.dumps({"endpoint": endpoint, "prompt": "a lighthouse", "model": model, "image": [], "mask": None})
    with ledger.transaction() as connection:
        connection.executemany(
            """INSERT INTO purchases (id, created_at, realm, gateway, digest, take, request, finished_at, seconds)
            VALUES (?, ?, 'real', 'base', ?, 1, ?, ?, 1.0)""",
            (
                (f"{number:010x}", when, f"sha256:{number:064x}", request, when)
                for number in range(count)
                for when in [begun + number * _SECONDS_BETWEEN]
            ),
        )
        connection.executemany(
            """INSERT INTO authorizations (purchase_id, session, realm, created_at, updated_at, state, amount, gateway,
                logged) VALUES (?, ?, 'real', ?, ?, ?, 42000, 'base', 1)""",
            (
                (f"{number:010x}", f"session {number // 100}", when, when, State.SETTLED)
                for number in range(count)
                for when in [begun + number * _SECONDS_BETWEEN]
            ),
        )
    return ledger


def store_of(root: Path, count: int) -> tuple[Store, list[str]]:
    """Return a store of this number of tiny files, and their names."""
    store, names = Store(root), []
    for number in range(count):
        content = f"picture {number}".encode()
        name = hashlib.sha256(content).hexdigest()
        path = store.path(name, "image/png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        names.append(name)
    return store, names


def growth() -> Figures:
    """Milliseconds to query a ledger with a million receipts, and to find one of 100,000 images."""
    found: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        ledger = ledger_of(Path(folder) / "ledger.sqlite", 1_000_000)
        nowhere = HistorySearch("real", "zeppelin")
        questions = {
            "what this session and this day cost": lambda: ledger.committed("real"),
            "what all of it cost, by model and by day": lambda: [ask(ledger, "real", "all") for ask in _REPORTS],
            "a page of the history": lambda: ledger.search_finished(HistorySearch("real"), 20),
            "a word in many prompts": lambda: ledger.search_finished(HistorySearch("real", "lighthouse"), 20),
            "a word that is nowhere in the history": lambda: ledger.search_finished(nowhere, 20),
            "what is open": ledger.open_payments,
        }
        begun = time.process_time()
        add_up(ledger)
        name = "seconds of processor time to add a million receipts up, once and in the background"
        found |= row(name, {Ours.name: [time.process_time() - begun]})
        for name, ask in questions.items():
            found |= row(f"ms with a million receipts: {name}", {Ours.name: _times(ask)}, 1000)
        ledger.close()
        store, names = store_of(Path(folder) / "pictures", 100_000)
        picks = iter(names)
        found |= row(
            "ms to read one of 100,000 stored images",
            {Ours.name: _times(lambda: store.get(next(picks), "image/png"))},
            1000,
        )
    return found


def _removal(folder: Path) -> Figures:
    """Seconds to remove 100,000 images with `store prune`, and with os.unlink alone."""
    store, names = store_of(folder / "pictures", 100_000)
    ledger = _bought(folder / "prune.sqlite", names)
    ours, alone = [], []
    for _ in range(_REMOVALS):
        ours.append(_prune(ledger, store, len(names)))
        store_of(store.root, len(names))
        alone.append(_unlink(store))
        store_of(store.root, len(names))
    ledger.close()
    found: Figures = {}
    for place, unit in enumerate(("seconds", "seconds of processor time")):
        times = {Ours.name: [each[place] for each in ours], "os.unlink alone": [each[place] for each in alone]}
        found |= row(f"{unit} to remove 100,000 stored images", times)
    return found


def _bought(path: Path, names: list[str]) -> Ledger:
    """Return a ledger with a purchase of each of these images."""
    ledger = ledger_of(path, len(names))
    with ledger.transaction() as connection:
        connection.executemany(
            "INSERT INTO pictures (purchase_id, position, file, media_type, width, height) VALUES (?, 0, ?, ?, 8, 8)",
            ((f"{number:010x}", name, "image/png") for number, name in enumerate(names)),
        )
    return ledger


def _prune(ledger: Ledger, store: Store, count: int) -> tuple[float, float]:
    """Return the seconds and the processor time of a `store prune` that removes this number of images."""
    begun = time.perf_counter(), time.process_time()
    plan = plan_pruning(ledger, store, time.time() + 60, older_than=0.0, larger_than=None)
    remove_files(plan)
    taken = time.perf_counter() - begun[0], time.process_time() - begun[1]
    if len(plan.files) != count:
        raise SystemExit(f"only {len(plan.files)} of {count} files were removed")
    return taken


def _unlink(store: Store) -> tuple[float, float]:
    """Return the seconds and the processor time of os.unlink for all files, folder by folder."""
    paths = [file.path for file in store.files()]
    begun = time.perf_counter(), time.process_time()
    for path in paths:
        os.unlink(path)  # noqa: PTH108  only os.unlink is measured
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def _times(ask: Callable[[], object]) -> list[float]:
    taken = []
    for _ in range(TURNS):
        begun = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - begun)
    return taken


def prune() -> Figures:
    """Seconds of `store prune` for 100,000 images."""
    with tempfile.TemporaryDirectory() as folder:
        return _removal(Path(folder))


ALL: dict[str, Callable[[], Figures]] = {"growth": growth, "prune": prune}
