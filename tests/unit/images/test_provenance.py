"""The receipt of an image is stored in its file and read back, other programs open the file, and no pixel changes."""

from __future__ import annotations

import io
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from blockrun_magic.errors import SourceError, StoreError
from blockrun_magic.images.provenance import KEY, embed, read

if TYPE_CHECKING:
    from pathlib import Path

RECORD: dict[str, Any] = {
    "model": "google/nano-banana",
    "network": "eip155:8453",
    "parents": [],
    "price": "0.0525",
    "prompt": 'a <b>"city"</b> & 東京 🌃 — ]]> \\ \x00\x07 </blockrun:receipt> &amp; $x {y}\r\nsecond line',
    "size": "24x16",
    "transaction": None,
}


def picture(mode: str = "RGB") -> Image.Image:
    """Return a small image in which every pixel differs from its neighbors."""
    wide = Image.radial_gradient("L").resize((24, 16))
    bands = [wide, ImageOps.invert(wide), ImageOps.mirror(wide), ImageOps.flip(wide)]
    return Image.merge(mode, bands[: len(mode)])


def encoded(kind: str, image: Image.Image | None = None, **how: Any) -> bytes:
    """Return `image`, or the default one, as a file of the format `kind`."""
    file = io.BytesIO()
    (image or picture()).save(file, kind, **how)
    return file.getvalue()


FILES = {
    "png": ("image/png", encoded("PNG")),
    "png with alpha": ("image/png", encoded("PNG", picture("RGBA"))),
    "jpeg": ("image/jpeg", encoded("JPEG")),
    "progressive jpeg": ("image/jpeg", encoded("JPEG", progressive=True, exif=b"Exif\0\0II*\0")),
    "webp": ("image/webp", encoded("WEBP")),
    "webp with alpha": ("image/webp", encoded("WEBP", picture("RGBA"))),
    "lossless webp": ("image/webp", encoded("WEBP", lossless=True)),
    "lossless webp with alpha": ("image/webp", encoded("WEBP", picture("RGBA"), lossless=True)),
    "extended webp": ("image/webp", encoded("WEBP", icc_profile=b"profile", exif=b"Exif\0\0II*\0")),
}
files = pytest.mark.parametrize(("media_type", "data"), FILES.values(), ids=FILES)


def pixels(data: bytes) -> tuple[str, tuple[int, int], bytes]:
    """Return mode, size and pixels of a file."""
    with Image.open(io.BytesIO(data)) as image:
        return image.mode, image.size, image.tobytes()


@files
def test_what_is_put_in_comes_back(media_type: str, data: bytes, tmp_path: Path) -> None:
    """The receipt is read from bytes, from a path, and from an open PIL image."""
    marked = embed(data, media_type, RECORD)
    path = tmp_path / "picture"
    path.write_bytes(marked)
    with Image.open(path) as image:
        image.load()
        found = [read(marked), read(path), read(str(path)), read(image)]

    assert found == [RECORD] * 4


@files
def test_no_pixel_changes(media_type: str, data: bytes) -> None:
    """Pillow decodes the same pixels, Exif data and color profile as before."""
    marked = embed(data, media_type, RECORD)
    before, after = Image.open(io.BytesIO(data)).info, Image.open(io.BytesIO(marked)).info

    assert pixels(data) == pixels(marked)
    assert [before.get(key) for key in ("exif", "icc_profile")] == [after.get(key) for key in ("exif", "icc_profile")]


@files
def test_a_new_receipt_replaces_the_old_one(media_type: str, data: bytes) -> None:
    """A second receipt replaces the first completely."""
    once = embed(data, media_type, RECORD)
    longer = embed(data, media_type, {**RECORD, "note": "older " * 50})

    assert once == embed(once, media_type, RECORD)
    assert once == embed(longer, media_type, RECORD)


@files
@settings(max_examples=60, deadline=None)
@given(prompt=st.text(alphabet=st.characters(), max_size=300), extra=st.dictionaries(st.text(), st.integers()))
def test_any_prompt_survives(media_type: str, data: bytes, prompt: str, extra: dict[str, int]) -> None:
    """A prompt of any Unicode text is read back exactly."""
    record = {**extra, "prompt": prompt}
    marked = embed(data, media_type, record)

    assert record == read(marked)
    assert pixels(data) == pixels(marked)


@files
def test_half_a_character_survives(media_type: str, data: bytes) -> None:
    """A lone surrogate, which UTF-8 cannot encode, is escaped and read back."""
    record = {"prompt": "a\ud83d b\udc00 \uffff"}

    assert record == read(embed(data, media_type, record))


def test_other_tools_read_the_prompt_of_a_png() -> None:
    """`parameters` has the format of AUTOMATIC1111: the prompt, then the known facts."""
    marked = embed(FILES["png"][1], "image/png", {**RECORD, "prompt": "ein Hafen\nbei Nacht, 東京"})
    with Image.open(io.BytesIO(marked)) as image:
        info = image.info

    assert info["parameters"] == "ein Hafen\nbei Nacht, 東京\nSize: 24x16, Model: google/nano-banana"
    assert json.loads(info[KEY])["model"] == "google/nano-banana"


