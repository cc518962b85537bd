"""Image files: their format, their size in pixels, and a complete decode within fixed bounds.

Pillow's `Image.open` is not used: it reports large images through the process-wide warning filters, and a
background thread must not touch those. Formats are matched here, and sizes are checked before any pixel is read.
"""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError, SourceError
from blockrun_magic.images.media_types import media_type_of
from blockrun_magic.images.metadata import MAX_JPEG_SCANS, check_png, check_png_pixels, count_jpeg_scans, may_lack_rows

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "check_decodable",
    "decode",
    "describe",
    "is_image",
    "load",
    "open_lazy",
    "size_of_png",
    "strict_pillow",
    "too_large",
    "verify",
]

MAX_FILE_BYTES = 150_000_000
"""The most bytes that are read of a file: enough for 16.8 megapixels in every format, even uncompressed 16-bit RGBA."""

MAX_PIXELS = 50_000_000
"""The most pixels of an image that are decoded by default."""

# Some of Pillow's formats are left out: EPS would start Ghostscript, and others have no signature.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "PPM", "QOI", "PSD")
_HEIC = re.compile(rb"....ftyp(?:hei[cxmsfv]|hev[cxms]|mif1|msf1)", re.DOTALL)
_AVIF = re.compile(rb"....ftypavi[fs]", re.DOTALL)
_OTHERS = re.compile(
    rb"GIF8[79]a|BM.{4}\0\0\0\0|II\*\0|MM\0\*|II\+\0|MM\0\+|....ftypavi[fs]"
    rb"|....ftyp(?:hei[cxmsfv]|hev[cxms]|mif1|msf1)|\0\0\0\x0cjP  |\0\0\x01\0|P[1-6]\s|qoif|8BPS",
    re.DOTALL,
)
_MAX_CHARACTER = 4
_START = 2000
_PREFIXES = (
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1aE\xdf\xa3", "a video"),
)
_PREAMBLES = ((b"<!--", b"-->"), (b"<?xml", b">"), (b"<!doctype svg", b">"))
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body")
_ADVICE = "Export it as PNG, JPEG or WebP; or open it with PIL, if PIL reads it, and pass that image."


_EMPTY, _TEXT, _WEB_PAGE = "it is empty", "it looks like text", "a web page"
_HINTS = {
    _EMPTY: "Get the file again.",
    _TEXT: "Get the file again; a Git LFS repository has text files in place of images until `git lfs pull`.",
    f"it looks like {_WEB_PAGE}": "Give the address or the file of the image itself, not of a page that shows it.",
}


def is_image(data: bytes) -> bool:
    """Return whether `data` starts like one of the formats that can be read."""
    return media_type_of(data) is not None or _OTHERS.match(data) is not None


