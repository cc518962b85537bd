"""Thumbnails of stored images, as data URIs for our HTML."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError, StoreError

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.payments.ledger.records import StoredImage
    from blockrun_magic.studio.results.stored_files import StoredFiles

__all__ = ["data_uri", "stored_image", "thumbnail"]


def thumbnail(files: StoredFiles, stored: StoredImage, side: int) -> str | None:
    """Return a JPEG of at most `side` pixels a side as a data URI; None if the original is missing or damaged."""
    try:
        return data_uri(stored_image(files, stored), side)
    except BlockrunError:
        return None


def stored_image(files: StoredFiles, stored: StoredImage) -> Image.Image:
    """Return a stored image, decoded; raises StoreError."""
    from blockrun_magic.images.formats import decode

    return decode(files.get(stored.file, stored.media_type), StoreError, "The stored image", "")


def data_uri(image: Image.Image, side: int) -> str:
    """Return a JPEG of `image`, at most `side` pixels a side, as a data URI."""
    from blockrun_magic.images.preview import preview

    jpeg, _, _ = preview([image], side=side)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
