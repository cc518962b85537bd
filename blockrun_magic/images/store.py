"""The store of bought images: content-addressed files, named by the SHA-256 of their bytes.

A file is written whole or not at all, and read back only if its hash still matches its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from blockrun_magic.errors import Money, StoreError
from blockrun_magic.files import create_folder, read_file, sync_folder, write_atomically
from blockrun_magic.images.media_types import suffix_of

__all__ = ["Store", "StoredFile", "write_temporary"]

_MAX_BYTES = 256 * 1024 * 1024
_MAX_FILE = 256 * 1024 * 1024
_MAX_SEEN = 1000
_Status = tuple[int, int, int, int]
_TRUST = 1.0
"""Seconds for which a store counts as writable after a successful write."""
_HEX_DIGITS = frozenset("0123456789abcdef")
_SPACE_PER_IMAGE = 16 * 1024 * 1024


class StoredFile(NamedTuple):
    """One stored file: its SHA-256 (hex), bytes and the Unix time it was written; a store may have 100,000 of them."""

    path: str
    digest: str
    size: int
    written_at: float


class Store:
    """A folder of files, fanned out by the first two digits of their hash."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._has_folders = False
        self._written_until = 0.0
        self._preparing = threading.Lock()
        self._seen: dict[Path, _Status] = {}

    def path(self, digest: str, media_type: str) -> Path:
        """Return the path for the file with this SHA-256 (hex), which may not exist."""
        return self.root / digest[:2] / (digest + suffix_of(media_type))

    def name_of(self, data: bytes) -> str:
        """Return the SHA-256 (hex) that names a file with these bytes."""
        return hashlib.sha256(data).hexdigest()

    def has(self, digest: str, media_type: str) -> bool:
        """Return whether the file exists and is not empty; its bytes are not read."""
        try:
            return self.path(digest, media_type).stat().st_size > 0
        except OSError:
            return False

    def check_writable(self, count: int = 1) -> None:
        """Raise StoreError unless `count` more images can be written; called before anything is signed."""
        try:
            with self._preparing:
                if not (self._has_folders and self.root.exists()):
                    self._create_folders()
                    self._check_folders()
            self._write_something()
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            raise StoreError(
                f"Images cannot be stored in {self.root}: {error.strerror or error}.",
                f"Check the permissions and the free space of {self.root}, or set BLOCKRUN_HOME to another folder.",
                Money.nothing_signed(),
            ) from error
        needed = count * _SPACE_PER_IMAGE
        if free < needed:
            raise StoreError(
                f"Images cannot be stored in {self.root}: {free / 1e6:.0f} MB are free, {needed / 1e6:.0f} MB needed.",
                "Free some space, or set BLOCKRUN_HOME to another folder.",
                Money.nothing_signed(),
            )

    def _write_something(self) -> None:
        """Write a file without a name; once a second is enough, because such files slow the file system down."""
        if time.monotonic() < self._written_until:
            return
        with tempfile.TemporaryFile(dir=self.root) as probe:
            probe.write(bytes(4096))
            probe.flush()
        self._written_until = time.monotonic() + _TRUST

    def put(self, data: bytes, media_type: str, digest: str | None = None) -> str:
        """Store `data` and return its SHA-256 (hex), computed unless it is given; raises StoreError."""
        digest = digest or self.name_of(data)
        path = self.path(digest, media_type)
        status = _status(path)
        if status is None or self._seen.get(path) != status:
            if status is None or not _holds(path, data):
                self._keep(path, data)
            self._remember(path)
        return digest

    def _remember(self, path: Path) -> None:
        """Remember a file that was just written or compared, so that it is not read again until it changes."""
        while len(self._seen) >= _MAX_SEEN:
            self._seen.pop(next(iter(self._seen)), None)
        if (status := _status(path)) is not None:
            self._seen[path] = status

    def _create_folders(self) -> None:
        """Create every folder that images may need, with one wait for the disk instead of one for each.

        A process always does this before its first image: an earlier one may have ended before the wait.
        """
        create_folder(self.root, 0o777)
        for number in range(256):
            with suppress(FileExistsError):
                (self.root / f"{number:02x}").mkdir(0o777)
        sync_folder(self.root)
        self._has_folders = True

    def _check_folders(self) -> None:
        with os.scandir(self.root) as entries:
            for entry in entries:
                if len(entry.name) == 2 and not (entry.is_dir() and os.access(entry.path, os.W_OK | os.X_OK)):
                    self._has_folders = False
                    raise PermissionError(f"{entry.path} is not a folder that can be written to")

    def files(self) -> list[StoredFile]:
        """Return every stored file, in no order."""
        files: list[StoredFile] = []
        for folder in self.root.glob("[0-9a-f][0-9a-f]"):
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                for entry in entries:
                    digest = entry.name.partition(".")[0]
                    if digest[:1] not in _HEX_DIGITS:
                        continue
                    try:
                        stat = entry.stat()
                    except FileNotFoundError:  # another kernel removed it just now
                        continue
                    files.append(StoredFile(entry.path, digest, stat.st_size, stat.st_mtime))
        return files

    def quarantine(self, data: bytes) -> Path:
        """Store paid bytes that are not an image, and return their path; raises StoreError."""
        path = self.root / "not-pictures" / hashlib.sha256(data).hexdigest()[:16]
        self._keep(path, data)
        return path

    def get(self, digest: str, media_type: str) -> bytes:
        """Return the bytes of a stored file; raises StoreError when it is missing or damaged."""
        path = self.path(digest, media_type)
        try:
            data = read_file(path, _MAX_BYTES)
        except OSError as error:
            raise StoreError(
                f"The stored image {path} cannot be read: {error.strerror or error}.",
                "Restore it from a backup, or buy another take with --fresh.",
            ) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(
                f"The stored image {path} is damaged: its bytes do not match its name.",
                "Restore it from a backup, or buy another take with --fresh.",
            )
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        try:
            if path.parent.parent == self.root and len(path.parent.name) == 2:
                if not (self._has_folders and path.parent.exists()):
                    self._create_folders()
            else:
                create_folder(path.parent, 0o777)
            write_atomically(path, data)
        except OSError as error:
            raise StoreError(
                f"The image could not be stored in {self.root}: {error.strerror or error}.",
                "Check the free space and the permissions of that folder.",
            ) from error


def _status(path: Path) -> _Status | None:
    """Return the status of a file, which changes with its bytes, or None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _holds(path: Path, data: bytes) -> bool:
    try:
        return read_file(path, len(data)) == data
    except OSError:
        return False


def write_temporary(data: bytes, media_type: str) -> Path:
    """Write bytes that the store could not take into a temporary folder, and return the path of the file.

    The path is returned even if nothing could be written: the caller still has the bytes.
    """
    name = hashlib.sha256(data).hexdigest()[:16] + (
        suffix_of(media_type) if media_type.startswith("image/") else ".bin"
    )
    with suppress(OSError):
        path = Path(tempfile.mkdtemp(prefix="blockrun-")) / name
        write_atomically(path, data, durable=False)
        return path
    return Path(tempfile.gettempdir()) / name