def open_lazy(data: bytes, name: str, *, max_bytes: int = MAX_FILE_BYTES, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the image in `data` with its size, but without reading its pixels.

    Raises SourceError, with `name` as its subject, for anything but an image, more than `max_bytes` bytes or more
    than `max_pixels` pixels.
    """
    if len(data) > max_bytes:
        raise too_large(len(data), name)
    if not is_image(data):
        kind = describe(data)
        raise SourceError(f"{name} is not an image: {kind}.", _HINTS.get(kind, _ADVICE))
    with strict_pillow():
        image = _match(data, name)
    check_decodable(image.size, name, max_pixels)
    return image


def load(
    data: bytes,
    name: str,
    *,
    max_bytes: int = MAX_FILE_BYTES,
    max_pixels: int = MAX_PIXELS,
    reduce_to: int | None = None,
) -> Image.Image:
    """Return the first frame in `data`, every pixel read; raises SourceError as `open_lazy`, or if it is damaged.

    With `reduce_to`, a JPEG of more pixels is decoded at half, a quarter or an eighth of its size, as long as that
    leaves at least `reduce_to` pixels.
    """
    if data.startswith(b"\xff\xd8") and count_jpeg_scans(data) > MAX_JPEG_SCANS:
        raise SourceError(f"{name} has more than {MAX_JPEG_SCANS} scans.", "Save the image again, then use that file.")
    image = open_lazy(data, name, max_bytes=max_bytes, max_pixels=max_pixels)
    if reduce_to is not None:
        _reduce(image, reduce_to)
    try:
        with strict_pillow():
            if image.format == "PNG":
                check_png(data)
            image.load()
            if image.format == "PNG" and may_lack_rows(image):
                check_png_pixels(data)
    except SourceError:
        raise
    except Exception as error:
        raise _damaged(name, error) from error
    return image


def verify(data: bytes, name: str = "The image", *, max_pixels: int = MAX_PIXELS) -> None:
    """Raise SourceError unless `data` is an image whose pixels can all be read; bounded in pixels and scans."""
    load(data, name, max_bytes=sys.maxsize, max_pixels=max_pixels)


def decode(data: bytes, error: type[BlockrunError], subject: str, hint: str) -> Image.Image:
    """Return the image in `data`, every pixel read.

    Raises `error`, with `subject` at the start of its message and `hint` as its second line, for bytes that are not
    a PNG, JPEG or WebP, are damaged or cut short, or would unpack to more than 50 megapixels.
    """
    if media_type_of(data) is None:
        raise error(f"{subject} is not an image: {describe(data)}.", hint)
    try:
        return load(data, subject, max_bytes=sys.maxsize)
    except SourceError as problem:
        raise error(problem.message, hint) from problem


def size_of_png(data: bytes, size: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Return the `size` of a PNG whose pixels can all be read; None for any other, or if only decoding can tell."""
    if media_type_of(data) != "image/png":
        return None
    try:
        size = size or open_lazy(data, "The image", max_bytes=sys.maxsize).size
        return size if check_png_pixels(data) else None
    except Exception:  # noqa: BLE001  decoding it will say what is wrong
        return None


def check_decodable(size: tuple[int, int], name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Raise SourceError for an image without pixels, or with more than `max_pixels`."""
    width, height = size
    if width < 1 or height < 1:
        raise SourceError(f"{name} has no pixels: it is {width} x {height}.", "Give an image with content.")
    if width * height > max_pixels:
        raise SourceError(
            f"{name} is {width} x {height}, {width * height / 1e6:.0f} megapixels; "
            f"at most {max_pixels // 1_000_000} can be read.",
            "Make it smaller with an image editor, then use that file.",
        )


def too_large(size: int, name: str) -> SourceError:
    """Return the error for a file of `size` bytes, more than is read."""
    return SourceError(
        f"{name} has {size / 1e6:.1f} MB; at most {MAX_FILE_BYTES // 1_000_000} MB can be read.",
        "Make it smaller with an image editor, or save it as PNG, JPEG or WebP.",
    )


class _Strictness:
    """Number of running decodes, and the notebook's own settings of Pillow from before them."""

    lock = threading.Lock()
    running = 0
    truncated = False
    max_pixels: int | None = None


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Decode with our settings inside the context, regardless of Pillow's global settings in the notebook.

    `ImageFile.LOAD_TRUNCATED_IMAGES` would fill missing pixels with gray; a low `Image.MAX_IMAGE_PIXELS` would refuse
    good images. Other settings are not changed.
    """
    from PIL import Image, ImageFile

    with _Strictness.lock:
        _Strictness.running += 1
        if _Strictness.running == 1:
            _Strictness.truncated, _Strictness.max_pixels = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        if Image.MAX_IMAGE_PIXELS is None or Image.MAX_IMAGE_PIXELS < MAX_PIXELS:
            Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        yield
    finally:
        with _Strictness.lock:
            _Strictness.running -= 1
            if _Strictness.running == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = _Strictness.truncated
                Image.MAX_IMAGE_PIXELS = _Strictness.max_pixels


def _reduce(image: Image.Image, pixels: int) -> None:
    width, height = image.size
    scale = min(1.0, (pixels / (width * height)) ** 0.5)
    image.draft(None, (int(width * scale), int(height * scale)))  # has an effect only for JPEG


def _match(data: bytes, name: str) -> Image.Image:
    from PIL import Image

    Image.init()
    problem: Exception = ValueError("no format fits")
    if _HEIC.match(data):
        return _opened(_heif_opener(name), data, name)
    if _AVIF.match(data) and "AVIF" not in Image.OPEN:
        raise SourceError(f"{name} is an AVIF image, which this Pillow cannot read.", "Run `%pip install -U pillow`.")
    for known_format in _FORMATS:
        if known_format not in Image.OPEN:
            continue
        factory, accepts = Image.OPEN[known_format]
        if accepts is not None and accepts(data[:16]) is not True:
            continue
        try:
            return factory(io.BytesIO(data), "")
        except Exception as error:  # noqa: BLE001  plugins raise all sorts on damaged headers
            problem = error
    raise _damaged(name, problem) from problem


def _opened(factory: Callable[..., Image.Image], data: bytes, name: str) -> Image.Image:
    try:
        return factory(io.BytesIO(data), "")
    except Exception as error:
        raise _damaged(name, error) from error


def _heif_opener(name: str) -> Callable[..., Image.Image]:
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError:
        raise SourceError(
            f"{name} is a HEIC image, and the library that reads it is not installed.",
            'Run `%pip install "blockrun-magic[heif]"`, then run this cell again.',
        ) from None
    opener: Callable[..., Image.Image] = HeifImageFile
    return opener


def _damaged(name: str, error: Exception) -> SourceError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return SourceError(
        f"{name} is damaged or cut short ({reason}).", "Get the file again, or open it and save it again."
    )


def describe(data: bytes) -> str:
    """Return a description of bytes that are not an image: "it looks like a web page"."""
    if not data:
        return _EMPTY
    start = data[:_START].removeprefix(b"\xef\xbb\xbf")
    label = _markup(start) or next((label for prefix, label in _PREFIXES if start.startswith(prefix)), None)
    if label is None and start.lstrip()[:1] in {b"{", b"["}:
        label = "JSON"
    if label is None and start[4:8] == b"ftyp":
        label = "a video"
    if label is not None:
        return f"it looks like {label}"
    whole_characters = start.decode("utf-8", "ignore").encode()
    # The cut at 2000 bytes may split a character, which alone does not make the data binary.
    is_text = len(start) - len(whole_characters) < _MAX_CHARACTER and b"\0" not in start
    return _TEXT if is_text else "its format is not known"


def _markup(start: bytes) -> str | None:
    """Return the kind of a markup text, in linear time: each step removes a comment or a declaration."""
    text = start.lower().lstrip()
    while True:
        preamble = next(((opens, closes) for opens, closes in _PREAMBLES if text.startswith(opens)), None)
        end = -1 if preamble is None else text.find(preamble[1], len(preamble[0]))
        if preamble is None or end < 0:
            break
        text = text[end + len(preamble[1]) :].lstrip()
    if text.startswith(b"<svg"):
        return "SVG"
    if text.startswith(_PAGE):
        return _WEB_PAGE
    return "XML" if start.lstrip().startswith(b"<") else None
