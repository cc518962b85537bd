"""PostgreSQL's advisory locks: the server releases them when the connection of their process ends.

A process has one connection for all its locks. If it breaks, the process takes them again; a lock that another process
has taken meanwhile is lost.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg

__all__ = ["AdvisoryLock", "AdvisoryLocks", "lock_key"]

_TAKE = "SELECT pg_try_advisory_lock($1)"


def lock_key(scope: str, name: str) -> int:
    """Return the 64-bit key of a lock for PostgreSQL."""
    return int.from_bytes(hashlib.sha256(f"{scope}\0{name}".encode()).digest()[:8], "big", signed=True)


class AdvisoryLocks:
    """The locks that this process holds, all on one connection, which `connect` opens."""

    def __init__(self, connect: Callable[[], psycopg.Connection], scope: str) -> None:
        self._connect = connect
        self._scope = scope
        self._mutex = threading.Lock()
        self._connection: psycopg.Connection | None = None
        self._held: dict[str, int] = {}
        """The number of holders of each lock here; more than one if it is shared."""
        self.lost: set[str] = set()
        """Locks that another process has taken since their connection broke, until they are released."""

    def take(self, name: str, *, shared: bool) -> bool:
        """Return whether the lock is ours now."""
        with self._mutex:
            if name in self._held:
                if shared:
                    self._held[name] += 1
                return shared
            taken = self._try(name)
            if taken:
                self._held[name] = 1
                self.lost.discard(name)
            return taken

    def give_back(self, name: str) -> None:
        """Release the lock when its last holder here has released it."""
        with self._mutex:
            self.lost.discard(name)
            if name not in self._held:
                return
            self._held[name] -= 1
            if self._held[name]:
                return
            del self._held[name]
            # If the connection is broken, the server has released it already.
            with suppress(psycopg.Error):
                if self._connection is not None:
                    self._connection.execute("SELECT pg_advisory_unlock($1)", (lock_key(self._scope, name),))

    def holds(self, name: str) -> bool:
        """Return whether the lock is held here."""
        return name in self._held

    def verify(self) -> None:
        """Take the locks again if their connection broke; those that another process has are `lost`."""
        with self._mutex:
            if self._held:
                self._alive()

    def close(self) -> None:
        """Close the connection, which releases all locks."""
        with self._mutex:
            self._held.clear()
            self._close()

    def _try(self, name: str) -> bool:
        """Return whether the lock is ours now; uses a new connection if the old one is broken."""
        if self._connection is not None:
            try:
                return self._take(name)
            except psycopg.OperationalError:
                self._close()
        self._reconnect()
        return self._take(name)

    def _alive(self) -> None:
        """Ensure a working connection that holds our locks."""
        if self._connection is not None:
            try:
                self._connection.execute("SELECT 1")
            except psycopg.OperationalError:
                self._close()
            else:
                return
        self._reconnect()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _reconnect(self) -> None:
        self._connection = self._connect()
        for name in [*self._held]:
            if not self._take(name):
                del self._held[name]
                self.lost.add(name)

    def _take(self, name: str) -> bool:
        assert self._connection is not None  # noqa: S101  it was opened just now, or looked for
        row = self._connection.execute(_TAKE, (lock_key(self._scope, name),)).fetchone()
        return bool(row and row[0])


class AdvisoryLock:
    """A named lock; `shared`: all locks of this name in this process count as one."""

    def __init__(self, locks: AdvisoryLocks, name: str, *, shared: bool) -> None:
        self._locks = locks
        self._name = name
        self._shared = shared
        self._taken = False

    def try_acquire(self) -> bool:
        """Return whether this call took the lock."""
        if self._locks.take(self._name, shared=self._shared):
            self._taken = True
            return True
        return False

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._taken:
            self._taken = False
            self._locks.give_back(self._name)

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock, as far as known."""
        return self._taken and self._locks.holds(self._name)
