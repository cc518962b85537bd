"""Lesson archives: ZIP files, packed and unpacked within limits, all or nothing."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from blockrun_magic.errors import LessonError, SourceError
from blockrun_magic.files import open_regular, write_atomically
from blockrun_magic.images.formats import verify
from blockrun_magic.images.media_types import media_type_of, suffix_of
from blockrun_magic.payments.ledger.records import StoredImage
from blockrun_magic.safejson import read_json
from blockrun_magic.studio.lessons.lesson import FOLDER, INDEX, MAX_IMAGE, MAX_INDEX, lesson_index, open_lesson
from blockrun_magic.studio.results.result import ImageResult
from blockrun_magic.text import quoted, sanitize

__all__ = ["pack_lesson", "unpack_lesson"]

_MAX_ENTRIES = 5000
_MAX_TOTAL = 1024 * 1024 * 1024
_MAX_NOTEBOOK = 100 * 1024 * 1024
_CHUNK = 1024 * 1024
_HEAD = 64
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NAME = r"[^/\\:.\0][^/\\:\0]*"
_ENTRY = re.compile(rf"{_NAME}\.ipynb|{_NAME}{re.escape(FOLDER)}/(?:{INDEX}|[0-9a-f]{{64}}\.(?:png|jpg|webp))")
_AGAIN = "Get a new copy of the lesson."


def pack_lesson(target: Path, notebook: Path, results: Sequence[ImageResult], *, strict: bool) -> int:
    """Write `notebook` and a lesson with `results` as the new ZIP file `target`; return its number of answers.

    One image is in memory at a time. Raises LessonError; then nothing is left behind.
    """
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    folder = f"{target.stem}{FOLDER}"
    index, count = lesson_index(target.stem, results, strict=strict)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(draft, "x", zipfile.ZIP_DEFLATED) as archive:
            archive.write(notebook, f"{target.stem}.ipynb")
            _pack_images(archive, folder, results)
            archive.writestr(f"{folder}/{INDEX}", index)
        if os.path.lexists(target):
            raise LessonError(f"{target} exists already.", "Choose another name, or remove the file.")
        draft.replace(target)
    except (OSError, ValueError) as error:
        raise LessonError(f"{target} cannot be written: {error}.", "Choose another path.") from error
    finally:
        draft.unlink(missing_ok=True)
    return count


def _pack_images(archive: zipfile.ZipFile, folder: str, results: Sequence[ImageResult]) -> None:
    pairs = (pair for each in results for pair in zip(each.stored, each.files, strict=True))
    images = {stored.file: (stored, path) for stored, path in pairs}
    largest = max((path.stat().st_size for _, path in images.values() if path.is_file()), default=0)
    memory = memoryview(bytearray(min(largest, MAX_IMAGE)))
    with ThreadPoolExecutor(1, "blockrun-lesson") as pool:
        for stored, path in images.values():
            name = f"{folder}/{stored.file}{suffix_of(stored.media_type)}"
            try:
                with open_regular(path) as file:
                    data = memory[: file.readinto(memory)]
                _pack_image(archive, name, stored, data, pool)
            except (OSError, ValueError) as error:
                raise LessonError(f"{path} cannot be packed: {error}.", "Run its cell again, then export.") from error


def _pack_image(
    archive: zipfile.ZipFile, name: str, stored: StoredImage, data: memoryview, pool: ThreadPoolExecutor
) -> None:
    """Write an image while `pool` hashes it; raises ValueError unless the hash matches its name."""
    digest = pool.submit(hashlib.sha256, data)
    # Images are compressed already: packing them again costs 40 ms each and saves nothing.
    archive.writestr(name, data, zipfile.ZIP_STORED)
    if digest.result().hexdigest() != stored.file or media_type_of(bytes(data[:_HEAD])) != stored.media_type:
        raise ValueError("it is damaged: its bytes do not match its name")


def unpack_lesson(archive: Path) -> tuple[Path, list[str]]:
    """Unpack a lesson beside its ZIP file; return its folder, and notes about existing files.

    Every entry is checked before any is moved into place: size, name, hash, format and index. An existing file is
    never overwritten. Raises LessonError; then nothing has been written.
    """
    archive = archive.absolute()
    draft = archive.parent / f".{archive.name[:100]}.{secrets.token_hex(4)}"
    try:
        with _opened(archive) as packed:
            names = _names(packed, archive)
            draft.mkdir(mode=0o700)
            _extract(packed, names, draft)
        folder = next((Path(name).parent for name in names if name.endswith(f"/{INDEX}")), None)
        if folder is None:
            raise LessonError(f"{archive} is not a lesson.", "`%blockrun lesson export FILE.zip` makes one.")
        open_lesson(draft / folder)
        notes = _put_in_place(draft, archive.parent, names)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError, NotImplementedError) as error:
        reason = sanitize(error, 120) or type(error).__name__
        raise LessonError(f"{archive} cannot be unpacked: {reason}.", f"Nothing was written. {_AGAIN}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    notebooks = [f"Its notebook is {archive.parent / name}." for name in names if name.endswith(".ipynb")]
    return archive.parent / folder, [*notebooks, *notes]


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    descriptor = os.open(archive, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a regular file")
        with zipfile.ZipFile(file) as packed:
            yield packed


def _names(packed: zipfile.ZipFile, archive: Path) -> list[str]:
    """Return the names of the entries; raises LessonError for an archive that no export can have made."""
    entries = packed.infolist()
    names = [entry.filename for entry in entries]
    for entry in entries:
        if _ENTRY.fullmatch(entry.filename) is None or names.count(entry.filename) > 1:
            raise LessonError(
                f"{archive} contains {quoted(entry.filename)}, which does not belong in a lesson.", _AGAIN
            )
        if entry.flag_bits & 1 or entry.compress_type not in _METHODS or stat.S_ISLNK(entry.external_attr >> 16):
            raise LessonError(f"{archive} contains an entry that is encrypted or packed in an unknown way.", _AGAIN)
        if len(entries) > _MAX_ENTRIES or entry.file_size > _limit(entry.filename):
            raise LessonError(f"{archive} is too large.", _AGAIN)
    if len({name.split("/")[0] for name in names if "/" in name}) > 1:
        raise LessonError(f"{archive} contains more than one lesson.", _AGAIN)
    return names


def _limit(name: str) -> int:
    if name.endswith(".ipynb"):
        return _MAX_NOTEBOOK
    return MAX_INDEX if name.endswith(INDEX) else MAX_IMAGE


def _extract(packed: zipfile.ZipFile, names: list[str], draft: Path) -> None:
    left = _MAX_TOTAL
    for name in names:
        place = draft.joinpath(*name.split("/"))
        place.parent.mkdir(exist_ok=True)
        with packed.open(name) as source, place.open("xb") as target:
            left -= _copy(source, target, min(left, _limit(name)))
        _check_entry(name, place)


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> int:
    """Copy at most `limit` bytes and return their number; raises ValueError for more, despite the declared size."""
    count = 0
    while part := source.read(_CHUNK):
        count += len(part)
        if count > limit:
            raise ValueError("an entry is too large")
        target.write(part)
    return count


def _check_entry(name: str, place: Path) -> None:
    """Raise ValueError unless an extracted file matches its name: a notebook, an index, or the image with this hash."""
    data = place.read_bytes()
    if name.endswith(".ipynb"):
        notebook = read_json(data)
        if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
            raise ValueError("its notebook is not a notebook")
    elif not name.endswith(INDEX):
        media_type = media_type_of(data)
        if (
            hashlib.sha256(data).hexdigest() != place.stem
            or media_type is None
            or suffix_of(media_type) != place.suffix
        ):
            raise ValueError("an image does not match the hash in its name")
        try:
            verify(data)
        except SourceError as error:
            raise ValueError(error.message) from error


def _put_in_place(draft: Path, folder: Path, names: list[str]) -> list[str]:
    """Move the files to `folder`, the index last; undo all moves if one fails."""
    notes, moved = [], []
    try:
        for name in sorted(names, key=lambda name: name.endswith(INDEX)):
            source, place = draft.joinpath(*name.split("/")), folder.joinpath(*name.split("/"))
            place.parent.mkdir(exist_ok=True)
            data = source.read_bytes()
            try:
                write_atomically(place, data, exclusive=True, durable=False)
                moved.append(place)
            except FileExistsError:
                if not (place.is_file() and place.stat().st_size == len(data) and place.read_bytes() == data):
                    notes.append(f"{place} already exists with different contents; it was not overwritten.")
    except BaseException:
        for place in moved:
            place.unlink(missing_ok=True)
        raise
    return notes
