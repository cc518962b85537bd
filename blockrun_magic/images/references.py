"""What the text after `--image` and `--mask` means: a URL, a variable, or a file."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import SourceError
from blockrun_magic.images.detection import is_image_like

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PICTURE_SUFFIXES", "find_source"]

_AS_IT_IS = re.compile(r"https?://|data:[^,]*,", re.IGNORECASE)
_VARIABLE = re.compile(r"(?P<name>[^\W\d]\w*)(?:\[(?P<index>-?\d{1,9})\])?")
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
_FILES_LOOKED_AT = 2000
_SUGGESTIONS = 4


def find_source(text: str, namespace: Mapping[str, object]) -> object:
    """Return what `text` means: the URL or data URI itself, a variable's value, or a Path that exists.

    `name` and `name[3]` are variables; one that is no picture gives way to a file of its name.
    Raises SourceError, with the nearest names there are, when it is none of these.
    """
    if _AS_IT_IS.match(text):
        return text
    match = _VARIABLE.fullmatch(text)
    path = _existing(text)
    if match is None or match["name"] not in namespace:
        if path is None:
            raise SourceError(f"There is no picture {text[:200]!r} here.", _suggest(text, namespace))
        return path
    value = namespace[match["name"]]
    if match["index"] is not None:
        value = path if path is not None and not hasattr(value, "__getitem__") else _item(value, match)
    if is_image_like(value):
        return value
    if path is not None:
        return path
    raise SourceError(f"{text} is {_kind(value)}, not a picture.", _what_to_name(text, value, namespace))


def _existing(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # no name a file could have
        return None


def _item(value: object, match: re.Match[str]) -> object:
    try:
        return value[int(match["index"])]  # type: ignore[index]
    except (LookupError, TypeError, ValueError):
        size = f", which has {len(value)}" if isinstance(value, list | tuple) else ""
        raise SourceError(
            f"There is no item {match['index']} in {match['name']}{size}.",
            f"Look at {match['name']} in a cell of its own; items are counted from 0.",
        ) from None


def _kind(value: object) -> str:
    if isinstance(value, os.PathLike):
        return "the path of a file that does not exist"
    if value is None:
        return "None"
    label = f"{type(value).__name__}"
    return f"{'an' if label[0].lower() in 'aeio' else 'a'} {label}"


def _what_to_name(text: str, value: object, namespace: Mapping[str, object]) -> str:
    if isinstance(value, list | tuple) and value and is_image_like(value[0]):
        return f"Name one of its items: {text}[0] to {text}[{len(value) - 1}]."
    if isinstance(value, str):
        return "Write the path or URL itself; a variable must hold the picture, or a pathlib.Path to it."
    return _suggest(text, namespace)


def _suggest(text: str, namespace: Mapping[str, object]) -> str:
    variables = [name for name, value in namespace.items() if name[:1] != "_" and is_image_like(value)]
    folder, files = _pictures_beside(text)
    near = difflib.get_close_matches(text, variables, _SUGGESTIONS, 0.5)
    close = difflib.get_close_matches(Path(text).name, files, _SUGGESTIONS, 0.5)
    near += [str(folder / name) for name in close]
    if near:
        return f"Did you mean {' or '.join(near)}?"
    some = variables[-_SUGGESTIONS:] + [str(folder / name) for name in files[:_SUGGESTIONS]]
    if some:
        return f"There are {', '.join(some)}; a path or URL is fine too."
    return "Give a path, a URL, or the name of a variable that holds a picture."


def _pictures_beside(text: str) -> tuple[Path, list[str]]:
    """Return the folder that `text` would be in, and the names of the picture files there."""
    try:
        folder = Path(text).expanduser().parent
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_FILES_LOOKED_AT), strict=False)]
    except (OSError, ValueError, RuntimeError):
        return Path(), []
    return folder, sorted(name for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES)
