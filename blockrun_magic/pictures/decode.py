"""Bytes that claim to be a picture, checked before anything is drawn from them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError, SourceError
from blockrun_magic.pictures.formats import describe, open_checked
from blockrun_magic.pictures.media import media_type_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode"]


def decode(data: bytes, refuse: type[BlockrunError], name: str, do: str) -> Image.Image:
    """Return the picture in `data`, checked to its end; its pixels are read when somebody needs them.

    Raises `refuse`, with `name` as the subject of the sentence and `do` as the second line, for
    bytes that are not PNG, JPEG or WebP, are cut short, or would unpack to more than 50 megapixels.
    """
    if media_type_of(data) is None:
        raise refuse(f"{name} is not a picture: {describe(data)}.", do)
    try:
        return open_checked(data, name, max_bytes=sys.maxsize)
    except SourceError as error:
        raise refuse(error.what, do) from error
