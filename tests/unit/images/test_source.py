"""Sources of images: every usual image becomes an upload, and any other value causes an error in two lines."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blockrun_magic.errors import GatewayUnreachable, SourceError
from blockrun_magic.images.formats import MAX_FILE_BYTES
from blockrun_magic.images.source import find_source, is_image_like, read_mask, read_upload, upload_size

if TYPE_CHECKING:
    from blockrun_magic.gateway.request import Upload


async def no_fetch(url: str) -> bytes:
    """Fail: the test needs no network."""
    raise AssertionError(url)


def upload(source: object) -> Upload:
    """Return `source` as an upload, without a network."""
    return asyncio.run(read_upload(source, no_fetch))


def mask(source: object, size: tuple[int, int] = (6, 4)) -> Upload:
    """Return `source` as a mask for an image of `size`, without a network."""
    return asyncio.run(read_mask(source, upload(picture(size=size)), no_fetch))


def opened(sent: Upload) -> Image.Image:
    """Return the image that a gateway reads from the upload."""
    image = Image.open(io.BytesIO(sent.data))
    image.load()
    return image


def refusal(source: object) -> SourceError:
    """Return the error of a refused source."""
    with pytest.raises(SourceError) as caught:
        upload(source)
    assert len(str(caught.value).splitlines()) == 2
    return caught.value


def picture(mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Image.Image:
    """Return a small image with many colors."""
    red = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGBA", [red, red.rotate(180), red.transpose(Image.Transpose.FLIP_TOP_BOTTOM), red])
    return image.convert("RGB").convert(mode) if mode != "RGBA" else image


def encoded(kind: str, image: Image.Image | None = None, **how: Any) -> bytes:
    """Return `image`, or the default one, as a file of the format `kind`."""
    file = io.BytesIO()
    (image or picture()).save(file, kind, **how)
    return file.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG whose header states a large size."""
    data = encoded("PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@dataclass
class Result:
    """An object with an `image`, like a result of the magics."""

    image: Image.Image


class Drawing:
    """An object with `_repr_png_`."""

    def _repr_png_(self) -> bytes:
        return encoded("PNG")


# Files, bytes, URLs


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_what_can_be_sent_is_sent_byte_for_byte(kind: str, media_type: str, tmp_path: Path) -> None:
    """A path, text, bytes and a data URI are uploaded unchanged; the bytes, not the suffix, give the media type."""
    data = encoded(kind)
    path = tmp_path / "image.gif"
    path.write_bytes(data)
    uri = f"data:text/plain;base64,{base64.b64encode(data).decode()}"
    sent = [upload(source) for source in (path, str(path), data, bytearray(data), memoryview(data), uri)]

    assert {(data, media_type)} == {(one.data, one.media_type) for one in sent}
    assert {(6, 4)} == {upload_size(one) for one in sent}
    assert all(one.digest.startswith("sha256:") for one in sent)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "JPEG2000"])
def test_other_formats_become_png(kind: str) -> None:
    """Formats that Pillow reads and gateways do not are sent as PNG, with a digest of their pixels."""
    sent = upload(encoded(kind, picture(size=(32, 32))))

    assert sent.media_type == "image/png"
    assert upload_size(sent) == (32, 32)
    assert sent.digest.startswith("pixels-sha256:")


def test_of_an_animation_the_first_frame_is_sent() -> None:
    """The first frame of a GIF is sent."""
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "blue")]
    sent = upload(encoded("GIF", frames[0], save_all=True, append_images=frames[1:]))

    assert opened(sent).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_a_url_is_fetched_by_the_caller() -> None:
    """An http or https URL is downloaded with `fetch`, whose errors are raised unchanged."""
    asked = []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        if "down" in url:
            raise GatewayUnreachable("No connection.", "Try again.")
        return encoded("PNG", white_left() if "m.png" in url else None)

    sent = asyncio.run(read_upload("HTTPS://example.org/a.png", fetch))
    masked = asyncio.run(read_mask("https://example.org/m.png", upload(picture("RGB").rotate(180)), fetch))
    with pytest.raises(GatewayUnreachable):
        asyncio.run(read_upload("https://example.org/down", fetch))

    assert encoded("PNG") == sent.data
    assert opened(masked).mode == "L"
    assert asked == ["HTTPS://example.org/a.png", "https://example.org/m.png", "https://example.org/down"]


