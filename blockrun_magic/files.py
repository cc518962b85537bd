"""Files: read within bounds; written atomically, privately where asked, and so that they survive a power cut."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

__all__ = [
    "create_folder",
    "create_private",
    "open_regular",
    "read_bounded",
    "read_file",
    "sync_folder",
    "write_atomically",
]


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file, at most `limit` + 1 of them: more than `limit` means that it is too large.

    Raises OSError, also for a directory, a pipe or a device: it never waits for those.
    """
    with open_regular(path) as file:
        # Memory for all of `limit` would be taken first. Files of the kernel say that they are empty.
        return file.read(min(os.fstat(file.fileno()).st_size or limit, limit) + 1)


@contextmanager
def open_regular(path: Path) -> Iterator[FileIO]:
    """Yield a regular file, unbuffered; raises OSError, also for a directory, a pipe or a device."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with FileIO(descriptor) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield file


def read_file(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file; raises OSError as `read_bounded`, also for more than `limit` bytes."""
    data = read_bounded(path, limit)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit / 1_000_000:.3g} MB")
    return data


def write_atomically(
    path: Path, data: bytes, *, mode: int = 0o666, exclusive: bool = False, durable: bool = True
) -> None:
    """Write `data` so that `path` is, at every moment, absent, the old file or the whole new one.

    `mode` are the permission bits of the new file, before the umask. With `exclusive`, FileExistsError is raised
    where `path` exists already. With `durable`, the file and its name survive a power cut.
    Raises OSError; nothing is left behind then.
    """
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if exclusive:
            _link(draft, path, mode)
        else:
            draft.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def create_folder(folder: Path, mode: int = 0o700) -> None:
    """Create `folder` and its missing parents, so that they survive a power cut; raises OSError.

    Syncing a file does not sync the name of its folder: without that name, the file is lost as well.
    """
    if folder.is_dir():
        return
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        missing.mkdir(mode=mode, exist_ok=True)
        sync_folder(missing.parent)


def create_private(path: Path) -> None:
    """Create a file that only its owner can read, unless it exists; raises OSError.

    An existing file is not opened: closing a database would release the locks of this process's other connections,
    and the next process that closes it would remove the log to which they still write.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not path.is_file():  # a link to a missing file, or a folder, which is an error
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    if os.name != "posix":  # Windows does not open folders, and keeps their entries itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(draft: Path, path: Path, mode: int) -> None:
    try:
        os.link(draft, path)  # unlike a rename, this never replaces another file
    except FileExistsError:
        raise
    except OSError:  # no links on this file system: an empty file takes the name first
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        draft.replace(path)
