"""Lessons: images and receipts in a folder beside a notebook, which answer its cells offline and at no cost.

    fox.ipynb
    fox.pictures/
    ├── lesson.json     requests, receipts, and the file of each image
    └── 3f2a....png     the images, named by the SHA-256 of their bytes

The folder contains no key and no payment header. A receipt names the payer's transaction, which is public.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockrun_magic.errors import LessonError, Money, StoreError
from blockrun_magic.files import read_bounded
from blockrun_magic.images.formats import decode
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.records import StoredImage
from blockrun_magic.payments.realm import Realm
from blockrun_magic.safejson import read_json
from blockrun_magic.studio.results.images import StoredImages
from blockrun_magic.studio.results.result import ImageResult, Receipt
from blockrun_magic.text import sanitize

__all__ = ["FOLDER", "INDEX", "MAX_IMAGE", "MAX_INDEX", "Lesson", "lesson_index", "lessons_in", "open_lesson"]

FOLDER = ".pictures"
"""End of the name of a lesson's folder."""
INDEX = "lesson.json"
_FORMAT = 1
_KINDS = ("image/png", "image/jpeg", "image/webp")
MAX_INDEX = 50 * 1024 * 1024
MAX_IMAGE = 64 * 1024 * 1024
_MAX_SIDE = 100_000
_CLOSE = "To continue without the lesson, run `%blockrun lesson close`. Until then nothing is bought."
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
    """The images that a teacher distributes; with `strict`, a cell without one is an error instead of practice."""

    name: str
    strict: bool
    _store: Store
    _answers: Mapping[tuple[str, int], Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self._answers)

    def take_of(self, digest: str, take: int | None) -> int | None:
        """Return the take of this request that is in the lesson: `take` if given, else the first one."""
        takes = sorted(number for asked, number in self._answers if asked == digest)
        return next((number for number in takes if take in (None, number)), None)

    def answer(self, digest: str, take: int) -> ImageResult:
        """Return the images of one take, each checked; raises StoreError for one that is missing or damaged."""
        entry = self._answers[digest, take]
        pictures = [StoredImage(**image) for image in entry["pictures"]]
        images = [
            decode(
                self._store.get(stored.file, stored.media_type),
                StoreError,
                "The lesson's image",
                "Unpack the lesson again.",
            )
            for stored in pictures
        ]
        fields: dict[str, Any] = {field: entry["receipt"][key] for key, field in _RECEIPT.items()}
        receipt = Receipt(
            **{**fields, "realm": Realm(fields["realm"])},
            payer=None,
            request_digest=digest,
            take=take,
            purchase_id=entry["id"],
            cached=True,
            lesson=self.name,
        )
        files = [self._store.path(stored.file, stored.media_type) for stored in pictures]
        return ImageResult(entry["request"], receipt, pictures, files, entry["seconds"], StoredImages(files, images))


class FlatStore(Store):
    """The files of a lesson, in one folder."""

    def path(self, digest: str, media_type: str) -> Path:
        """Return the path of the file with this SHA-256 (hex)."""
        return self.root / super().path(digest, media_type).name


def lessons_in(folder: Path) -> list[Lesson]:
    """Return every lesson that has its images in `folder`; raises LessonError for one that cannot be read."""
    return [open_lesson(path) for path in sorted(folder.glob(f"*{FOLDER}")) if _holds_lesson(path)]


def _holds_lesson(folder: Path) -> bool:
    """Return whether `folder` belongs to a lesson, even if its index is lost or unreadable."""
    try:
        names = [path.name for path in folder.iterdir()]
    except NotADirectoryError:
        return False
    except OSError:
        return True  # opening it raises the error
    return any(name == INDEX or _FILE.fullmatch(name.partition(".")[0]) for name in names)


