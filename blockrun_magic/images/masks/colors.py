"""Color patterns of masks: one color on black, paint on the photo, two colors, holes; even with edges and noise.

The functions that look for a pattern return None for an image without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

__all__ = [
    "DARK",
    "MAX_SPREAD",
    "Color",
    "brightness",
    "color_on_black",
    "is_one_color",
    "nearer_code",
    "paint_on_photo",
    "spread_of",
    "transparency",
    "two_colors",
]

Color = tuple[int, int, int]

DARK = 31
"""The brightest level that counts as black."""
MAX_SPREAD = 24
"""The largest difference between the channels of a gray, and of a pixel from its color: lossy formats leave a tint."""
_CHANGED_FROM = 48
"""The smallest difference of a painted pixel from the photo."""
_MAX_LOSS = 2
_WHITE = 255
_EDGE = 5
"""The width of edges in pixels, where colors are mixed."""
_MIN_PAINTED, _MAX_PAINTED = 0.001, 0.99
_SAME_COLOR = 12
_SAMPLE = 128


def brightness(rgb: Image.Image) -> Image.Image:
    """Return the highest channel of each pixel."""
    from PIL import ImageChops

    red, green, blue = rgb.split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


def transparency(mask: Image.Image) -> Image.Image | None:
    """Return the transparency of each pixel of an RGBA mask, 255 for a hole; None for a mask without a hole.

    The most opaque pixels count as opaque: OpenAI's cookbook gives them an alpha of 1.
    """
    from PIL import ImageChops

    if mask.mode != "RGBA":
        return None
    alpha = mask.getchannel("A")
    lowest, highest = cast("tuple[int, int]", alpha.getextrema())
    if lowest == highest:
        return ImageChops.invert(alpha) if highest == 0 else None
    return ImageChops.invert(alpha.point([min(_WHITE, round(level * _WHITE / highest)) for level in range(256)]))


def color_on_black(rgb: Image.Image) -> Image.Image | None:
    """Return the share of the single color in each pixel, 0 to 255."""
    from PIL import Image, ImageStat

    value = brightness(rgb)
    low, high = cast("tuple[int, int]", value.getextrema())
    if low > DARK or high <= 2 * DARK:
        return None
    color = ImageStat.Stat(rgb, value.point(_above(high * 3 // 4))).median
    peak = max(color)
    if not peak:  # red, green and blue in different places have black as their middle
        return None
    shades = [value.point([min(_WHITE, level * part // peak) for level in range(256)]) for part in color]
    if not _is_close(rgb, Image.merge("RGB", shades)):
        return None
    return value.point([0 if level <= DARK else min(_WHITE, level * _WHITE // peak) for level in range(256)])


def paint_on_photo(rgb: Image.Image, photo: Image.Image) -> Image.Image | None:
    """Return the area where one solid color was painted over the otherwise unchanged photo.

    Also None if the photo itself has much of that color, so that the edge of the paint is unclear.
    """
    from PIL import Image, ImageChops, ImageFilter, ImageStat

    difference = brightness(ImageChops.difference(rgb, photo))
    painted = difference.point(_above(_CHANGED_FROM))
    pixels = rgb.width * rgb.height
    count = painted.histogram()[_WHITE]
    if not _MIN_PAINTED <= count / pixels <= _MAX_PAINTED:
        return None
    if ImageStat.Stat(difference, ImageChops.invert(painted)).mean[0] > _MAX_LOSS:
        return None
    color = cast("Color", tuple(ImageStat.Stat(rgb, painted).median))
    other = brightness(ImageChops.difference(rgb, Image.new("RGB", rgb.size, color)))
    if ImageChops.multiply(other.point(_above(MAX_SPREAD)), painted).filter(ImageFilter.MinFilter(_EDGE)).getbbox():
        return None  # the changed part has several colors: another photo
    alike = ImageChops.subtract(other.point([_WHITE] * _SAME_COLOR + [0] * (256 - _SAME_COLOR)), painted)
    if alike.filter(ImageFilter.MinFilter(_EDGE)).getbbox():
        return None
    return painted.filter(ImageFilter.MaxFilter(_EDGE)).filter(ImageFilter.MinFilter(_EDGE))


def two_colors(rgb: Image.Image) -> tuple[Color, Color] | None:
    """Return the two colors of an image that has others only at edges."""
    from PIL import Image, ImageChops

    small = rgb.resize((min(rgb.width, _SAMPLE), min(rgb.height, _SAMPLE)), Image.Resampling.NEAREST)
    values = small.quantize(2).getpalette() or []
    if len(values) < 2 * 3:
        return None
    first, second = cast("tuple[Color, Color]", (tuple(values[:3]), tuple(values[3:6])))
    one, other = (brightness(ImageChops.difference(rgb, Image.new("RGB", rgb.size, c))) for c in (first, second))
    far = ImageChops.darker(one, other)
    return (first, second) if _is_thin(far) else None


def is_one_color(colors: Sequence[Color]) -> bool:
    """Return whether these colors differ only by the rounding of faint paint."""
    return all(max(values) - min(values) <= MAX_SPREAD for values in zip(*colors, strict=True))


def spread_of(color: Color) -> int:
    """Return the difference between the highest and the lowest channel of a color."""
    return max(color) - min(color)


def nearer_code(color: Color, other: Color) -> str:
    """Return the expression for the pixels of {} that are nearer to one color than to another."""
    near, far = (
        f"np.abs(np.asarray({{0}}.convert('RGB')).astype(int) - {list(each)}).sum(-1)" for each in (color, other)
    )
    return f"{near} < {far}"


def _is_close(rgb: Image.Image, expected: Image.Image) -> bool:
    from PIL import ImageChops

    return _is_thin(brightness(ImageChops.difference(rgb, expected)))


def _is_thin(difference: Image.Image) -> bool:
    """Return whether only edges have large differences."""
    from PIL import ImageFilter

    return difference.point(_above(MAX_SPREAD)).filter(ImageFilter.MinFilter(_EDGE)).getbbox() is None


def _above(level: int) -> list[int]:
    """Return the table of `point` that makes levels above `level` white, and others black."""
    return [0] * (level + 1) + [_WHITE] * (255 - level)
