"""References: `name`, `name[3]`, `name.attribute` and `name["key"]` are looked up, never evaluated."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blockrun_magic.errors import SourceError
from blockrun_magic.images.references import find_source
from harness.corpus import card, encoded


@dataclass
class Holder:
    """A user's object that holds images."""

    photo: Image.Image
    frames: list[Image.Image] = field(default_factory=list)

    @property
    def broken(self) -> Image.Image:
        """A property that fails."""
        raise RuntimeError("not now")


class Frames(Sequence[Image.Image]):
    """A sequence that is not a list, like a batch of results."""

    def __init__(self, *images: Image.Image) -> None:
        self._images = images

    def __getitem__(self, index: int) -> Image.Image:  # type: ignore[override]
        return self._images[index]

    def __len__(self) -> int:
        return len(self._images)


@pytest.fixture
def namespace() -> dict[str, object]:
    """Return variables with images in them."""
    first, second = card(), card().rotate(180)
    return {
        "photo": first,
        "photos": [first, second],
        "byname": {"first": first, "it's": second, 3: second, "deep": {"list": [second]}},
        "holder": Holder(first, [first, second]),
        "frames": Frames(first, second),
        "number": 5,
    }


@pytest.mark.parametrize(
    ("text", "which"),
    [
        ("photo", 0),
        ("photos[0]", 0),
        ("photos[-1]", 1),
        ('byname["first"]', 0),
        ("byname['first']", 0),
        ('byname["it\'s"]', 1),
        ("byname[3]", 1),
        ('byname["deep"]["list"][0]', 1),
        ("holder.photo", 0),
        ("holder.frames[1]", 1),
        ("frames[1]", 1),
    ],
)
def test_lookups_are_followed(text: str, which: int, namespace: dict[str, object]) -> None:
    """Attributes, items and keys are looked up at any depth."""
    photos = namespace["photos"]
    assert isinstance(photos, list)

    assert photos[which] is find_source(text, namespace)


@pytest.mark.parametrize(
    "text",
    [
        "photos[7]",
        'byname["second"]',
        "byname[9]",
        "holder.foto",
        "holder.broken",
        "number[0]",
        "number.photo",
        "photo.size",
        "photos",
        "byname",
        "frames",
        "holder.frames",
        "photos[0].thumbnail",
        "photos[0]()",
        "photos[0:1]",
        "photos[i]",
        "photo.copy()",
        "__import__('os')",
        "unknown[0]",
        "unknown.photo",
    ],
)
def test_what_cannot_be_resolved_suggests_no_other_image(text: str, namespace: dict[str, object]) -> None:
    """A failed reference causes an error in two lines, and no other image is used instead."""
    with pytest.raises(SourceError) as caught:
        find_source(text, namespace)

    assert 2 == len(str(caught.value).splitlines())


@pytest.mark.parametrize("text", ["s3://bucket/a.png", "ftp://me:pw@example.org/a.png?x=1", "www.example.org/a.png"])
def test_an_address_of_another_kind_is_named(text: str, namespace: dict[str, object]) -> None:
    """An address that cannot be fetched is refused, and its password is not shown."""
    with pytest.raises(SourceError) as caught:
        find_source(text, namespace)

    assert "http" in caught.value.message
    assert "pw" not in str(caught.value)


def test_nothing_is_called(namespace: dict[str, object]) -> None:
    """A call in the text is never run."""
    called: list[int] = []
    namespace["trap"] = lambda: called.append(1)
    for text in ("trap()", "trap", "photos[trap()]", "trap.__call__"):
        with pytest.raises(SourceError):
            find_source(text, namespace)

    assert not called


def test_a_file_may_be_called_like_a_lookup(
    namespace: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`photo.png` is a file, unless the variable has an attribute of that name."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "number.jpg", "holder.photo", "holder.foto"):
        (tmp_path / name).write_bytes(encoded(card(), "PNG"))

    assert [Path("photo.png"), Path("number.jpg"), namespace["photo"], Path("holder.foto")] == [
        find_source(name, namespace) for name in ("photo.png", "number.jpg", "holder.photo", "holder.foto")
    ]


def test_a_variable_may_hold_a_text_a_stream_or_a_path(tmp_path: Path) -> None:
    """URLs, data URIs and paths in a variable mean the same as typed ones."""
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(card(), "PNG"))
    stream = io.BytesIO(path.read_bytes())
    texts = {"url": "https://example.org/a.png", "uri": "data:image/png;base64,AAAA", "stream": stream, "path": path}

    assert list(texts.values()) == [find_source(name, texts) for name in texts]
    assert path == find_source("text", {"text": str(path)})
    with path.open("rb") as file:
        assert file is find_source("file", {"file": file})


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8, 3), (8, 8)])
def test_an_array_of_another_order_is_left_to_the_reader(shape: tuple[int, ...]) -> None:
    """An array with another order of axes is returned: the reader refuses it with a line of Python to fix it."""
    array = np.zeros(shape)

    assert array is find_source("x", {"x": array})
