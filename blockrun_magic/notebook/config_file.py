"""What is remembered between kernels: `gateway = "..."` in `magic/config.toml`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from blockrun_magic.errors import UsageError
from blockrun_magic.files import write_atomically

__all__ = ["remember_gateway", "remembered_gateway"]

_GATEWAY = re.compile(r"^gateway[ \t]*=.*$", re.MULTILINE)
_NAME = re.compile(r"[\w.:/\[\]-]{1,200}", re.ASCII)


def remembered_gateway(home: Path) -> str | None:
    """Return the gateway named in the file, or None without one; raises UsageError for a file that is not TOML."""
    path = _path(home)
    try:
        value = tomllib.loads(path.read_text("utf-8")).get("gateway")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.", 'Write it like gateway = "base", or remove it.') from None
    if value is not None and not isinstance(value, str):
        raise UsageError(f"The gateway in {path} is not a text.", 'Write it like gateway = "base".')
    return value or None


def remember_gateway(home: Path, name: str) -> Path:
    """Write `name` as the gateway of the kernels to come, and return the file; its other lines stay.

    Raises UsageError for a file that cannot be written, or a name that does not belong there.
    """
    path = _path(home)
    if not _NAME.fullmatch(name):
        raise UsageError("This is not the name of a gateway.", "Remember a preset's name or a URL.")
    line = f'gateway = "{name}"'
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        text = _GATEWAY.sub(line, text, count=1) if _GATEWAY.search(text) else f"{line}\n{text}"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, text.encode(), durable=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be written: {error}.", "Set BLOCKRUN_API_URL instead, or see to it.") from None
    return path


def _path(home: Path) -> Path:
    return home / "magic" / "config.toml"
