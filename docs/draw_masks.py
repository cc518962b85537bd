"""Draw the pictures of docs/images-and-masks.md: one mask of each kind, as an image viewer shows it.

python docs/draw_masks.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

SIZE = (160, 120)
SKYLINE = (0, 72, 160, 120)
"""The part of the photo that stays: left, top, right and bottom, in pixels."""

TARGET = Path(__file__).resolve().parent / "images" / "masks"
_SQUARE = 8


def photo() -> Image.Image:
    """Return the photo to edit: a sky over a town."""
    image = Image.linear_gradient("L").resize(SIZE)
    red, green = image.point(lambda v: 60 + v // 2), image.point(lambda v: 120 + v // 3)
    image = Image.merge("RGB", (red, green, image.point(lambda v: 190 + v // 6)))
    image.paste((225, 225, 235), (0, 0, 160, 8))
    pen = ImageDraw.Draw(image)
    pen.rectangle(SKYLINE, fill=(52, 60, 82))
    for index, height in enumerate((14, 30, 20, 8, 26, 16)):
        left = 6 + index * 26
        pen.rectangle((left, SKYLINE[1] - height // 2, left + 18, SKYLINE[3]), fill=(70 + 8 * index, 74, 96))
    return image


def sky() -> Image.Image:
    """Return the mask that all the others mean: white where the sky is."""
    mask = Image.new("L", SIZE, 255)
    mask.paste(0, SKYLINE)
    return mask


def _holed(image: Image.Image) -> Image.Image:
    """Return an image that is transparent where the sky is."""
    image = image.convert("RGBA")
    image.putalpha(sky().point(lambda level: 255 - level))
    return image


def _painted(color: tuple[int, int, int, int]) -> Image.Image:
    layer = Image.new("RGBA", SIZE)
    layer.paste(color, (0, 0, SIZE[0], SKYLINE[1]))
    return layer


def _colored(upper: tuple[int, int, int], lower: tuple[int, int, int]) -> Image.Image:
    return Image.composite(Image.new("RGB", SIZE, upper), Image.new("RGB", SIZE, lower), sky())


def _labels(*values: int) -> Image.Image:
    """Return class labels: stripes in the sky, and 0 in the town."""
    image = Image.new("L", SIZE)
    for index, value in enumerate(values):
        image.paste(value, (0, index * SKYLINE[1] // len(values), SIZE[0], SKYLINE[1]))
    return image


def taken() -> dict[str, Image.Image]:
    """Return the masks that mean the sky, by the names of their pictures."""
    return {
        "white": sky(),
        "labels-two": _labels(1),
        "openai-photo": _holed(photo()),
        "openai-black": _holed(Image.new("RGB", SIZE)),
        "white-paint": _painted((255, 255, 255, 255)),
        "brush": _painted((235, 40, 90, 120)),
        "color-on-black": _colored((220, 30, 40), (0, 0, 0)),
        "painted-photo": Image.composite(Image.new("RGB", SIZE, (235, 40, 90)), photo(), sky()),
    }


def refused() -> dict[str, Image.Image]:
    """Return the masks that are refused, by the names of their pictures."""
    return {
        "black": Image.new("L", SIZE),
        "labels-three": _labels(1, 2),
        "two-colors": _colored((220, 30, 40), (40, 60, 200)),
        "paint-on-nothing": _painted((235, 40, 90, 255)),
        "photo": photo(),
    }


def _as_shown(mask: Image.Image) -> Image.Image:
    """Return a mask over the checkerboard that viewers use for transparency."""
    board = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(board)
    for left in range(0, SIZE[0], _SQUARE):
        for top in range(0, SIZE[1], _SQUARE):
            if (left + top) // _SQUARE % 2:
                pen.rectangle((left, top, left + _SQUARE - 1, top + _SQUARE - 1), fill=(205, 205, 205))
    clear = mask.convert("RGBA")
    board.paste(clear, (0, 0), clear)
    ImageDraw.Draw(board).rectangle((0, 0, SIZE[0] - 1, SIZE[1] - 1), outline=(128, 128, 128))
    return board


if __name__ == "__main__":
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, mask in {"source": photo(), **taken(), **refused()}.items():
        _as_shown(mask).quantize(64).save(TARGET / f"{name}.png", optimize=True)
