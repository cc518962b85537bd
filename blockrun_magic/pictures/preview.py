"""What a notebook shows: a small JPEG of each picture, or one sheet of several.

A 1024x1024 PNG embeds as two megabytes of base64; a preview of at most 768 pixels a side takes a
few dozen kilobytes, and every notebook viewer shows JPEG. The original stays in the store.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PREVIEW_SIDE", "preview"]

PREVIEW_SIDE = 768
_SHOWN_SIDE = 512
_QUALITY = 82
_GAP = 8


def preview(images: Sequence[Image.Image], side: int = PREVIEW_SIDE) -> tuple[bytes, int, int]:
    """Return a JPEG of `images` (one, or a sheet) with the CSS width and height to show it at.

    The JPEG is at most `side` pixels wide or high, and is shown smaller, so that it stays sharp on
    dense screens.
    """
    sheet = _small(images[0], side) if len(images) == 1 else _sheet(images, side)
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=_QUALITY, optimize=True)
    scale = min(1.0, _SHOWN_SIDE / max(sheet.size)) if len(images) == 1 else 1.0
    return file.getvalue(), round(sheet.width * scale), round(sheet.height * scale)


def _small(image: Image.Image, side: int) -> Image.Image:
    from PIL import Image as PILImage

    if image.mode in ("RGBA", "LA", "PA", "P"):
        image = image.convert("RGBA")
        paper = PILImage.new("RGBA", image.size, "white")
        image = PILImage.alpha_composite(paper, image)
    image = image.convert("RGB")
    image.thumbnail((side, side), PILImage.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def _sheet(images: Sequence[Image.Image], side: int) -> Image.Image:
    """Return the images side by side in rows, as square a grid as their number allows."""
    from PIL import Image as PILImage

    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    cell = (side - _GAP * (columns - 1)) // columns
    small = [_small(image, cell) for image in images]
    width = max(image.width for image in small)
    height = max(image.height for image in small)
    sheet = PILImage.new("RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), (255, 255, 255))
    for index, image in enumerate(small):
        row, column = divmod(index, columns)
        left = column * (width + _GAP) + (width - image.width) // 2
        sheet.paste(image, (left, row * (height + _GAP) + (height - image.height) // 2))
    return sheet
