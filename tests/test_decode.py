"""Bytes that claim to be a picture: whole ones are opened, everything else is named for what it is."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blockrun_magic.errors import AnswerUnusable, BlockrunError, SourceError, StoreError
from blockrun_magic.pictures.decode import decode

FORMATS = ("PNG", "JPEG", "WEBP")


def encoded(kind: str, mode: str = "RGB") -> bytes:
    """Return a small picture with something in it, as a file of `kind`."""
    image = Image.linear_gradient("L").resize((64, 48)).convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a PNG chunk with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that would unpack to `width` x `height` pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def refusal_of(data: bytes, kind: type[BlockrunError] = AnswerUnusable) -> BlockrunError:
    """Return the error that `data` makes."""
    with pytest.raises(kind) as caught:
        decode(data, kind, "The gateway's answer", "Try again.")
    return caught.value


@pytest.mark.parametrize("kind", FORMATS)
def test_a_whole_picture_is_opened(kind: str) -> None:
    """PNG, JPEG and WebP come out with their pixels read: nothing is left to fail later."""
    image = decode(encoded(kind), AnswerUnusable, "The answer", "")

    assert (kind, (64, 48)) == (image.format, image.size)
    assert image.getpixel((10, 10)) is not None


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "I;16"])
def test_every_kind_of_pixel_is_read(mode: str) -> None:
    """PNG has grey, palettes, transparency and 16 bits: all are opened."""
    assert (64, 48) == decode(encoded("PNG", mode), AnswerUnusable, "The answer", "").size


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_truncated_picture_is_refused(kind: str, kept: float) -> None:
    """Half a picture is none, wherever the connection broke off."""
    data = encoded(kind)
    error = refusal_of(data[: int(len(data) * kept)])

    assert "The gateway's answer is" in error.what
    assert "Try again." == error.do


@pytest.mark.parametrize("kind", FORMATS)
def test_a_signature_alone_is_no_picture(kind: str) -> None:
    """The first bytes of a format and nothing behind them: damaged."""
    assert "damaged or cut short" in refusal_of(encoded(kind)[:16]).what


def test_a_png_with_a_flipped_bit_is_refused() -> None:
    """The checksums of a PNG are looked at, and its end."""
    data = bytearray(encoded("PNG"))
    data[data.index(b"IDAT") + 20] ^= 1

    assert "damaged" in refusal_of(bytes(data)).what
    assert "damaged" in refusal_of(encoded("PNG")[:-12]).what


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (7_072, 7_072), (2**31 - 1, 1), (1, 50_000_001)])
def test_a_bomb_is_refused_before_it_goes_off(width: int, height: int) -> None:
    """A few bytes that would fill the memory are refused by their header, without a warning of Pillow's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = refusal_of(bomb(width, height))

    assert f"{width} x {height}" in error.what
    assert "megapixels" in error.what


def test_a_picture_without_pixels_is_refused() -> None:
    """No width is no picture."""
    assert "is" in refusal_of(bomb(0, 100)).what


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"<!doctype html><html><body>502 Bad Gateway</body></html>", "a web page"),
        (b"\n  <HTML>", "a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "SVG"),
        (b"<?xml version='1.0'?>\n<svg/>", "SVG"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b'{"error": "not found"}', "JSON"),
        (b"%PDF-1.7", "a PDF"),
        (b"%!PS-Adobe-3.0", "PostScript"),
        (b"PK\x03\x04rest", "a ZIP archive"),
        (b"\0\0\0\x18ftypheic", "a HEIC photo"),
        (b"Not Found", "text"),
        (b"\x00\x01\x02\x03", "not known"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not known"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, words: str) -> None:
    """The error says what came in place of a picture."""
    what = refusal_of(data).what

    assert what.startswith("The gateway's answer is not a picture: ")
    assert words in what


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_only_three_formats_travel(kind: str) -> None:
    """What can be kept, and can carry a receipt, is PNG, JPEG and WebP; other formats are not passed on."""
    assert "is not a picture" in refusal_of(encoded(kind)).what


@pytest.mark.parametrize("kind", [AnswerUnusable, SourceError, StoreError])
def test_the_caller_says_which_error(kind: type[BlockrunError]) -> None:
    """The same fault is the gateway's, the user's or the disk's: whoever asks knows."""
    assert kind is type(refusal_of(b"<html>", kind))
    assert kind is type(refusal_of(encoded("PNG")[:100], kind))


@given(st.binary(max_size=300), st.sampled_from([b"", *(encoded(kind)[:40] for kind in FORMATS)]))
def test_no_bytes_make_anything_but_a_refusal(data: bytes, start: bytes) -> None:
    """Random bytes, also behind the beginning of a real file, are refused in words."""
    refusal_of(start + data)


@given(st.sampled_from(FORMATS).map(encoded), st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_a_damaged_picture_is_a_picture_or_a_refusal(data: bytes, place: int, damage: bytes) -> None:
    """Bytes changed anywhere give a picture with all its pixels, or the error that was asked for."""
    place %= len(data)
    damaged = data[:place] + damage + data[place + len(damage) :]
    try:
        image = decode(damaged, AnswerUnusable, "The answer", "")
    except AnswerUnusable:
        return

    assert image.getpixel((image.width - 1, image.height - 1)) is not None
