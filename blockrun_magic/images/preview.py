"""Previews for a notebook: a small JPEG of each image, or one sheet of several.

A 1024x1024 PNG embeds as two megabytes of base64; a preview of at most 768 pixels a side takes a
few dozen kilobytes, and every notebook viewer shows JPEG. The original stays in the store.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PREVIEW_SIDE", "display_bundle", "preview", "preview_bytes", "sheet"]

PREVIEW_SIDE = 768
_SHOWN_SIDE = 512
_QUALITY = 82
_GAP = 8
_FOOT = 36
_LINE = 16
_LETTER = 13
_ONE_ROW = 3
_MANY = 9


def preview(
    images: Sequence[Image.Image], side: int = PREVIEW_SIDE, labels: Sequence[str] = (), form: str = "jpeg"
) -> tuple[bytes, int, int]:
    """Return a JPEG (or PNG, by `form`) of `images` (one, or a sheet) with the CSS width and height to show it at.

    It is at most `side` pixels wide (a sheet of many: a third more), and is shown smaller, so
    that it stays sharp on dense screens.
    """
    alone = len(images) == 1 and not labels
    if len(images) > _MANY:
        side = side * 4 // 3
    shown = _small(images[0], side) if alone else sheet(images, side, labels)
    file = io.BytesIO()
    shown.save(file, form, quality=_QUALITY, optimize=True)
    scale = min(1.0, _SHOWN_SIDE / max(shown.size)) if alone else 1.0
    return file.getvalue(), round(shown.width * scale), round(shown.height * scale)


def preview_bytes(image: Image.Image, side: int, form: str = "jpeg") -> tuple[bytes, int, int]:
    """Return `image` as JPEG or PNG of at most `side` pixels a side, with its width and height."""
    small = _small(image, side)
    file = io.BytesIO()
    small.save(file, form, quality=_QUALITY, optimize=True)
    return file.getvalue(), small.width, small.height


def display_bundle(
    image: tuple[bytes, int, int], form: str, alt: str, words: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what IPython displays for a preview: data and metadata by media type."""
    data, width, height = image
    media_type = f"image/{form}"
    shape = {"width": width, "height": height, "alt": alt}
    return {media_type: data, "text/plain": words}, {media_type: shape}


def _small(image: Image.Image, side: int) -> Image.Image:
    from PIL import Image as PILImage

    if image.mode in ("RGBA", "LA", "PA", "P"):
        image = image.convert("RGBA")
        paper = PILImage.new("RGBA", image.size, "white")
        image = PILImage.alpha_composite(paper, image)
    image = image.convert("RGB")
    image.thumbnail((side, side), PILImage.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def sheet(images: Sequence[Image.Image], side: int, labels: Sequence[str] = ()) -> Image.Image:
    """Return the images on a sheet, in a grid that is nearly square, at most `side` pixels wide.

    Up to three are in one row. A label of up to two lines is below its image, cut to the
    image's width; Pillow's own font has no more than Latin letters.
    """
    from PIL import Image as PILImage
    from PIL import ImageDraw, ImageFont

    columns = len(images) if len(images) <= _ONE_ROW else math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    cell = (side - _GAP * (columns - 1)) // columns
    small = [_small(image, cell) for image in images]
    width = max(image.width for image in small)
    foot = _FOOT if labels else 0
    height = max(image.height for image in small) + foot
    paper = PILImage.new("RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), "white")
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(_LETTER)
    for index, image in enumerate(small):
        row, column = divmod(index, columns)
        left, top = column * (width + _GAP), row * (height + _GAP)
        paper.paste(image, (left + (width - image.width) // 2, top + (height - foot - image.height) // 2))
        if labels:
            for line, text in enumerate(labels[index].splitlines()):
                shown = _cut(text, lambda text: pen.textlength(text, font=font), width)
                pen.text((left + 2, top + height - foot + 2 + line * _LINE), shown, fill=(60, 60, 60), font=font)
    return paper


def _cut(text: str, length: Callable[[str], float], width: int) -> str:
    while text and length(text) > width:
        text = text[:-1]
    return text