def test_a_mask_that_cannot_be_fetched_is_called_one() -> None:
    """The error of a mask that cannot be fetched mentions the mask."""

    async def fetch(url: str) -> bytes:
        raise SourceError(f"{url} answered 404.", "Check the address in a browser.")

    with pytest.raises(SourceError) as caught:
        asyncio.run(read_mask("https://example.org/m.png", upload(picture("RGB")), fetch))

    assert "mask" in caught.value.message


def test_an_error_leaves_the_secrets_of_a_url_out() -> None:
    """User, password and query of a URL are not shown in the error."""

    async def fetch(url: str) -> bytes:
        return b"<!DOCTYPE html><html>"

    with pytest.raises(SourceError) as caught:
        asyncio.run(read_upload("https://me:pw@example.org/a.png?sig=abc#f", fetch))

    assert "https://example.org/a.png " in caught.value.message
    assert not any(secret in str(caught.value) for secret in ("me:", "pw", "sig", "abc"))


@pytest.mark.parametrize("form", ["data:image/png;base64,{}", "DATA:;charset=x;BASE64,{}"])
def test_a_data_uri_may_be_wrapped_and_quoted(form: str) -> None:
    """Line breaks and percent signs inside base64 are accepted."""
    text = base64.b64encode(encoded("PNG")).decode()
    wrapped = form.format("\n".join(text[i : i + 60] for i in range(0, len(text), 60)).replace("=", "%3D"))

    assert encoded("PNG") == upload(wrapped).data


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><p>", "web"),
        (b"<HTML lang=en>", "web"),
        (b'<?xml version="1.0"?>\n<!-- x --><svg xmlns="">', "SVG"),
        (b"<svg/>", "SVG"),
        (b'<?xml version="1.0"?><rss>', "XML"),
        (b'{"error": "no"}', "JSON"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        ("grüße".encode() * 500, "text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (b"\x93\x07\xe2\0".join([b"\xff\xfe\0"] * 30), ""),
    ],
)
def test_what_is_no_picture_is_called_what_it_looks_like(data: bytes, looks: str) -> None:
    """HTML, SVG, text and similar files are refused, and the error names their format."""
    error = refusal(data)

    assert looks in error.message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_a_cut_file_is_refused(kind: str) -> None:
    """An incomplete file is refused, whatever part is missing."""
    noise = Image.frombytes("RGB", (40, 40), bytes(range(256)) * 18 + bytes(192))
    data = encoded(kind, noise)
    for keep in (len(data) // 10, len(data) // 2, int(len(data) * 0.9)):
        assert refusal(data[:keep]).message


def test_a_png_without_its_end_or_with_a_flipped_bit_is_refused() -> None:
    """Checksums and the end of a PNG are checked, even if its pixels can be decoded."""
    data = encoded("PNG")
    flipped = bytearray(data)
    flipped[-20] ^= 1

    assert refusal(data[:-12]).message
    assert refusal(bytes(flipped)).message


@pytest.mark.parametrize("size", [(8000, 7000), (12_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_stays_closed(size: tuple[int, int]) -> None:
    """An image of over 50 megapixels is refused without decoding and without Pillow's warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *_, **__: pytest.fail("a warning got out")
        error = refusal(png_claiming(*size))

    assert f"{size[0]} x {size[1]}" in error.message


def test_a_file_beyond_every_image_is_refused_unread(tmp_path: Path) -> None:
    """A file larger than any allowed image is refused unread."""
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    uri = "data:;base64," + "A" * (MAX_FILE_BYTES * 3 + 1)

    assert all(f"{MAX_FILE_BYTES // 1_000_000}" in refusal(source).message for source in (path, uri))


def test_paths_that_lead_nowhere_are_said(tmp_path: Path) -> None:
    """Missing files, directories, pipes and impossible names have different errors, each with the path."""
    os.mkfifo(tmp_path / "pipe")
    messages = [refusal(tmp_path / name).message for name in ("none.png", ".", "pipe", "a\0b")]

    assert all(str(tmp_path) in message for message in messages)
    assert 4 == len({message.replace(str(tmp_path), "") for message in messages})


def test_a_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in a path is expanded."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(encoded("PNG"))

    assert encoded("PNG") == upload(Path("~/a.png")).data
    assert tmp_path / "a.png" == find_source("~/a.png", {})


@pytest.mark.parametrize("uri", ["data:image/png;base64,AAA", "data:image/png;base64,ä", "data:image/png;base64,A$=="])
def test_broken_base64_is_refused(uri: str) -> None:
    """A data URI with invalid base64 is refused."""
    assert refusal(uri).message


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from(
        [encoded(kind)[:n] for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF") for n in (0, 16, 40)]
    ),
    rest=st.binary(max_size=200),
)
def test_any_bytes_are_an_upload_or_our_error(start: bytes, rest: bytes) -> None:
    """Any bytes after a valid beginning give an upload or a SourceError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged TIFF tags
        try:
            sent: Upload | None = upload(start + rest)
        except SourceError:
            sent = None

    assert sent is None or min(upload_size(sent)) > 0


# PIL images and arrays


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (picture("1"), "L"),
        (picture("L"), "L"),
        (picture("LA"), "RGBA"),
        (picture("P"), "RGB"),
        (picture("RGB"), "RGB"),
        (picture("RGBA"), "RGBA"),
        (picture("RGBA").quantize(16), "RGBA"),
        (picture("RGBA").convert("RGBa"), "RGBA"),
        (picture("CMYK"), "RGB"),
        (picture("YCbCr"), "RGB"),
        (picture("HSV"), "RGB"),
        (picture("RGBX"), "RGB"),
        (picture("I"), "L"),
        (picture("F"), "L"),
        (picture("L").convert("I;16"), "L"),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_a_pil_image_of_any_mode_becomes_png(image: Image.Image, mode: str) -> None:
    """An upload has eight bits and mode L, RGB or RGBA; the user's image is not changed."""
    before = (image.mode, image.tobytes(), dict(image.info))
    seen = opened(upload(image))

    assert (mode, (6, 4)) == (seen.mode, seen.size)
    assert before == (image.mode, image.tobytes(), dict(image.info))


def test_pixels_keep_their_values() -> None:
    """Values that fit in eight bits are not changed."""
    gray = picture("L")
    same = [opened(upload(gray.convert(mode))).tobytes() for mode in ("I", "F")]
    wide = Image.frombytes("I;16", (3, 1), struct.pack("<3H", 0, 32896, 65535))
    real = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype="float32"))

    assert [gray.tobytes()] * 2 == same
    assert picture("RGBA").tobytes() == opened(upload(picture("RGBA"))).tobytes()
    assert [bytes([0, 128, 255])] * 3 == [opened(upload(image)).tobytes() for image in (wide, wide.convert("I"), real)]


def test_transparency_of_a_palette_survives() -> None:
    """The transparent color of a palette stays transparent."""
    image = Image.new("P", (6, 4), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.info["transparency"] = 0

    assert opened(upload(image)).getpixel((0, 0)) == (255, 0, 0, 0)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Image.new("F", (2, 2), 300.0), "300"),
        (Image.new("F", (2, 2), float("nan")), "NaN"),
        (Image.new("I", (2, 2), -1), "-1"),
        (Image.new("I", (2, 2), 70_000), "70000"),
        (Image.new("RGB", (0, 3)), "0 x 3"),
        (Image.new("1", (10_000, 5001)), "10000 x 5001"),
    ],
)
def test_a_pil_image_that_means_nothing_is_refused(image: Image.Image, says: str) -> None:
    """Values outside the range and impossible sizes are refused."""
    assert says in refusal(image).message


