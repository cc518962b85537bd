"""Masks computed from the image: by brightness, or by the color of a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["select_bright", "select_color"]


def select_bright(image: Image.Image, threshold: int, *, dark: bool = False) -> Image.Image:
    """Return a mask of pixels with a brightness of at least `threshold` (0 to 255); with `dark`, at most."""
    table = [255 if (level <= threshold if dark else level >= threshold) else 0 for level in range(256)]
    return image.convert("RGB").convert("L").point(table)


def select_color(image: Image.Image, x: int, y: int, tolerance: int) -> Image.Image:
    """Return a mask of the pixels whose every channel differs from that of `x`, `y` by at most `tolerance`."""
    from PIL import Image as PILImage
    from PIL import ImageChops

    color = image.convert("RGB")
    x, y = min(max(0, x), color.width - 1), min(max(0, y), color.height - 1)
    target = PILImage.new("RGB", color.size, color.getpixel((x, y)))
    red, green, blue = ImageChops.difference(color, target).split()
    distance = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return distance.point([255 if level <= tolerance else 0 for level in range(256)])
