"""Images without a model: the words of a prompt become a scene, and each model has its own look.

The same prompt, model and index give the same image on every machine; another index is another
take. Each is stamped PRACTICE in its lower right corner.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from blockrun_magic.practice.painter.abstract import paint_abstract
from blockrun_magic.practice.painter.canvas import Canvas
from blockrun_magic.practice.painter.city import paint_city
from blockrun_magic.practice.painter.filters import apply_look
from blockrun_magic.practice.painter.flowers import paint_flowers
from blockrun_magic.practice.painter.landscape import (
    paint_forest,
    paint_ground,
    paint_mountains,
    paint_water,
)
from blockrun_magic.practice.painter.scenes import read_scene
from blockrun_magic.practice.painter.sky import paint_sky, paint_weather
from blockrun_magic.practice.painter.subjects import paint_subjects

if TYPE_CHECKING:
    from blockrun_magic.practice.painter.scenes import Scene

__all__ = ["PaintedImage", "encode_png", "paint", "paint_scene", "seed_of", "stamp"]

PaintedImage: TypeAlias = Image.Image

_MAX_PIXELS = 1_100_000
_MIN_PIXELS = 64
_STAMP = "PRACTICE"


def seed_of(prompt: str, model: str, index: int) -> int:
    """Return the seed of one image."""
    text = f"{prompt}\0{model}\0{index}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def paint(prompt: str, model: str, size: tuple[int, int], index: int = 0, quality: str | None = None) -> PaintedImage:
    """Return the image of `prompt` by `model`, `size` pixels, RGB; "hd" is a little crisper."""
    seed = seed_of(prompt, model, index)
    image = paint_scene(read_scene(prompt, seed), _paint_size(size), seed)
    image = apply_look(image, model, seed, crisp=quality == "hd")
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    stamp(image)
    return image


def _paint_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size to paint at: large images are painted smaller and enlarged."""
    width, height = size
    scale = min(1.0, (_MAX_PIXELS / (width * height)) ** 0.5)
    return max(_MIN_PIXELS, round(width * scale)), max(_MIN_PIXELS, round(height * scale))


def paint_scene(scene: Scene, size: tuple[int, int], seed: int) -> PaintedImage:
    """Return the scene in natural colors, without a model's look and without a stamp."""
    canvas = Canvas(size, seed)
    if scene.abstract:
        paint_abstract(canvas, scene)
        return canvas.image
    horizon = _horizon(scene)
    light = paint_sky(canvas, scene, horizon)
    if scene.time != "space" or scene.land_said:
        has = scene.features
        if "mountains" in has:
            paint_mountains(canvas, scene, horizon)
        if "city" in has:
            paint_city(canvas, scene, horizon)
        if "forest" in has:
            paint_forest(canvas, scene, horizon, front=False)
        if "water" in has:
            paint_water(canvas, scene, horizon, light)
        else:
            paint_ground(canvas, scene, horizon)
        if "forest" in has:
            paint_forest(canvas, scene, horizon, front="water" not in has)
        if "flowers" in has:
            paint_flowers(canvas, scene, horizon)
    paint_subjects(canvas, scene, horizon)
    paint_weather(canvas, scene)
    return canvas.image


def _horizon(scene: Scene) -> float:
    """Return the height of the horizon, 0 (top) to 1."""
    if "flowers" in scene.features:
        return 0.48
    if "city" in scene.features:
        return 0.7
    return 0.6 if "water" in scene.features else 0.64


@lru_cache(maxsize=32)
def _label(height: int) -> Image.Image:
    """Return the stamp as a mask, its letters `height` pixels tall."""
    font = ImageFont.load_default(size=height)
    spaced = " ".join(_STAMP)
    left, top, right, bottom = font.getbbox(spaced)
    mask = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), spaced, fill=255, font=font)
    return mask


def stamp(image: PaintedImage, box: tuple[int, int, int, int] | None = None) -> None:
    """Write PRACTICE into the lower right corner of `image`, or of `box` in it, if it fits there."""
    left, top, right, bottom = box or (0, 0, image.width, image.height)
    letters = _label(max(9, min(right - left, bottom - top) // 54))
    margin = letters.height
    x, y = right - letters.width - 2 * margin, bottom - letters.height - 2 * margin
    if x - margin < left or y - margin // 2 < top:
        return
    plate = Image.new("L", ((letters.width + 2 * margin) * 2, letters.height * 4))
    ImageDraw.Draw(plate).rounded_rectangle((0, 0, plate.width - 1, plate.height - 1), plate.height // 2, fill=104)
    image.paste((12, 12, 18), (x - margin, y - margin // 2), plate.reduce(2))
    image.paste((255, 255, 255), (x, y), letters.point([level * 225 // 255 for level in range(256)]))


def encode_png(image: PaintedImage) -> bytes:
    """Return `image` as PNG, packed fast rather than small."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=3)
    return out.getvalue()
