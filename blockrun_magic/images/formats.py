"""Files that a user gives: which format the bytes are, how many pixels, and whether all are there.

Pillow's own `open` is not used: it warns of large pictures through the process-wide warning filters,
which a background thread must not touch. So formats are matched here, and sizes judged by us.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError, SourceError
from blockrun_magic.images.media_types import media_type_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "check_pixels",
    "decode",
    "describe",
    "is_picture",
    "load",
    "open_lazy",
    "verify",
]

MAX_FILE_BYTES = 30_000_000
MAX_PIXELS = 50_000_000
_EIGHTH = 8

# Not all that Pillow knows: EPS would start Ghostscript, and some formats have no signature.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "PPM", "QOI", "PSD")
_OTHERS = re.compile(
    rb"GIF8[79]a|BM.{4}\0\0\0\0|II\*\0|MM\0\*|....ftypavi[fs]|\0\0\0\x0cjP  |\0\0\x01\0|P[1-6]\s|qoif|8BPS",
    re.DOTALL,
)
_MAX_CHARACTER = 4
_NOT_PICTURES = (
    (
        re.compile(rb"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg", re.DOTALL | re.IGNORECASE),
        "SVG",
    ),
    (
        re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)", re.DOTALL | re.IGNORECASE),
        "a web page",
    ),
    (re.compile(rb"\s*<"), "XML"),
    (re.compile(rb"\s*[{\[]"), "JSON"),
    (re.compile(rb"%PDF"), "a PDF"),
    (re.compile(rb"%!PS"), "PostScript"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"....ftyp(?:hei[cx]|mif1|msf1)", re.DOTALL), "a HEIC photo"),
    (re.compile(rb"....ftyp|\x1aE\xdf\xa3", re.DOTALL), "a video"),
)
_ADVICE = "Give a PNG, JPEG or WebP file, or open it with PIL and pass that picture."


def is_picture(data: bytes) -> bool:
    """Return whether `data` starts as one of the formats that can be read."""
    return media_type_of(data) is not None or _OTHERS.match(data) is not None


def open_lazy(data: bytes, name: str, max_bytes: int = MAX_FILE_BYTES) -> Image.Image:
    """Return the picture in `data` with its size known and its pixels not yet read.

    Raises SourceError, with `name` as its subject, for other things than pictures, more than
    `max_bytes` and more than 50 megapixels.
    """
    if len(data) > max_bytes:
        raise too_large(len(data), name)
    if not is_picture(data):
        raise SourceError(f"{name} is not a picture: {describe(data)}.", _ADVICE)
    image = _match(data, name)
    check_pixels(image.size, name)
    return image


def load(data: bytes, name: str, max_bytes: int = MAX_FILE_BYTES) -> Image.Image:
    """Return the picture in `data`, every pixel read; raises SourceError as `open_file`, or if damaged."""
    image = verify(data, name, max_bytes)
    with _blamed(name):
        image.load()
    return image


def verify(data: bytes, name: str, max_bytes: int = MAX_FILE_BYTES) -> Image.Image:
    """Return the picture in `data`, all of it there, with its pixels not yet read; raises as `open_whole`.

    Of a PNG the checksums are looked at, a JPEG is read through at an eighth of its size: neither takes the
    time and the memory of all its pixels. Other formats have no such way, and are read.
    """
    image = open_lazy(data, name, max_bytes)
    with _blamed(name):
        if image.format == "PNG":
            image.verify()
        elif image.format == "JPEG":
            image.draft(None, (max(1, image.width // _EIGHTH), max(1, image.height // _EIGHTH)))
            image.load()
        else:
            image.load()
            return image
    return open_lazy(data, name, max_bytes)


@contextmanager
def _blamed(name: str) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        raise _damaged(name, error) from error


def check_pixels(size: tuple[int, int], name: str) -> None:
    """Raise SourceError for an empty picture, or one of more than 50 megapixels."""
    width, height = size
    if width < 1 or height < 1:
        raise SourceError(f"{name} has no pixels: it is {width} x {height}.", "Give a picture with content.")
    if width * height > MAX_PIXELS:
        raise SourceError(
            f"{name} is {width} x {height}, {width * height / 1e6:.0f} megapixels; "
            f"at most {MAX_PIXELS // 1_000_000} can be sent.",
            "Make it smaller first, for example with Image.thumbnail((2048, 2048)).",
        )


def too_large(size: int, name: str) -> SourceError:
    """Return the error for a file of `size` bytes, more than can be sent."""
    return SourceError(
        f"{name} has {size / 1e6:.1f} MB; at most {MAX_FILE_BYTES // 1_000_000} can be sent.",
        "Make it smaller first, or save it as JPEG or WebP.",
    )


def _match(data: bytes, name: str) -> Image.Image:
    from PIL import Image

    Image.init()
    problem: Exception = ValueError("no format fits")
    for known in _FORMATS:
        if known not in Image.OPEN:
            continue
        factory, accepts = Image.OPEN[known]
        if accepts is not None and accepts(data[:16]) is not True:
            continue
        try:
            return factory(io.BytesIO(data), "")
        except Exception as error:  # noqa: BLE001  plugins raise all sorts on damaged headers
            problem = error
    raise _damaged(name, problem) from problem


def _damaged(name: str, error: Exception) -> SourceError:
    return SourceError(
        f"{name} is damaged or cut short ({str(error) or type(error).__name__}).",
        "Get it again from where it came; what still opens in a viewer can be saved anew from there.",
    )


def describe(data: bytes) -> str:
    """Return what bytes that are no picture look like, as half a sentence."""
    if not data:
        return "it is empty"
    start = data[:2000].removeprefix(b"\xef\xbb\xbf")
    for pattern, label in _NOT_PICTURES:
        if pattern.match(start):
            return f"it looks like {label}"
    whole_characters = start.decode("utf-8", "ignore").encode()
    # The cut at 2000 bytes may go through a character: that alone does not make it binary.
    is_text = len(start) - len(whole_characters) < _MAX_CHARACTER and b"\0" not in start
    return "it looks like text" if is_text else "its format is not known"


def decode(data: bytes, refuse: type[BlockrunError], name: str, do: str) -> Image.Image:
    """Return the picture in `data`, checked to its end; its pixels are read when somebody needs them.

    Raises `refuse`, with `name` as the subject of the sentence and `do` as the second line, for
    bytes that are not PNG, JPEG or WebP, are cut short, or would unpack to more than 50 megapixels.
    """
    if media_type_of(data) is None:
        raise refuse(f"{name} is not a picture: {describe(data)}.", do)
    try:
        return verify(data, name, max_bytes=sys.maxsize)
    except SourceError as error:
        raise refuse(error.message, do) from error
