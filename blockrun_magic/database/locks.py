"""Locks between processes: one file each, which the operating system releases when the process ends."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from blockrun_magic.errors import LedgerError, Money
from blockrun_magic.files import create_folder

__all__ = ["FileLocks", "Lock", "Locks"]

_MODE = 0o600
_MAX_NAME = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class Lock(Protocol):
    """A lock of one holder; it ends with its process."""

    def try_acquire(self) -> bool:
        """Return whether this call took the lock; raises LedgerError if locks cannot be used."""

    def release(self) -> None:
        """Release the lock, if it is held."""

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock, as far as known."""


class Locks(Protocol):
    """Locks by their names."""

    def lock(self, name: str, *, shared: bool = False) -> Lock:
        """Return the lock called `name`."""

    def is_locked(self, name: str) -> bool:
        """Return whether a process holds the lock called `name`."""


class _OneFile:
    """A lock file; a `shared` one counts all locks of the process as one, and its last holder removes it."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        self._path = path
        self._shared = shared
        self._held = False
        self._lock = FileLock(path, mode=_MODE, thread_local=False, is_singleton=shared)

    def try_acquire(self) -> bool:
        try:
            create_folder(self._path.parent)
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            raise LedgerError(
                f"The lock file {self._path} cannot be used: {getattr(error, 'strerror', None) or error}.",
                f"Check the owner and the permissions of {self._path.parent},"
                " or set BLOCKRUN_HOME to a folder on a local disk.",
                Money.nothing_sent(),
            ) from error
        self._held = True
        return True

    @property
    def is_held(self) -> bool:
        return self._held

    def release(self) -> None:
        if not self._held:
            return
        self._held = False
        self._lock.release()
        if self._shared and not self._lock.is_locked:
            with suppress(OSError):
                self._path.unlink()


class FileLocks:
    """The locks in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lock(self, name: str, *, shared: bool = False) -> Lock:
        """Return the lock called `name`; with `shared`, all locks of this name in this process count as one."""
        return _OneFile(self._path(name), shared=shared)

    def is_locked(self, name: str) -> bool:
        """Return whether a process holds the lock, or whether that is unknown."""
        path = self._path(name)
        if not path.exists():
            return False
        lock = FileLock(path, mode=_MODE, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return True
        path.unlink(missing_ok=True)
        lock.release()
        return False

    def _path(self, name: str) -> Path:
        if _UNSAFE.search(name) or len(name) > _MAX_NAME:
            name = hashlib.sha256(name.encode()).hexdigest()[:32]
        return self._folder / f"{name}.lock"
