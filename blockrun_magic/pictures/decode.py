"""Bytes that claim to be a picture, checked before anything is drawn from them.

The type comes from the bytes, never from a name or a header; the size is read before the pixels,
so that a decompression bomb stays closed.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "decode", "media_type_of", "suffix_of"]

MAX_PIXELS = 64_000_000
_SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def media_type_of(data: bytes) -> str | None:
    """Return "image/png", "image/jpeg" or "image/webp" by the first bytes, or None."""
    for signature, media_type in _SIGNATURES:
        if data.startswith(signature):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def suffix_of(media_type: str) -> str:
    """Return the file suffix of a media type: ".png", ".jpg" or ".webp"."""
    return _SUFFIXES[media_type]


def decode(data: bytes, refuse: type[BlockrunError], name: str, do: str) -> Image.Image:
    """Return the picture in `data`, every pixel read.

    Raises `refuse`, with `name` as the subject of the sentence and `do` as the second line, for
    bytes that are not PNG, JPEG or WebP, are cut short, or would unpack to more than 64 megapixels.
    """
    from PIL import Image, UnidentifiedImageError

    if media_type_of(data) is None:
        raise refuse(f"{name} is not a picture: {_looks_like(data)}.", do)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
            if image.width * image.height > MAX_PIXELS:
                raise refuse(f"{name} claims {image.width} x {image.height} pixels, too many to open.", do)
            image.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise refuse(f"{name} claims too many pixels to open.", do) from None
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, EOFError) as error:
        raise refuse(f"{name} is damaged or cut short ({error}).", do) from error
    return image


def _looks_like(data: bytes) -> str:
    start = data[:200].lstrip().lower()
    if not data:
        return "it is empty"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it looks like a web page"
    if start.startswith((b"<svg", b"<?xml")):
        return "it looks like SVG or XML"
    return "it is neither PNG, JPEG nor WebP"
