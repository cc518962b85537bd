"""Formats of image files, and the names of other files in errors."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from blockrun_magic.errors import InvalidResponse, SourceError, StoreError
from blockrun_magic.images.formats import decode, load, size_of_png, verify
from blockrun_magic.images.media_types import media_type_of, suffix_of

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> bytes:
    """Return an image with some structure, as a file."""
    image = Image.linear_gradient("L").resize(size).convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """Return a PNG whose header states a size that its few compressed bytes do not fill."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def read(data: bytes) -> Image.Image:
    """Return the image of an answer."""
    return decode(data, InvalidResponse, "The gateway's answer", "Try again.")


def refusal_of(data: bytes) -> str:
    """Return the first line of the refusal of an answer."""
    with pytest.raises(InvalidResponse) as caught:
        read(data)
    assert caught.value.hint == "Try again."
    return caught.value.message


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_is_read_whole(kind: str) -> None:
    """Every pixel of a PNG, JPEG or WebP is decoded, and the bytes give its media type."""
    data = encoded(kind)

    image = read(data)

    assert (48, 32) == image.size
    assert image.getpixel((47, 31)) != image.getpixel((0, 0))
    assert FORMATS[kind] == media_type_of(data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_png_is_read(mode: str) -> None:
    """Gray, palette, transparent and 16-bit PNGs are read."""
    image = Image.new(mode, (5, 4))
    file = io.BytesIO()
    image.save(file, "PNG")

    assert (5, 4) == read(file.getvalue()).size


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_picture_that_is_cut_short_is_refused(kind: str, share: float) -> None:
    """An incomplete file is refused, even with 99 percent of its bytes."""
    data = encoded(kind, size=(200, 150))
    cut = data[: max(12, int(len(data) * share))]

    assert refusal_of(cut).startswith("The gateway's answer is ")


@pytest.mark.parametrize("missing", [5, 9, 12])
def test_a_png_without_its_end_is_refused(missing: int) -> None:
    """A PNG without its last bytes is refused, although they contain no pixels."""
    assert refusal_of(encoded("PNG")[:-missing])


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    """A flipped bit in the pixels is detected."""
    data = bytearray(encoded("PNG"))
    data[data.index(b"IDAT") + 6] ^= 0x10

    assert refusal_of(bytes(data))


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**31 - 1, 1), (50_000_001, 1), (8000, 6251)])
def test_a_bomb_stays_closed(width: int, height: int) -> None:
    """An image of more than fifty megapixels is refused by its header, before any decompression."""
    assert f"{width} x {height}" in refusal_of(png_that_claims(width, height))


def test_a_bomb_in_a_comment_stays_closed() -> None:
    """A PNG with a comment that decompresses to an enormous size is refused."""
    data = encoded("PNG")
    comment = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)
    chunk = struct.pack(">I", len(comment)) + b"zTXt" + comment + struct.pack(">I", zlib.crc32(b"zTXt" + comment))

    assert "damaged" in refusal_of(data[:33] + chunk + data[33:])


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0)])
def test_a_picture_without_pixels_is_refused(width: int, height: int) -> None:
    """An image with a width or height of zero is refused."""
    refusal_of(png_that_claims(width, height))


