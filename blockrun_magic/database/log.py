"""SQLite's write-ahead log, which several transactions make durable with one wait for the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["WriteAheadLog"]

_TOGETHER = 0.005
"""Seconds that a wait for the disk lets others join that are being written."""
_sync = getattr(os, "fdatasync", os.fsync)


class WriteAheadLog:
    """The log of a database whose commits do not wait for the disk (`synchronous = NORMAL`).

    A transaction is written while no other thread writes, and waits for the disk afterwards. Those that are written
    until such a wait begins have it in common; it begins when no other is being written, a few milliseconds later at
    the latest.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}-wal")
        self._changed = threading.Condition()
        self._waiting = threading.Lock()
        self._begun = self._written = self._synced = 0

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """Wait until what was written inside, and before, is on the disk, also by other processes; raises OSError."""
        with self._changed:
            self._begun += 1
        try:
            yield
            with self._changed:
                self._written += 1
                number = self._written
        finally:
            with self._changed:
                self._begun -= 1
                self._changed.notify_all()
        self._sync(number)

    def _sync(self, number: int) -> None:
        with self._waiting:
            if number <= self._synced:
                return  # the wait of another thread has begun after it was written
            with self._changed:
                self._changed.wait_for(lambda: not self._begun, _TOGETHER)
                reached = self._written
            # Unlike that of the database, this file has no locks of SQLite's, which closing it would take away.
            descriptor = os.open(self._path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            try:
                _sync(descriptor)
            finally:
                os.close(descriptor)
            self._synced = reached
