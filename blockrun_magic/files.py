"""TODO."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["sync_folder"]


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last beyond a power cut."""
    if os.name != "posix":  # Windows opens no folders, and keeps their entries by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give_name(draft: Path, path: Path) -> None:
    """Let `draft` be known as `path`; raises FileExistsError when that name is taken."""
    try:
        os.link(draft, path)  # unlike a rename, this never takes a name from another file
    except FileExistsError:
        raise
    except OSError:  # no links on this file system: an empty file, which is no key, takes the name first
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        draft.replace(path)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _write_whole(path: Path, data: bytes) -> None:
    """Write `data` so that `path` is, at every moment, absent or complete, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        # The new name, and that of a new folder, are entries of folders: they have to last as well.
        for folder in (path.parent, path.parent.parent):
            _sync_folder(folder)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows opens no folders, and keeps their entries by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