def test_the_bomb_filter_of_pillow_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own limit, which users change, has no effect on ours."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert (48, 32) == read(encoded("PNG")).size

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "60000 x 60000" in refusal_of(png_that_claims(60_000, 60_000))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><script>alert(1)</script>", "a web page"),
        (b"\n <html>", "a web page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "SVG"),
        (b'<?xml version="1.0"?>\n<svg/>', "SVG"),
        (b'{"error": "no credit"}', "JSON"),
        (b"upstream timed out", "text"),
        (b"%PDF-1.7", "a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", ""),
        (bytes(range(256)), ""),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(data: bytes, words: str) -> None:
    """The error names a web page, SVG or JSON as such, and shows none of its content."""
    what = refusal_of(data)

    assert words in what
    assert "alert" not in what


def test_only_three_formats_are_taken() -> None:
    """Other formats are refused in an answer, although Pillow can decode them."""
    for kind in ("GIF", "BMP", "TIFF", "ICO"):
        assert refusal_of(encoded(kind))


def test_the_error_is_the_callers_own() -> None:
    """The caller determines the type, the subject and the advice of the error."""
    with pytest.raises(StoreError) as caught:
        decode(b"", StoreError, "The kept image", "Buy another.")

    assert "The kept image is not an image: it is empty." == caught.value.message
    assert "Buy another." == caught.value.hint


def test_each_type_has_its_suffix() -> None:
    """Each media type has a different, common suffix."""
    suffixes = sorted(suffix_of(media_type) for media_type in FORMATS.values())

    assert [".jpg", ".png", ".webp"] == suffixes
    assert all(one != other for one, other in pairwise(suffixes))


BEGINNINGS = st.sampled_from([encoded(kind)[:end] for kind in FORMATS for end in (3, 8, 12, 16, 40, 80)])


@given(st.binary(max_size=60) | st.builds(lambda start, rest: start + rest, BEGINNINGS, st.binary(max_size=80)))
def test_any_bytes_are_a_picture_or_a_refusal(data: bytes) -> None:
    """Decoding any bytes gives an image or the refusal."""
    try:
        image = read(data)
    except InvalidResponse as error:
        assert error.message  # noqa: PT017  an image and a refusal are both valid
    else:
        assert image.size > (0, 0)


def png_of(idat: bytes) -> bytes:
    """Return a PNG of 64 x 64 with valid checksums and `idat` as its compressed pixels."""
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", idat), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


HALF: dict[str, bytes] = {
    "not zlib": png_of(b"no pixels" * 20),
    "half the rows": png_of(zlib.compress(bytes(193 * 32))),
    "no pixels": png_of(b""),
    "unknown filter": png_of(zlib.compress((b"\x09" + bytes(192)) * 64)),
    "wrong checksum of the pixels": png_of(zlib.compress(bytes(193 * 64))[:-4] + b"abcd"),
    **{f"half a {form}": encoded(form, size=(200, 150))[:-200] for form in (*FORMATS, "GIF", "TIFF", "BMP")},
}


ROWS = b"".join(bytes([1 + number % 3]) + bytes(range(192)) for number in range(64))


@pytest.mark.parametrize(
    ("pixels", "size"),
    [
        (ROWS, (64, 64)),
        (ROWS[:-1], None),
        (ROWS[:193] + b"\5" + ROWS[194:], None),
        (ROWS[: 193 * 32] + bytes(193 * 31), None),
        (ROWS[: 193 * 63] + bytes(193), (64, 64)),
    ],
    ids=["good", "a byte less", "no such filter", "a row less, and black", "a black row"],
)
def test_pixels_that_can_be_read_are_known_without_an_image(pixels: bytes, size: tuple[int, int] | None) -> None:
    """The size of a PNG is returned if and only if it can be decoded."""
    data = png_of(zlib.compress(pixels))

    assert size == size_of_png(data)
    if size is None:
        refusal_of(data)
    else:
        assert size == read(data).size


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_a_png_of_every_mode_is_read(mode: str, interlaced: bool) -> None:
    """The size of a PNG is known without an image, except for an interlaced one."""
    file = io.BytesIO()
    Image.new(mode, (33, 7)).save(file, "PNG")
    data = file.getvalue()
    if interlaced:
        at = data.index(b"IHDR")
        header = data[at : at + 16] + b"\1"
        data = data[:at] + header + struct.pack(">I", zlib.crc32(header)) + data[at + 21 :]
        assert size_of_png(data) is None
    else:
        assert (33, 7) == size_of_png(data) == read(data).size


@pytest.fixture(params=[(False, 89_478_485), (True, None), (True, 10)], ids=["as usual", "lenient", "narrow"])
def pillow_settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, int | None]:
    """Set Pillow's global settings as a notebook may, and return them."""
    truncated, max_pixels = request.param
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", truncated)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", max_pixels)
    return truncated, max_pixels


@pytest.mark.parametrize("data", HALF.values(), ids=HALF)
def test_half_an_image_is_none_whatever_pillow_is_set_to(data: bytes, pillow_settings: tuple[bool, int | None]) -> None:
    """An incomplete image is refused, and the notebook's settings stay the same."""
    with pytest.raises(SourceError):
        verify(data)

    assert pillow_settings == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)


@pytest.mark.parametrize("form", [*FORMATS, "GIF", "TIFF", "BMP"])
@pytest.mark.usefixtures("pillow_settings")
def test_a_whole_image_is_read_whatever_pillow_is_set_to(form: str) -> None:
    """A low limit in the notebook does not prevent reading."""
    assert (48, 32) == load(encoded(form), "The image").size


def test_the_settings_hold_while_several_threads_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook's settings are not restored while another thread still decodes."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)

    def refused(_: int) -> bool:
        try:
            verify(HALF["not zlib"])
        except SourceError:
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(refused, range(200)))

    assert all(results)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_jpeg_of_more_scans_than_an_encoder_writes_is_refused() -> None:
    """A JPEG with too many scans is refused, because each one costs a pass over all pixels."""
    data = encoded_with(progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]

    verify(data)
    with pytest.raises(SourceError, match="scans"):
        verify(data[:start] + scan * 101 + b"\xff\xd9")


def encoded_with(**options: bool) -> bytes:
    """Return a JPEG saved with these options."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(file, "JPEG", **options)
    return file.getvalue()
