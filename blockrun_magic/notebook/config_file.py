"""Settings for all kernels, in `magic/config.toml`: the gateway, and the sum above which a cell asks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from blockrun_magic.errors import UsageError
from blockrun_magic.files import read_file, write_atomically
from blockrun_magic.payments.money import format_usd, parse_usd

__all__ = ["ask_above", "remember_ask_above", "remember_classroom", "remember_gateway", "remembered_gateway"]

_MAX_BYTES = 1_000_000
_NAME = re.compile(r"[\w.:/\[\]#~@+-]{1,400}", re.ASCII)


def remembered_gateway(home: Path) -> str | None:
    """Return the gateway named in the file, or None without one; raises UsageError for a file that is not TOML."""
    return _read(home, "gateway", "base")


def remember_gateway(home: Path, name: str) -> Path:
    """Write `name` as the gateway of new kernels, and return the file; its other lines are unchanged.

    Raises UsageError for a file that cannot be written, or a name that is not valid there.
    """
    if not _NAME.fullmatch(name):
        raise UsageError("This is not the name of a gateway.", "Use the name of a gateway or a URL.")
    return _write(home, "gateway", name)


def remember_classroom(home: Path, url: str) -> None:
    """Write the address of the classroom that was joined; raises UsageError."""
    if not _NAME.fullmatch(url):
        raise UsageError("This is not the address of a classroom.", "Write it like https://class.example.")
    _write(home, "classroom", url)


def ask_above(home: Path) -> int | None:
    """Return the sum in micro-USDC above which a cell asks before it pays, or None if it never asks."""
    text = _read(home, "ask", "0.50")
    try:
        return parse_usd(text) if text else None
    except ValueError:
        raise UsageError(
            f"The value of ask in {_path(home)} is not an amount in dollars.",
            "Set it with `%blockrun budget --ask 0.50`.",
        ) from None


def remember_ask_above(home: Path, micros: int) -> None:
    """Let cells ask above `micros` micro-USDC from now on, in every kernel; 0 turns that off. Raises UsageError."""
    _write(home, "ask", format_usd(micros).removeprefix("$") if micros else "")


def _read(home: Path, name: str, example: str) -> str | None:
    path = _path(home)
    try:
        value = tomllib.loads(read_file(path, _MAX_BYTES).decode()).get(name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}.", f'Write it like {name} = "{example}", or remove it.'
        ) from None
    if value is not None and not isinstance(value, str):
        raise UsageError(f"The value of {name} in {path} is not a text.", f'Write it like {name} = "{example}".')
    return value or None


def _write(home: Path, name: str, value: str) -> Path:
    path = _path(home)
    line, pattern = f'{name} = "{value}"', re.compile(rf"^{name}[ \t]*=.*$", re.MULTILINE)
    try:
        text = read_file(path, _MAX_BYTES).decode() if path.exists() else ""
        text = pattern.sub(line, text, count=1) if pattern.search(text) else f"{line}\n{text}"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, text.encode(), durable=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be written: {error}.", "Free some space or check the permissions of that folder."
        ) from None
    return path


def _path(home: Path) -> Path:
    return home / "magic" / "config.toml"