def test_a_lazily_opened_file_works_and_a_closed_one_says_so(tmp_path: Path) -> None:
    """An image that PIL has not loaded yet is read; a closed one is refused."""
    path = tmp_path / "a.png"
    picture().save(path)
    closed = Image.open(path)
    closed.close()

    with Image.open(path) as lazy:
        assert picture().tobytes() == opened(upload(lazy)).tobytes()
    assert refusal(closed).message


def test_the_same_pixels_are_the_same_upload() -> None:
    """The digest depends on the pixels only, not on the type of the value or its metadata."""
    noted = picture()
    noted.info["comment"] = "x"
    digests = {upload(source).digest for source in (picture(), noted, Result(noted), np.asarray(picture()))}
    others = {upload(source).digest for source in (picture("RGBA"), picture().rotate(180), picture(size=(4, 6)))}

    assert len(digests) == 1
    assert len(digests | others) == 4


def test_metadata_stays_at_home() -> None:
    """Comments and other metadata of a PIL image are not uploaded."""
    photo = Image.open(io.BytesIO(encoded("JPEG", comment=b"home", dpi=(300, 300))))

    assert opened(upload(photo)).info == {}


@pytest.mark.parametrize(
    ("array", "mode", "first"),
    [
        (np.full((4, 6), 7, "uint8"), "L", 7),
        (np.full((4, 6, 1), 7, "uint8"), "L", 7),
        (np.full((4, 6, 3), 7, "int64"), "RGB", (7, 7, 7)),
        (np.full((4, 6, 4), 255, "uint16"), "RGBA", (255, 255, 255, 255)),
        (np.ones((4, 6), bool), "L", 255),
        (np.full((4, 6), 0.5), "L", 128),
        (np.full((4, 6, 3), 1, "float16"), "RGB", (255, 255, 255)),
        (np.full((6, 4), 9, "uint8").T, "L", 9),
        (np.full((8, 12), 9, ">i4")[::-2, ::2], "L", 9),
    ],
)
def test_an_array_becomes_png(array: np.ndarray, mode: str, first: object) -> None:
    """The axes are height, width and channels; booleans, integers and floats have their own ranges."""
    seen = opened(upload(array))

    assert (mode, (6, 4), first) == (seen.mode, seen.size, seen.getpixel((0, 0)))


