"""Lessons: pictures and receipts in a folder beside a notebook, which answer its cells for nothing, offline.

    fox.ipynb
    fox.pictures/
    ├── lesson.json     what was asked, what it cost, which file answers it
    └── 3f2a....png     the pictures, named by the SHA-256 of their bytes

There is neither a key nor a payment header in it: a receipt names the payer's transaction, which is public.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockrun_magic.errors import LessonError, StoreError
from blockrun_magic.files import read_file
from blockrun_magic.images.formats import decode
from blockrun_magic.images.media_types import media_type_of
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.records import StoredImage
from blockrun_magic.safejson import read_json
from blockrun_magic.studio.results.images import StoredImages
from blockrun_magic.studio.results.result import ImageResult, Receipt

__all__ = ["FOLDER", "INDEX", "Lesson", "lessons_in", "open_lesson", "write_lesson"]

_MAX_IMAGE = 256_000_000
FOLDER = ".pictures"
"""What the name of a lesson's folder ends with."""
INDEX = "lesson.json"
_FORMAT = 1
_KINDS = ("image/png", "image/jpeg", "image/webp")
_MAX_INDEX = 50_000_000
_FILE = re.compile(r"[0-9a-f]{64}")
_RECEIPT = {
    "amount": "amount",
    "realm": "realm",
    "gateway": "gateway",
    "network": "network",
    "transaction": "transaction",
    "bought_at": "purchased_at",
    "settled": "settled",
    "estimated": "estimated",
}
"""Fields of a receipt by their keys in a lesson's file, whose format does not change."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """The pictures that a teacher hands out; `strict` says that a cell without one is an error, not practice."""

    name: str
    strict: bool
    _store: Store
    _answers: Mapping[tuple[str, int], Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self._answers)

    def take_of(self, digest: str, take: int | None) -> int | None:
        """Return the take of this request that is in the lesson: the one that is meant, else the first."""
        takes = sorted(known for asked, known in self._answers if asked == digest)
        return next((known for known in takes if take in (None, known)), None)

    def answer(self, digest: str, take: int) -> ImageResult:
        """Return the pictures of one take, each checked; raises StoreError for one that is missing or damaged."""
        entry = self._answers[digest, take]
        pictures = [StoredImage(**picture) for picture in entry["pictures"]]
        images = [
            decode(self._store.get(kept.file, kept.media_type), StoreError, "The lesson's picture", "Unpack it anew.")
            for kept in pictures
        ]
        receipt = Receipt(
            **{field: entry["receipt"][key] for key, field in _RECEIPT.items()},
            payer=None,
            request_digest=digest,
            take=take,
            purchase_id=entry["id"],
            cached=True,
            lesson=self.name,
        )
        files = [self._store.path(kept.file, kept.media_type) for kept in pictures]
        return ImageResult(entry["request"], receipt, pictures, files, entry["seconds"], StoredImages(files, images))


class FlatStore(Store):
    """The files of a lesson, in one folder."""

    def path(self, digest: str, media_type: str) -> Path:
        """Return where the file with this SHA-256 (hex) is."""
        return self.root / super().path(digest, media_type).name


def lessons_in(folder: Path) -> list[Lesson]:
    """Return every lesson that has its pictures in `folder`; raises LessonError for one that cannot be read."""
    return [open_lesson(path.parent) for path in sorted(folder.glob(f"*{FOLDER}/{INDEX}"))]


def open_lesson(folder: Path) -> Lesson:
    """Return the lesson whose pictures are in `folder`; raises LessonError when that is none."""
    path = folder / INDEX
    try:
        content = read_json(read_file(path, _MAX_INDEX))
        if content["format"] != _FORMAT:
            raise LessonError(f"{path} was written by a newer version.", "Run `%pip install --upgrade blockrun-magic`.")
        answers = {(entry["request_digest"], entry["take"]): _checked(entry) for entry in content["answers"]}
        return Lesson(str(content["name"]), content["missing"] == "error", FlatStore(folder), answers)
    except OSError as error:
        raise LessonError(
            f"There is no lesson in {folder}: {error.strerror}.", "Name the ZIP file, or its .pictures folder."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise LessonError(f"{path} cannot be read ({error}).", "Get the lesson again from where it came.") from error


def _checked(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    for picture in entry["pictures"]:
        if not _FILE.fullmatch(picture["file"]) or picture["media_type"] not in _KINDS:
            raise ValueError("it names a file that is no picture")
        StoredImage(**picture)
    if {*_RECEIPT} - {*entry["receipt"]} or not isinstance(entry["receipt"]["amount"], int):
        raise ValueError("a receipt is not whole")
    if {"prompt", "model", "size", "quality", "n", "image", "mask"} - {*entry["request"]}:
        raise ValueError("a request is not whole")
    return entry


def write_lesson(folder: Path, results: Sequence[ImageResult], *, strict: bool) -> Lesson:
    """Write `results` into `folder`, and return them as a lesson; raises LessonError when that cannot be done.

    What is in the folder already, and not among the results, stays.
    """
    store = FlatStore(folder)
    name = folder.name.removesuffix(FOLDER)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for result in results:
            for kept, path in zip(result.stored, result.files, strict=True):
                data = read_file(path, _MAX_IMAGE)
                if media_type_of(data) is None:
                    raise LessonError(f"{path} is no picture any more.", "Run its cell again, then export.")
                store.put(data, kept.media_type)
        answers = [_entry(result) for result in results]
        content = {"format": _FORMAT, "name": name, "missing": "error" if strict else "practice", "answers": answers}
        (folder / INDEX).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise LessonError(f"The lesson cannot be written: {error}.", "Choose another place for it.") from error
    return open_lesson(folder)


def _entry(result: ImageResult) -> dict[str, Any]:
    receipt = result.receipt
    request = {name: value for name, value in result.request.items() if name != "uploads"}
    return {
        "id": receipt.purchase_id,
        "request_digest": receipt.request_digest,
        "take": receipt.take,
        "request": request,
        "seconds": result.seconds,
        "receipt": {key: getattr(receipt, field) for key, field in _RECEIPT.items()},
        "pictures": [
            {
                "file": kept.file,
                "media_type": kept.media_type,
                "width": kept.width,
                "height": kept.height,
                "revised_prompt": kept.revised_prompt,
            }
            for kept in result.stored
        ],
    }
