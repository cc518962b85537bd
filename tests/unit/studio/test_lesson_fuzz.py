"""Lesson archives with random wrong bytes are either opened or refused; a refused one leaves no files."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from blockrun_magic.errors import LessonError
from blockrun_magic.studio.lessons.archive import unpack_lesson
from harness.mutation import IMAGES, MUTATIONS, chance, mutated

pytestmark = pytest.mark.fuzz


def lesson(changes: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """Return the ZIP file of a small lesson."""
    image = IMAGES["PNG"]
    name = sha256(image).hexdigest()
    entry = {
        "id": "p1",
        "request_digest": "sha256:" + "0" * 64,
        "take": 1,
        "request": {"prompt": "a", "model": "m", "size": "40x30", "quality": None, "n": 1, "image": [], "mask": None},
        "seconds": 1.0,
        "receipt": {
            "amount": 1,
            "realm": "practice",
            "gateway": "practice",
            "network": None,
            "transaction": None,
            "bought_at": 1.0,
            "settled": True,
            "estimated": False,
        },
        "pictures": [{"file": name, "media_type": "image/png", "width": 40, "height": 30, "revised_prompt": None}],
    }
    index = {"format": 1, "name": "fox", "missing": "practice", "answers": [entry]}
    contents = {
        "fox.ipynb": b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
        "fox.pictures/lesson.json": json.dumps(index).encode(),
        f"fox.pictures/{name}.png": image,
        **dict(changes),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for place, content in contents.items():
            packed.writestr(place, content)
    return file.getvalue()


def archives(numbers: random.Random) -> Iterator[bytes]:
    """Yield lessons with wrong bytes in the archive, in the index and in an image."""
    whole = lesson()
    index = zipfile.ZipFile(io.BytesIO(whole)).read("fox.pictures/lesson.json")
    for _ in range(MUTATIONS // 2):
        yield mutated(whole, numbers)
        yield lesson([("fox.pictures/lesson.json", mutated(index, numbers))])
        yield lesson([(numbers.choice(("../x", "fox.ipynb/", "C:x.ipynb", "a/b/c.ipynb", "fox.pictures/x.png")), b"x")])


def test_no_archive_leaves_a_traceback(tmp_path: Path) -> None:
    """A lesson with wrong bytes is either unpacked or refused; a refused one leaves no files."""
    numbers = chance("archives")
    for number, data in enumerate(archives(numbers)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "fox.zip").write_bytes(data)
        try:
            unpack_lesson(folder / "fox.zip")
        except LessonError:
            assert ["fox.zip"] == [path.name for path in folder.iterdir()]


def test_the_lesson_is_sound(tmp_path: Path) -> None:
    """The archive without wrong bytes opens, so the others are refused for their wrong bytes."""
    (tmp_path / "fox.zip").write_bytes(lesson())

    folder, _ = unpack_lesson(tmp_path / "fox.zip")

    assert (folder / "lesson.json").is_file()