@pytest.mark.parametrize(
    ("array", "says", "do"),
    [
        (np.zeros(5), "(5,)", "HxW"),
        (np.zeros((4, 6, 2)), "(4, 6, 2)", "np.asarray(image)[..., 0]"),
        (np.zeros((3, 8, 6)), "(3, 8, 6)", "np.moveaxis(np.asarray(image), 0, -1)"),
        (np.zeros((2, 4, 6, 3)), "(2, 4, 6, 3)", "np.asarray(image)[0]"),
        (np.zeros((0, 6)), "6 x 0", ""),
        (np.full((4, 6), np.nan), "NaN", "nan_to_num"),
        (np.full((4, 6), 1.2), "1.2", "np.asarray(image).clip(0, 1)"),
        (np.full((4, 6), 256.0), "256", "np.asarray(image).clip(0, 1)"),
        (np.full((4, 6), -0.1), "-0.1", "np.asarray(image).clip(0, 1)"),
        (np.full((4, 6), np.inf), "inf", "np.asarray(image).clip(0, 1)"),
        (np.full((4, 6), 256), "256", "np.asarray(image).clip(0, 255)"),
        (np.full((4, 6), 1j), "complex128", "HxW"),
        (np.full((4, 6), "x"), "<U1", "HxW"),
        (np.full((4, 6), None), "object", "HxW"),
    ],
)
def test_an_array_that_is_no_picture_says_why(array: np.ndarray, says: str, do: str) -> None:
    """The error names the shape or the values, and the hint has a line of Python to fix it."""
    error = refusal(array)

    assert says in error.message
    assert do in error.hint


def test_objects_that_draw_themselves_are_read() -> None:
    """`_repr_png_` is used if it returns bytes; the error for other objects names their type."""

    class Silent:
        def _repr_png_(self) -> None:
            return None

    assert encoded("PNG") == upload(Drawing()).data
    assert "a Silent" in refusal(Silent()).message
    assert "an int" in refusal(5).message


