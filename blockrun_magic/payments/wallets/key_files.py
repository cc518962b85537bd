"""Key files: readable by their owner only from the first byte, complete or absent, never overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from blockrun_magic.errors import WalletError
from blockrun_magic.files import create_folder, write_atomically
from blockrun_magic.payments.secrets import Secret, with_secrets

__all__ = ["check_absent", "create_private_dir", "create_private_file", "display_path", "read_keyfile"]

_LIMIT = 65_536
_ADVICE = "Nothing was changed. Choose another name or path, or move that file yourself."


def display_path(path: Path, home: Path) -> str:
    """Return `path` with ~ for `home`."""
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


def read_keyfile(path: Path, source: str) -> tuple[Secret, str | None] | WalletError | None:
    """Return the file's text and a warning; None if there is no file or it is empty."""
    advice = f"Put the key alone into {source}, as text, readable by you only (chmod 600)."
    try:
        # A directory cannot be read as a file, and opening a pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            return WalletError(f"{source} is not a file.", advice)
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_LIMIT).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return WalletError(f"{source} cannot be read: {error.strerror or type(error).__name__}.", advice)
    except UnicodeDecodeError:
        return WalletError(f"{source} is not a text file.", advice)
    if not text.strip():
        return None
    open_to_others = os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH)
    warning = f"{source} can be read by others: chmod 600 {source}" if open_to_others else None
    return Secret(text), warning


def check_absent(path: Path, source: str) -> None:
    """Raise WalletError if `path` exists, even as a broken link."""
    if os.path.lexists(path):
        raise WalletError(_exists(source), _ADVICE)


def create_private_file(path: Path, content: Secret, source: str) -> None:
    """Write a durable file that only its owner can read; raises WalletError, also if the file exists.

    Another process sees it complete or not at all, also after a power cut.
    """
    with_secrets(
        lambda value: write_atomically(path, _encoded(value), mode=0o600, exclusive=True),
        content,
        on_error=lambda error: _not_written(error, source),
    )


def create_private_dir(folder: Path) -> None:
    """Create `folder` and its missing parents, each for its owner only; raises WalletError."""
    problem = None
    try:
        create_folder(folder)
    except OSError as error:
        problem = f"The folder {folder} cannot be created: {error.strerror or type(error).__name__}."
    if problem is not None:
        raise WalletError(problem, "Create it yourself, or set BLOCKRUN_HOME to a folder that you can write to.")


def _encoded(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _exists(source: str) -> str:
    return f"{source} exists already; key files are never overwritten."


def _not_written(error: Exception, source: str) -> WalletError:
    if isinstance(error, FileExistsError):
        return WalletError(_exists(source), _ADVICE)
    reason = getattr(error, "strerror", None) or type(error).__name__
    return WalletError(f"{source} cannot be written: {reason}.", _ADVICE)
