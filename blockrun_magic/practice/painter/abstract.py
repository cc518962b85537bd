"""Abstract images for prompts that the painter does not know: flowing bands of color."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageFilter

from blockrun_magic.practice.painter.canvas import gradient, mix, shape, tint

if TYPE_CHECKING:
    from blockrun_magic.practice.painter.canvas import RGB, Canvas, Point
    from blockrun_magic.practice.painter.scenes import Scene

__all__ = ["paint_abstract"]

_RAMPS: tuple[tuple[RGB, ...], ...] = (
    ((20, 24, 82), (86, 52, 158), (214, 78, 142), (252, 146, 98), (255, 218, 150)),
    ((6, 44, 70), (10, 102, 122), (52, 174, 154), (166, 222, 166), (246, 242, 190)),
    ((32, 18, 60), (92, 30, 110), (190, 46, 96), (240, 110, 66), (252, 196, 96)),
    ((16, 36, 96), (40, 92, 190), (90, 164, 232), (178, 216, 246), (252, 240, 232)),
    ((44, 30, 58), (120, 62, 92), (206, 116, 104), (240, 178, 134), (252, 228, 196)),
    ((10, 40, 46), (24, 88, 84), (222, 132, 76), (244, 184, 108), (252, 228, 184)),
)
_BANDS = 8


def paint_abstract(canvas: Canvas, scene: Scene) -> None:
    """Paint flowing bands in the prompt's colors, or in a ramp chosen by the prompt's random generator."""
    rng = canvas.fork("abstract")
    ramp = _RAMPS[rng.randrange(len(_RAMPS))]
    if scene.colors:
        ramp = tuple(mix(stop, scene.colors[at % len(scene.colors)], 0.5) for at, stop in enumerate(ramp))
    if rng.random() < 0.5:
        ramp = tuple(reversed(ramp))
    canvas.image.paste(gradient(canvas.size, (ramp[0], mix(ramp[0], ramp[1], 0.6))))
    glow = (canvas.width * rng.uniform(0.2, 0.8), canvas.height * rng.uniform(0.08, 0.3))
    canvas.glow(glow, 460 * canvas.unit, max(ramp, key=sum), 0.4, 1.7)
    if rng.random() < 0.6:
        canvas.disc(glow, 84 * canvas.unit, mix(max(ramp, key=sum), (255, 255, 255), 0.35))
    tilt, phase, speed = rng.uniform(-0.22, 0.22), rng.uniform(0, 6.3), rng.uniform(2.2, 4.2)
    for band in range(_BANDS):
        at = (band + 1) / _BANDS * (len(ramp) - 1)
        low = min(int(at), len(ramp) - 2)
        color = mix(ramp[low], ramp[low + 1], at - low)
        phase += rng.uniform(0.35, 0.95)
        level = 0.2 + 0.82 * band / _BANDS
        line: list[Point] = []
        for step in range(81):
            x = step / 80
            wave = math.sin(x * speed + phase) + 0.42 * math.sin(x * speed * 2.1 + phase * 1.7)
            line.append((x * canvas.width, canvas.height * (level + tilt * (x - 0.5) + 0.075 * wave)))
        _band(canvas, line, color)


def _band(canvas: Canvas, line: list[Point], color: RGB) -> None:
    """Paint one band, with its soft shadow on the bands behind it."""
    size = canvas.size
    top = max(0, min(size[1] - 2, int(min(y for _, y in line)) - int(40 * canvas.unit)))
    height = size[1] - top
    outline = [(0.0, float(height)), *[(x, y - top) for x, y in line], (float(size[0]), float(height))]
    mask = shape((size[0], height), outline)
    shadow = mask.reduce(8).filter(ImageFilter.GaussianBlur(3.4)).resize(mask.size, Image.Resampling.BILINEAR)
    shadow = ImageChops.subtract(shadow, mask).point([level * 96 // 255 for level in range(256)])
    canvas.fill(tint(color, 0.25), shadow, top)
    canvas.fill(gradient(mask.size, (mix(color, (255, 255, 255), 0.2), color, tint(color, 0.8))), mask, top)