def test_numpy_and_pil_are_not_imported_to_look_at_values() -> None:
    """A lookup imports neither PIL nor NumPy; PIL reads an array without NumPy."""
    code = """
import asyncio, sys
from blockrun_magic.images.source import find_source, is_image_like, read_upload
try:
    find_source("x", {"a": 1, "b": b"x", "c": "text", "d": [1]})
except Exception as error:
    print(type(error).__name__, "PIL" in sys.modules, "numpy" in sys.modules)

class Grid:
    __array_interface__ = {"shape": (2, 3), "typestr": "|u1", "strides": (3, 1), "version": 3}
    shape = (2, 3)
    def tobytes(self): return bytes(6)

print(is_image_like(Grid()), asyncio.run(read_upload(Grid(), None)).media_type, "numpy" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out == "SourceError False False\nTrue image/png False\n"


# Masks


def white_left(mode: str = "L") -> Image.Image:
    """Return a mask of 6 x 4 whose left half is white."""
    image = Image.new("L", (6, 4), 0)
    image.paste(255, (0, 0, 3, 4))
    return image.convert(mode)


def openai_left() -> Image.Image:
    """Return a mask in OpenAI's form: black, and transparent where the left half may change."""
    image = Image.new("RGBA", (6, 4), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 3, 4))
    return image


def painted_left() -> Image.Image:
    """Return a mask with white paint on a transparent background of another color."""
    image = Image.new("RGBA", (6, 4), (255, 0, 255, 0))
    image.paste((255, 255, 255, 255), (0, 0, 3, 4))
    return image


LEFT = np.zeros((4, 6), bool)
LEFT[:, :3] = True


@pytest.mark.parametrize(
    "source",
    [
        white_left(),
        white_left("1"),
        white_left("RGB"),
        white_left("RGBA"),
        white_left("P"),
        openai_left(),
        painted_left(),
        LEFT,
        LEFT.astype("uint8"),
        LEFT.astype("int64"),
        LEFT.astype("uint8") * 255,
        LEFT.astype(float),
        np.dstack([LEFT] * 3),
        encoded("PNG", white_left()),
        encoded("GIF", white_left()),
        Result(white_left()),
    ],
    ids=range(16),
)
def test_a_mask_is_white_where_it_may_change(source: object) -> None:
    """Each form of a mask for the left half gives the same upload: gray, with the image's size."""
    sent = mask(source)
    seen = opened(sent)

    assert ("L", white_left().tobytes()) == (seen.mode, seen.tobytes())
    assert sent.media_type == "image/png"
    assert mask(white_left()).digest == sent.digest


def test_grays_of_a_mask_stay_gray() -> None:
    """Gray levels of a mask are not changed."""
    soft = Image.linear_gradient("L").resize((6, 4))

    assert soft.tobytes() == opened(mask(soft)).tobytes()


def test_a_mask_in_proportion_is_scaled_and_another_shape_is_refused() -> None:
    """A mask of half the size is scaled; one of another shape is refused, and the error names both sizes."""
    scaled = opened(mask(LEFT, (12, 8)))
    with pytest.raises(SourceError) as caught:
        mask(LEFT, (12, 9))

    assert white_left().resize((12, 8), Image.Resampling.NEAREST).tobytes() == scaled.tobytes()
    assert "6 x 4" in caught.value.message
    assert "12 x 9" in caught.value.message


@pytest.mark.parametrize("source", [np.zeros((4, 6), bool), Image.new("RGB", (6, 4)), Image.new("1", (6, 4))])
def test_a_mask_that_lets_nothing_change_is_refused(source: object) -> None:
    """A black mask is refused, because it would be paid for and change nothing."""
    with pytest.raises(SourceError):
        mask(source)


def test_a_mask_that_is_not_there_is_called_a_mask(tmp_path: Path) -> None:
    """Every error of a mask mentions the mask."""
    for source in (tmp_path / "none.png", 5, b"text", "https:/typo"):
        with pytest.raises(SourceError, match="mask"):
            mask(source)
    with pytest.raises(SourceError, match="mask"):
        find_source("unknown", {}, "mask")


def test_a_mask_from_a_file_is_called_by_its_name(tmp_path: Path) -> None:
    """The error of a mask in a file mentions the mask and the path."""
    path = tmp_path / "m.png"
    path.write_bytes(b"<svg/>")
    with pytest.raises(SourceError) as caught:
        mask(path)

    assert all(part in caught.value.message for part in ("mask", str(path), "SVG"))


# References to a source


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["https://example.org/a.png", "HTTP://localhost:1/x", "data:image/png;base64,AAAA"])
def test_a_url_means_itself(text: str) -> None:
    """A URL is returned even if a variable has the same name."""
    assert text == find_source(text, {text: picture()})


