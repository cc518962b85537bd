"""SQLite's write-ahead log, which several transactions make durable with one wait for the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["WriteAheadLog"]

_TOGETHER = 0.005
"""Seconds that a wait for the disk is delayed, so that transactions being written can join."""
_sync = getattr(os, "fdatasync", os.fsync)


class WriteAheadLog:
    """The log of a database whose commits do not wait for the disk (`synchronous = NORMAL`).

    A transaction is written while no other thread writes, and then waits for the disk. All transactions that are
    written before this wait begins share it; it begins when no other is being written, after a few milliseconds at
    most.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}-wal")
        self._changed = threading.Condition()
        self._waiting = threading.Lock()
        self._begun = self._written = self._synced = 0

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """Wait until everything written inside and before, even by other processes, is on disk; raises OSError."""
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
                return  # another thread's wait has begun after this was written
            with self._changed:
                self._changed.wait_for(lambda: not self._begun, _TOGETHER)
                reached = self._written
            # Closing this file is safe: SQLite has locks only on the database file.
            descriptor = os.open(self._path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            try:
                _sync(descriptor)
            finally:
                os.close(descriptor)
            self._synced = reached
