"""Anything a user has that is a picture, as an upload: files, URLs, bytes, PIL images, arrays, results.

What is PNG, JPEG or WebP already is sent byte for byte; everything else becomes a PNG.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import SourceError
from blockrun_magic.gateway.request import Upload
from blockrun_magic.images.conversion import array_to_picture, eight_bit, to_upload
from blockrun_magic.images.detection import extract_image, has_repr_png, is_array, is_image_like
from blockrun_magic.images.formats import (
    MAX_FILE_BYTES,
    load,
    open_lazy,
    too_large,
)
from blockrun_magic.images.media_types import media_type_of
from blockrun_magic.images.references import find_source

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Fetch",
    "find_source",
    "is_image_like",
    "open_mask",
    "open_source",
    "read_mask",
    "read_upload",
    "upload_size",
]

Fetch = Callable[[str], Awaitable[bytes]]
"""Downloads what a URL names; raises our errors."""

_URL = re.compile(r"https?://", re.IGNORECASE)
_DATA_URI = re.compile(r"data:([^,]*),", re.IGNORECASE)
_KINDS = "Give a path, a URL, a data URI, bytes, a PIL image, a NumPy array or a result of these magics."


async def read_upload(source: object, fetch: Fetch) -> Upload:
    """Return `source` as an upload; raises SourceError, and whatever `fetch` raises for a URL."""
    fetched = await _fetch(source, fetch)
    return await asyncio.to_thread(_upload, source if fetched is None else fetched, _name(source))


async def read_mask(source: object, size: tuple[int, int], fetch: Fetch) -> Upload:
    """Return `source` as a mask: a gray PNG of `size` (pixels), in which white is what may change.

    In bool arrays True is white; an integer array of nothing but 0 and 1 is read like one. Colors
    count by their luminance, over black where transparent. A picture of one color only, but with
    varying transparency, is a mask as OpenAI draws them: transparent is what may change.
    Raises SourceError for another size, and where nothing may change.
    """
    fetched = await _fetch(source, fetch)
    return await asyncio.to_thread(_mask, source if fetched is None else fetched, size, _mask_name(source))


def open_source(source: object) -> Image.Image:
    """Return `source`, which is in memory or on disk, as an eight-bit picture; raises SourceError, also for a URL."""
    _refuse_url(source)
    name = _name(source)
    return eight_bit(_opened(_content(source, name), name), name)


def open_mask(source: object, size: tuple[int, int]) -> Image.Image:
    """Return `source` as `read_mask` does, as a picture of mode L; it may be all black, but not a URL."""
    _refuse_url(source)
    return _gray(source, size, _mask_name(source))


def upload_size(upload: Upload) -> tuple[int, int]:
    """Return width and height in pixels, read from the header."""
    size: tuple[int, int] = open_lazy(upload.data, "The picture").size
    return size


async def _fetch(source: object, fetch: Fetch) -> bytes | None:
    return await fetch(source) if isinstance(source, str) and _URL.match(source) else None


def _upload(source: object, name: str) -> Upload:
    content = _content(source, name)
    if not isinstance(content, bytes):
        return to_upload(eight_bit(content, name))
    image = load(content, name)
    media_type = media_type_of(content)
    if media_type is None:
        return to_upload(eight_bit(image, name))
    return Upload.from_file_bytes(content, media_type)


def _mask(source: object, size: tuple[int, int], name: str) -> Upload:
    mask = _gray(source, size, name)
    if mask.getbbox() is None:
        raise SourceError(f"{name} is all black: nothing is painted yet.", "Paint white what is to be edited.")
    return to_upload(mask)


def _gray(source: object, size: tuple[int, int], name: str) -> Image.Image:
    mask = _white_is_edit(eight_bit(_opened(_content(source, name), name), name))
    if mask.size != size:
        raise SourceError(
            f"{name} is {mask.width} x {mask.height}, but the picture is {size[0]} x {size[1]}.",
            f"Make them the same size: mask.resize(({size[0]}, {size[1]})).",
        )
    if _extrema(mask)[1] == 1 and is_array(source):
        mask = mask.point(lambda value: value * 255)
    return mask


def _white_is_edit(mask: Image.Image) -> Image.Image:
    from PIL import Image, ImageOps

    if mask.mode != "RGBA":
        return mask.convert("L")
    alpha = mask.getchannel("A")
    low, high = _extrema(alpha)
    if low == high:
        return mask.convert("RGB").convert("L")
    colors = (_extrema(mask.getchannel(band)) for band in "RGB")
    if all(darkest == brightest for darkest, brightest in colors):
        return ImageOps.invert(alpha)
    black = Image.new("RGBA", mask.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, mask).convert("L")


def _extrema(gray: Image.Image) -> tuple[Any, Any]:
    low, high = gray.getextrema()
    return low, high


def _opened(content: bytes | Image.Image, name: str) -> Image.Image:
    return load(content, name) if isinstance(content, bytes) else content


def _content(source: object, name: str) -> bytes | Image.Image:
    """Return what `source` holds: a file's bytes, or a picture in memory."""
    picture = extract_image(source)
    if picture is not None:
        return picture
    if is_array(source):
        return array_to_picture(source, name)
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return _read_text(source, name)
    drawn = source._repr_png_() if has_repr_png(source) else None  # type: ignore[attr-defined]
    if isinstance(drawn, bytes):
        return drawn
    raise SourceError(f"A {type(source).__name__} is not a picture.", _KINDS)


def _read_text(source: str | os.PathLike[str], name: str) -> bytes:
    if isinstance(source, str) and _DATA_URI.match(source):
        return _decode_data_uri(source, name)
    return _read_file(source, name)


def _decode_data_uri(uri: str, name: str) -> bytes:
    head, _, payload = uri.partition(",")
    if len(payload) > MAX_FILE_BYTES * 3:
        raise too_large(len(payload) * 3 // 4, name)
    if not head.lower().rstrip().endswith(";base64"):
        return urllib.parse.unquote_to_bytes(payload)
    try:
        return base64.b64decode("".join(urllib.parse.unquote(payload).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SourceError(f"{name} is not valid base64 ({error}).", "Copy the whole of it, to the end.") from error


def _read_file(source: str | os.PathLike[str], name: str) -> bytes:
    advice = "Check the path; `~` is your home, and relative paths start where the notebook runs."
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            raise SourceError(f"{name} is a directory.", "Name a file in it.")
        if path.exists() and not path.is_file():
            raise SourceError(f"{name} is not a regular file.", advice)
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise too_large(size, name)
        return path.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"There is no file {name}.", advice) from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{name} cannot be read: {reason}.", advice) from error


def _refuse_url(source: object) -> None:
    if isinstance(source, str) and _URL.match(source):
        raise SourceError(
            f"{_name(source)} is on the web, and this fetches nothing.", "Download it, and give the path of the file."
        )


def _mask_name(source: object) -> str:
    name = _name(source)
    return "The mask" if name == "The picture" else f"The mask {name}"


def _name(source: object) -> str:
    """Return how errors call `source`: short, and without what a URL may carry in secret."""
    if isinstance(source, os.PathLike):
        return str(source)
    if not isinstance(source, str):
        return "The picture"
    if _DATA_URI.match(source):
        return "The data URI"
    if not _URL.match(source):
        return source[:200]
    bare = re.split(r"[?#]", source, maxsplit=1)[0]
    return re.sub(r"//[^/]*@", "//", bare)[:200]