@pytest.mark.parametrize("name", ["city", "_", "img", "größe"])
def test_a_variable_means_its_value(name: str, here: Path) -> None:
    """An image in the namespace wins over a file of the same name."""
    value = picture()
    (here / name).write_bytes(encoded("PNG"))

    assert value is find_source(name, {name: value})


def test_an_item_of_a_list_can_be_named() -> None:
    """`imgs[1]` and `imgs[-1]` are looked up; other expressions are refused."""
    imgs = [picture(), picture("L")]
    found = [find_source(text, {"imgs": imgs}) for text in ("imgs[0]", "imgs[1]", "imgs[-1]")]

    assert [imgs[0], imgs[1], imgs[1]] == found
    with pytest.raises(SourceError, match=r"imgs\[0\].*'x'"):
        find_source("imgs[0].x", {"imgs": imgs})


@pytest.mark.parametrize(
    ("text", "value", "what", "do"),
    [
        ("x", 5, "x is an int", "path"),
        ("x", None, "x is None", "path"),
        ("x", "a.png", "x is a str", "path"),
        ("x", b"text", "x is a bytes", "path"),
        ("x", Path("none.png"), "x is the path", "path"),
        ("x", np.zeros(3), "x is a ndarray", "path"),
        ("x", [picture(), picture()], "x is a list", "x[0] to x[1]"),
        ("x[2]", [picture(), picture()], "item 2 in x", " x "),
        ("x[0]", 5, "item 0 in x", " x "),
        ("x[0]", [7], "x[0] is an int", "path"),
    ],
)
def test_a_variable_that_is_no_picture_is_named(text: str, value: object, what: str, do: str, here: Path) -> None:
    """The error names the type of the variable, and the hint lists valid sources."""
    with pytest.raises(SourceError) as caught:
        find_source(text, {"x": value})

    assert what in caught.value.message
    assert do in caught.value.hint


def test_a_file_wins_over_what_is_no_picture(here: Path) -> None:
    """A variable `cat` without an image does not hide the file `cat`."""
    for name in ("cat", "cat[0]"):
        (here / name).write_bytes(encoded("PNG"))

    assert [Path("cat"), Path("cat[0]")] == [find_source(text, {"cat": 5}) for text in ("cat", "cat[0]")]


def test_a_misspelt_name_meets_suggestions(here: Path) -> None:
    """The error suggests similar variables with images and similar image files, but no private variables."""
    (here / "harbor.png").write_bytes(encoded("PNG"))
    (here / "harbor.txt").write_text("x")
    names = {"harbor": picture(), "harbors": 5, "_harbor": picture(), "unlike": picture()}
    with pytest.raises(SourceError) as near:
        find_source("harbur", names)
    with pytest.raises(SourceError) as far:
        find_source("zzz", names)

    assert "'harbur'" in near.value.message
    assert "harbor or harbor.png" in near.value.hint
    assert "unlike" not in near.value.hint
    assert "harbor, unlike, harbor.png" in far.value.hint


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 5000, "~nobody-here/x.png", "no/such/folder/x.png", "🌃.png"])
def test_odd_names_are_only_not_found(text: str, here: Path) -> None:
    """Any odd name causes a SourceError."""
    with pytest.raises(SourceError):
        find_source(text, {})


def test_what_is_image_like() -> None:
    """Images, arrays in the shape of images, encoded bytes and results are image-like; other values are not."""
    yes = [
        picture(),
        np.zeros((2, 2)),
        np.zeros((2, 2, 3), bool),
        encoded("PNG"),
        encoded("GIF"),
        Result(picture()),
    ]
    no = [
        None,
        5,
        "a.png",
        b"BMW",
        np.zeros(4),
        np.zeros((2, 2), complex),
        np.float64(1),
        Image,
        Result,
        Drawing,
    ]

    assert [True] * len(yes) == [is_image_like(value) for value in yes]
    assert [False] * len(no) == [is_image_like(value) for value in no]
    assert is_image_like(Drawing())


def test_looking_wakes_nobody() -> None:
    """An object with a failing `__getattr__` or property is not image-like, and raises nothing."""

    class Eager:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    class Failing:
        @property
        def image(self) -> object:
            raise RuntimeError

    assert [is_image_like(Eager()), is_image_like(Failing())] == [False, False]