def test_a_record_without_prompt_shows_none() -> None:
    """A record without a prompt removes the `parameters` of an older one."""
    private = {"price": "0.0525", "size": "24x16"}
    marked = embed(embed(FILES["png"][1], "image/png", RECORD), "image/png", private)

    assert private == read(marked)
    assert "parameters" not in Image.open(io.BytesIO(marked)).info


def test_text_of_others_stays_in_a_png() -> None:
    """Other programs' text stays in a PNG."""
    note = PngInfo()
    note.add_text("Software", "painter")
    note.add_itxt("Comment", "größe", zip=True)
    info = Image.open(io.BytesIO(embed(encoded("PNG", pnginfo=note), "image/png", RECORD))).info

    assert [info["Software"], info["Comment"]] == ["painter", "größe"]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_xmp_of_others_stays(kind: str) -> None:
    """Other programs' XMP stays in the file, beside the receipt."""
    theirs = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" Iptc4xmpExt:DigitalSourceType="trainedAlgorithmicMedia"/></rdf:RDF>'
        b"</x:xmpmeta>"
    )
    media_type = f"image/{kind.lower()}"
    marked = embed(encoded(kind, xmp=theirs), media_type, RECORD)
    with Image.open(io.BytesIO(marked)) as image:
        xmp = image.info["xmp"]

    assert read(marked) == RECORD
    assert b"trainedAlgorithmicMedia" in xmp
    assert marked == embed(marked, media_type, RECORD)


@pytest.mark.parametrize("letter", ["x", "京", "&", "\x01"])
def test_a_long_prompt_is_cut_to_fit_a_jpeg(letter: str) -> None:
    """A long prompt is cut, the cut is recorded, and all other facts are there."""
    record = {**RECORD, "prompt": letter * 100_000}
    data = FILES["jpeg"][1]
    marked = embed(data, "image/jpeg", record)
    found = read(marked)

    assert found is not None
    assert found.pop("prompt_truncated") is True
    assert record["prompt"].startswith(found["prompt"])
    assert len(found["prompt"]) > 10_000 - 1_000
    assert {**record, "prompt": ""} == {**found, "prompt": ""}
    assert pixels(data) == pixels(marked)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_long_prompt_stays_whole_elsewhere(kind: str) -> None:
    """PNG and WebP store a long prompt completely."""
    record = {"prompt": "京" * 100_000}

    assert record == read(embed(FILES[kind][1], FILES[kind][0], record))


def test_a_record_that_fits_nowhere_is_refused() -> None:
    """A JPEG has no room for a record of over 64 KB, which is refused."""
    with pytest.raises(StoreError):
        embed(FILES["jpeg"][1], "image/jpeg", {"prompt": "x", "parents": ["p" * 100] * 1000})


@files
def test_what_is_not_well_formed_is_refused(media_type: str, data: bytes) -> None:
    """An incomplete file, or one of another format, causes a StoreError; reading it raises nothing."""
    marked = embed(data, media_type, RECORD)
    head = 12 if media_type == "image/webp" else 2
    for cut in range(head, len(data) - 2, 7):
        with pytest.raises(StoreError):
            embed(data[:cut], media_type, RECORD)
        read(marked[:cut])
    for other in ("image/png", "image/jpeg", "image/webp", "image/gif"):
        if other != media_type:
            with pytest.raises(StoreError):
                embed(data, other, RECORD)


@files
@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 400), byte=st.integers(0, 255), junk=st.binary(max_size=40))
def test_damage_never_raises_on_reading(media_type: str, data: bytes, place: int, byte: int, junk: bytes) -> None:
    """Reading a damaged file gives a record or None."""
    marked = bytearray(embed(data, media_type, RECORD))
    marked[place % len(marked)] = byte
    torn = bytes(marked[:place]) + junk + bytes(marked[place:])

    assert {type(read(bytes(marked))), type(read(torn))} <= {dict, type(None)}


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"text"', "[" * 100_000, "{" * 10 + "9" * 10_000])
def test_what_is_no_record_is_none(text: str) -> None:
    """Invalid JSON, JSON that is not an object, and deeply nested JSON are not a receipt."""
    note = PngInfo()
    note.add_itxt(KEY, text)

    assert read(encoded("PNG", pnginfo=note)) is None


def test_a_picture_without_receipt_has_none() -> None:
    """Files without a receipt, images in memory and other bytes give None."""
    found = [read(data) for _, data in FILES.values()]
    found += [read(picture()), read(b""), read(b"<html>"), read(struct.pack(">I", 7))]

    assert [None] * len(found) == found


@pytest.mark.parametrize("name", ["missing.png", ".", "nul\0byte.png"])
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    """A path that cannot be read causes a SourceError."""
    with pytest.raises(SourceError):
        read(tmp_path / name)