def open_lesson(folder: Path) -> Lesson:
    """Return the lesson whose images are in `folder`; raises LessonError if it is not one, or is damaged."""
    folder = folder.absolute()
    path = folder / INDEX
    try:
        content = read_json(read_bounded(path, MAX_INDEX))  # a longer file is cut, which makes it invalid JSON
        if content["format"] != _FORMAT:
            raise LessonError(f"{path} was written by a newer version.", f"Upgrade blockrun-magic. {_CLOSE}")
        answers = {}
        for entry in content["answers"]:
            _check_entry(entry)
            answers[entry["request_digest"], entry["take"]] = entry
        return Lesson(sanitize(content["name"], 100), content["missing"] == "error", FlatStore(folder), answers)
    except OSError as error:
        raise LessonError(
            f"There is no lesson in {folder}: {error.strerror or error}.",
            f"Name the ZIP file, or its .pictures folder. {_CLOSE}",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = sanitize(error, 100)
        raise LessonError(f"The lesson {path} is damaged: {reason}.", f"Get the lesson again. {_CLOSE}") from error


def _check_entry(entry: Mapping[str, Any]) -> None:
    """Raise ValueError, KeyError or TypeError unless every field of an answer has its type."""
    _check_types(entry, request_digest=str, id=str, take=int, request=dict, receipt=dict, pictures=list)
    _check_types(entry["request"], prompt=str, model=str, size=str, n=int, image=list)
    if not {"quality", "mask"} <= entry["request"].keys():
        raise ValueError("a request is incomplete")
    receipt = entry["receipt"]
    _check_types(receipt, amount=int, realm=str, gateway=str)
    Realm(receipt["realm"])  # or ValueError
    if {*_RECEIPT} - receipt.keys() or not _is_number(receipt["bought_at"]) or not _is_number(entry["seconds"]):
        raise ValueError("a receipt is incomplete")
    if not all(isinstance(receipt[name], str | None) for name in ("network", "transaction")):
        raise ValueError("a receipt is not valid")
    if entry["take"] < 1 or entry["request"]["n"] < 1 or not entry["pictures"]:
        raise ValueError("an answer has no images")
    for picture in entry["pictures"]:
        _check_types(picture, file=str, media_type=str, width=int, height=int)
        stored = StoredImage(**picture)
        if not _FILE.fullmatch(stored.file) or stored.media_type not in _KINDS:
            raise ValueError("it names a file that is not an image")
        if not (0 < stored.width <= _MAX_SIDE and 0 < stored.height <= _MAX_SIDE):
            raise ValueError("an image has no size")
        if not isinstance(stored.revised_prompt, str | None):
            raise ValueError("a revised prompt is not text")  # noqa: TRY004  of JSON, not of an argument


def _check_types(fields: Mapping[str, Any], **types: type) -> None:
    for name, kind in types.items():
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise ValueError(f"{name} is not valid")  # noqa: TRY004  of JSON, not of an argument


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def lesson_index(name: str, results: Sequence[ImageResult], *, strict: bool) -> tuple[bytes, int]:
    """Return the index of a lesson with `results`, and its number of answers; raises LessonError."""
    answers = [_entry(result) for result in results]
    try:
        for answer in answers:
            _check_entry(answer)
    except (ValueError, KeyError, TypeError) as error:
        raise LessonError(f"The lesson cannot be written: {error}.", "Please report this.") from error
    head = json.dumps({"format": _FORMAT, "name": name, "missing": "error" if strict else "practice"})
    lines = ",\n".join(json.dumps(answer, ensure_ascii=False) for answer in answers)
    text = f'{head[:-1]}, "answers": [\n{lines}\n]}}\n'
    count = len({(answer["request_digest"], answer["take"]) for answer in answers})
    return text.encode("utf-8", "backslashreplace"), count


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
                "file": stored.file,
                "media_type": stored.media_type,
                "width": stored.width,
                "height": stored.height,
                "revised_prompt": stored.revised_prompt,
            }
            for stored in result.stored
        ],
    }


def answer_from(lessons: Sequence[Lesson], digest: str, take: int | None, *, fresh: bool) -> ImageResult | None:
    """Return the answer of one of `lessons` to a request, or None; raises LessonError if a strict one has no answer."""
    for lesson in () if fresh else lessons:
        number = lesson.take_of(digest, take)
        if number is not None:
            return lesson.answer(digest, number)
    check_strict(lessons)
    return None


def check_strict(lessons: Sequence[Lesson]) -> None:
    """Raise LessonError when one of `lessons` is strict."""
    strict = next((lesson for lesson in lessons if lesson.strict), None)
    if strict is not None:
        raise LessonError(
            f"The lesson {strict.name} has no image for this cell, and no other images may be made.",
            "Run the cell unchanged, or run `%blockrun lesson close` to make your own images.",
            Money.nothing_signed(),
        )
