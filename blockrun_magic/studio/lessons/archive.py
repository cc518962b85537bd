"""Lesson archives: ZIP files, packed and unpacked within limits."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from blockrun_magic.errors import LessonError
from blockrun_magic.studio.lessons.lesson import FOLDER, INDEX
from blockrun_magic.text import quoted

__all__ = []


_MAX_BYTES = 2_000_000_000


_NAME = r"[^/\\:.][^/\\:]*"


_ENTRY = re.compile(rf"{_NAME}\.ipynb|{_NAME}{re.escape(FOLDER)}/(?:{INDEX}|[0-9a-f]{{64}}\.(?:png|jpg|webp))")


def _unpack(archive: Path) -> tuple[Path, list[str]]:
    """Unpack a lesson beside its ZIP file, never over a file that is another; return its folder, and what to say."""
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            if sum(entry.file_size for entry in entries) > _MAX_BYTES:
                raise LessonError(f"{archive} is unreasonably large.", "Get the lesson again from where it came.")
            places = {entry.filename: _place_of(entry.filename, archive) for entry in entries}
            lines = [_put(place, packed.read(name)) for name, place in places.items()]
    except (OSError, zipfile.BadZipFile) as error:
        raise LessonError(f"{archive} cannot be unpacked: {error}.", "Check its name, or get it again.") from error
    folder = next((place.parent for place in places.values() if place.name == INDEX), None)
    if folder is None:
        raise LessonError(f"{archive} holds no lesson.", "`%blockrun lesson export FILE.zip` makes one.")
    notebooks = [f"Its notebook is {place}." for place in places.values() if place.suffix == ".ipynb"]
    return folder, [*notebooks, *filter(None, lines)]


def _place_of(name: str, archive: Path) -> Path:
    """Return where an entry of a lesson belongs; raises LessonError for a name that no lesson has."""
    if _ENTRY.fullmatch(name) is None:
        raise LessonError(f"{archive} holds {quoted(name)}, which no lesson has.", "Nothing was unpacked.")
    return archive.parent.joinpath(*name.split("/"))


def _put(place: Path, content: bytes) -> str:
    """Write a file that is not there yet; return what to say where another one is."""
    if place.exists():
        return "" if place.read_bytes() == content else f"{place} was there already, and is another: it stays as it is."
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    return ""
