"""Removal of stored files: only those with a receipt in the ledger."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from operator import attrgetter

from blockrun_magic.garbage import no_garbage
from blockrun_magic.images.store import Store, StoredFile
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.reports import paid_for, stored_files

__all__ = ["PrunePlan", "plan_pruning", "remove_files"]

_THREADS = 2
"""Removing a file waits for the file system, which works on several folders at once; more than two get in its way."""


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """The files to remove, their cost in real micro-USDC, and the number of files without a receipt, which stay."""

    files: tuple[StoredFile, ...]
    paid: int
    without_receipt: int


@no_garbage()
def plan_pruning(
    ledger: Ledger, store: Store, now: float, *, older_than: float | None, larger_than: int | None
) -> PrunePlan:
    """Return the files to remove: those older than `older_than` seconds, then the oldest above a total size.

    `larger_than` is in bytes. A file the ledger does not know, or one that an open purchase still
    needs, stays.
    """
    receipts = stored_files(ledger)
    digests = {digest for digest, _ in receipts}
    files = store.files()
    known = [file for file in files if file.digest in digests]
    if larger_than is not None:
        known.sort(key=attrgetter("written_at"))
    until = -inf if older_than is None else now - older_than
    chosen = [file for file in known if file.written_at < until]
    if larger_than is not None:
        left = sum(file.size for file in files) - sum(file.size for file in chosen)
        for file in known[len(chosen) :]:  # those that were chosen are the oldest
            if left <= larger_than:
                break
            chosen.append(file)
            left -= file.size
    going = {file.digest for file in chosen}
    purchases = {purchase for digest, purchase in receipts if digest in going}
    return PrunePlan(tuple(chosen), paid_for(ledger, purchases) if purchases else 0, len(files) - len(known))


def remove_files(plan: PrunePlan) -> None:
    """Remove the files of `plan`, some of which may be missing already; raises OSError."""
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for file in plan.files:
        folders[os.path.dirname(file.path)].append(file.path)  # noqa: PTH120  as below
    with ThreadPoolExecutor(_THREADS) as threads:
        # One thread per folder: two would block each other.
        for _ in threads.map(_remove, folders.values()):
            pass


def _remove(paths: Sequence[str]) -> None:
    for path in paths:
        try:
            os.unlink(path)  # noqa: PTH108  for 100,000 files, pathlib takes a second more
        except FileNotFoundError:
            continue
