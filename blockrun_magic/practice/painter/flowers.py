"""Fields of flowers: blossoms, stems and grass, larger toward the viewer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from blockrun_magic.practice.painter.canvas import mix, tint

if TYPE_CHECKING:
    import random

    from blockrun_magic.practice.painter.canvas import RGB, Canvas
    from blockrun_magic.practice.painter.scenes import Scene

__all__ = ["paint_flowers"]


def _blossom(color: RGB, heart: RGB, petals: int) -> Image.Image:
    """Return one flower as a sprite."""
    side = 256
    sprite = Image.new("RGBA", (side, side), (*color, 0))
    draw = ImageDraw.Draw(sprite)
    for ring, (reach, tone) in enumerate(((0.36, 0.84), (0.3, 1.0), (0.2, 1.14))):
        for petal in range(petals):
            angle = 2 * math.pi * (petal + ring / 2) / petals
            x, y = (
                side / 2 + math.cos(angle) * side * reach * 0.72,
                side / 2 + math.sin(angle) * side * reach * 0.72,
            )
            size = side * reach * 0.44
            draw.ellipse((x - size, y - size, x + size, y + size), fill=(*tint(color, tone), 255))
    core = side * 0.09
    draw.ellipse((side / 2 - core, side / 2 - core, side / 2 + core, side / 2 + core), fill=(*heart, 255))
    return sprite


def paint_flowers(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """Paint a field of flowers, small at the horizon and large in front."""
    rng = canvas.fork("flowers")
    usual: tuple[RGB, ...] = (
        (232, 76, 92),
        (250, 186, 72),
        (240, 128, 176),
        (250, 244, 236),
        (140, 110, 214),
    )
    if scene.words & {"lavender"}:
        usual = ((150, 120, 210), (178, 150, 230))
    elif scene.words & {"sunflower", "sunflowers"}:
        usual = ((250, 196, 44), (244, 172, 30))
    elif scene.words & {"rose", "roses", "poppy", "poppies", "tulip", "tulips"}:
        usual = ((214, 44, 60), (232, 84, 92), (240, 128, 150))
    dim = 0.55 if scene.palette.dark else 0.9 if scene.time == "sunset" else 1.0
    hues = scene.colors or usual
    sprites = [_blossom(tint(hue, dim), tint((92, 58, 32), dim + 0.2), rng.choice((6, 8, 9))) for hue in hues]
    stem = mix(tint((46, 110, 60), dim), scene.palette.near, 0.25)
    _grass(canvas, rng, horizon, stem)
    draw = ImageDraw.Draw(canvas.image)
    for place in sorted(rng.random() for _ in range(300)):
        share = place**2.1
        foot = canvas.height * (horizon + 0.015 + (1.1 - horizon) * share)
        side = max(3, int(canvas.unit * (7 + 120 * share) * rng.uniform(0.75, 1.2)))
        x = rng.uniform(-0.03, 1.03) * canvas.width
        y = foot - side * rng.uniform(0.5, 0.9)
        draw.line((x, y, x + rng.uniform(-0.2, 0.2) * side, foot + side * 0.5), fill=stem, width=max(1, side // 22))
        flower = rng.choice(sprites).resize((side, int(side * rng.uniform(0.72, 0.95))), Image.Resampling.BOX)
        canvas.stamp(flower, (x, y))


def _grass(canvas: Canvas, rng: random.Random, horizon: float, color: RGB) -> None:
    """Draw blades of grass, longer toward the viewer."""
    draw = ImageDraw.Draw(canvas.image)
    shades = [tint(color, tone) for tone in (0.7, 0.9, 1.15, 1.4)]
    for place in sorted(rng.random() for _ in range(1100)):
        share = place**1.5
        foot = canvas.height * (horizon + 0.01 + (1.06 - horizon) * share)
        x, tall = rng.uniform(0, canvas.width), (8 + 64 * share) * canvas.unit * rng.uniform(0.6, 1.3)
        tip = (x + rng.uniform(-0.35, 0.35) * tall, foot - tall)
        draw.line((x, foot, *tip), fill=rng.choice(shades), width=1 + int(share * 3 * canvas.unit))
