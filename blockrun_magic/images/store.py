"""The pictures that were bought, as content-addressed files: named by the SHA-256 of their bytes.

A file is written whole or not at all, and read back only if its hash still matches its name.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blockrun_magic.errors import StoreError
from blockrun_magic.files import sync_folder, write_atomically
from blockrun_magic.images.media_types import suffix_of

__all__ = ["Store", "StoredFile"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One kept file: its SHA-256 (hex), bytes and the Unix time it was written."""

    path: Path
    digest: str
    size: int
    written_at: float


class Store:
    """A folder of files, fanned out by the first two digits of their hash."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str, media_type: str) -> Path:
        """Return where the file with this SHA-256 (hex) is, or would be."""
        return self.root / digest[:2] / (digest + suffix_of(media_type))

    def put(self, data: bytes, media_type: str) -> str:
        """Keep `data` and return its SHA-256 (hex); raises StoreError when it cannot be written."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest, media_type)
        if not _holds(path, data):
            self._keep(path, data)
        return digest

    def files(self) -> list[StoredFile]:
        """Return every kept file, oldest first."""
        found = []
        for path in self.root.glob("[0-9a-f][0-9a-f]/[0-9a-f]*"):
            with suppress(FileNotFoundError):  # another kernel removed it just now
                stat = path.stat()
                found.append(StoredFile(path, path.stem, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda file: file.written_at)

    def quarantine(self, data: bytes) -> Path:
        """Keep bytes that were paid for and are not a picture; return where they are, or raise StoreError."""
        path = self.root / "not-pictures" / hashlib.sha256(data).hexdigest()[:16]
        self._keep(path, data)
        return path

    def get(self, digest: str, media_type: str) -> bytes:
        """Return the bytes of a kept file; raises StoreError when it is missing or damaged."""
        path = self.path(digest, media_type)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"The kept picture {path} cannot be read: {error.strerror}.",
                "It was paid for: restore it from a backup, or buy another take with --fresh.",
            ) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(
                f"The kept picture {path} is damaged: its bytes no longer match its name.",
                "It is not shown. Restore it from a backup, or buy another take with --fresh.",
            )
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
            sync_folder(path.parent.parent)  # the folder may be new itself
        except OSError as error:
            raise StoreError(
                f"The picture could not be kept in {self.root}: {error}.",
                "Free some space and run the cell again: it collects what was paid for.",
            ) from error


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False
