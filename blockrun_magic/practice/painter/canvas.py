"""A canvas of Pillow only: gradients, cloud-like noise, smooth shapes and glows."""

from __future__ import annotations

import random
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

from PIL import Image, ImageChops, ImageDraw

__all__ = ["RGB", "Canvas", "Point", "gradient", "mix", "noise", "ridge", "shape", "tint"]

RGB: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]

_NOISE_SIDE = 192
_STEPS = 192


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Return `first` mixed with `share` (0 to 1) of `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def tint(color: RGB, factor: float) -> RGB:
    """Return `color` darkened (factor below 1) or brightened."""
    red, green, blue = (max(0, min(255, round(part * factor))) for part in color)
    return red, green, blue


def gradient(size: tuple[int, int], stops: tuple[RGB, ...]) -> Image.Image:
    """Return a smooth vertical gradient through `stops`, evenly spaced."""
    column = Image.new("RGB", (1, _STEPS))
    spans = len(stops) - 1
    for step in range(_STEPS):
        at = step / (_STEPS - 1) * spans
        index = min(int(at), spans - 1)
        column.putpixel((0, step), mix(stops[index], stops[index + 1], at - index))
    return column.resize((1, max(1, size[1])), Image.Resampling.BICUBIC).resize(size)


def noise(rng: random.Random, cells: tuple[int, int], octaves: int = 4) -> Image.Image:
    """Return a small grayscale image of soft noise, `cells` bumps across and down."""
    side = (_NOISE_SIDE, _NOISE_SIDE)
    total = Image.new("L", side, 128)
    wide, high = cells
    for octave in range(octaves):
        grain = Image.frombytes("L", (wide, high), rng.randbytes(wide * high))
        total = Image.blend(total, grain.resize(side, Image.Resampling.BICUBIC), 0.7 / (1 + 1.1 * octave))
        wide, high = min(wide * 2, _NOISE_SIDE), min(high * 2, _NOISE_SIDE)
    return total


def ridge(rng: random.Random, steps: int = 7, rough: float = 0.55) -> list[float]:
    """Return the heights of a mountain ridge, about 0 to 1, by midpoint displacement."""
    heights = [rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)]
    spread = 0.42
    for _ in range(steps):
        finer: list[float] = []
        for left, right in pairwise(heights):
            finer += [left, (left + right) / 2 + rng.uniform(-spread, spread)]
        heights = [*finer, heights[-1]]
        spread *= rough
    low, high = min(heights), max(heights)
    return [(height - low) / (high - low) for height in heights]


def shape(size: tuple[int, int], *polygons: list[Point]) -> Image.Image:
    """Return a mask of filled polygons with smooth edges."""
    mask = Image.new("L", (size[0] * 2, size[1] * 2))
    draw = ImageDraw.Draw(mask)
    for polygon in polygons:
        draw.polygon([(x * 2, y * 2) for x, y in polygon], fill=255)
    return mask.reduce(2)


@lru_cache(maxsize=8)
def _falloff(power: float) -> Image.Image:
    """Return a soft round spot, white in the middle and black outside its rim."""
    return Image.radial_gradient("L").point([round(255 * max(0.0, 1 - level / 180) ** power) for level in range(256)])


class Canvas:
    """An unfinished image: `unit` is a thousandth of its shorter side, `rng` its random generator."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        self.size = size
        self.width, self.height = size
        self.unit = min(size) / 1000
        self.rng = random.Random(seed)  # noqa: S311  chance that repeats itself is the point
        self.image = Image.new("RGB", size)

    def fork(self, name: str) -> random.Random:
        """Return a separate random generator for one element, so that other elements do not change it."""
        return random.Random(f"{self.rng.random()} {name}")  # noqa: S311

    def fill(self, paint: RGB | Image.Image, mask: Image.Image, top: int = 0) -> None:
        """Paint a color or an image through `mask`, which starts at `top`."""
        box = (0, top, mask.width, top + mask.height)
        self.image.paste(paint, box, mask)

    def screen(self, light: Image.Image, box: tuple[int, int] = (0, 0)) -> None:
        """Add the light of `light`, as a second projector would."""
        area = (box[0], box[1], box[0] + light.width, box[1] + light.height)
        self.image.paste(ImageChops.screen(self.image.crop(area), light), box)

    def glow(self, center: Point, radius: float, color: RGB, strength: float = 1.0, power: float = 2.0) -> None:
        """Add a round glow of `color`, its rim at `radius` pixels."""
        reach = max(2, int(radius * 1.4))
        spot = _falloff(power).resize((reach * 2, reach * 2), Image.Resampling.BILINEAR)
        left, top = int(center[0]) - reach, int(center[1]) - reach
        box = (
            max(0, left),
            max(0, top),
            min(self.width, left + 2 * reach),
            min(self.height, top + 2 * reach),
        )
        if box[0] >= box[2] or box[1] >= box[3]:
            return
        part = spot.crop((box[0] - left, box[1] - top, box[2] - left, box[3] - top))
        light = Image.merge("RGB", [part.point([round(v * c / 255 * strength) for v in range(256)]) for c in color])
        self.screen(light, (box[0], box[1]))

    def disc(self, center: Point, radius: float, color: RGB) -> None:
        """Draw a disc with a smooth edge."""
        reach = int(radius) + 2
        mask = Image.new("L", (reach * 8, reach * 8))
        rim = (reach - radius) * 4
        ImageDraw.Draw(mask).ellipse((rim, rim, reach * 8 - rim, reach * 8 - rim), fill=255)
        mask = mask.reduce(4)
        self.image.paste(color, (int(center[0]) - reach, int(center[1]) - reach), mask)

    def stamp(self, sprite: Image.Image, center: Point) -> None:
        """Paint a transparent sprite with its middle at `center`."""
        place = (int(center[0] - sprite.width / 2), int(center[1] - sprite.height / 2))
        self.image.paste(sprite.convert("RGB"), place, sprite.getchannel("A"))
