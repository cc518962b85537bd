"""Cities: skylines in depth, with lit windows, spires and the glow between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter

from blockrun_magic.practice.painter.canvas import gradient, mix, tint

if TYPE_CHECKING:
    import random

    from blockrun_magic.practice.painter.canvas import RGB, Canvas
    from blockrun_magic.practice.painter.scenes import Scene

__all__ = ["paint_city"]

_LAYERS = 3


def paint_city(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """Paint a skyline on `horizon` (0 to 1), hazier with distance."""
    rng = canvas.fork("city")
    palette = scene.palette
    base = int(canvas.height * horizon) + 2
    future = bool(scene.words & {"futuristic", "future", "cyberpunk", "neon", "scifi", "metropolis"})
    for layer in range(_LAYERS):
        depth = (layer + 1) / _LAYERS
        tall = canvas.height * horizon * (0.74 - 0.2 * depth)
        mask = Image.new("L", (canvas.width * 2, base * 2))
        lights = Image.new("L", (canvas.width, base))
        blocks = _row(rng, canvas, tall, depth, future)
        for block in blocks:
            _building(rng, ImageDraw.Draw(mask), block, base, future)
        wall = mix(palette.haze, mix(palette.near, palette.sky[0], 0.4), 0.3 + 0.62 * depth)
        foot = mix(wall, palette.haze, 0.55 - 0.35 * depth)
        canvas.fill(gradient((canvas.width, base), (wall, wall, wall, mix(wall, foot, 0.4), foot)), mask.reduce(2))
        if layer > 0:
            for block in blocks:
                _windows(
                    rng,
                    ImageDraw.Draw(lights),
                    block,
                    base,
                    canvas.unit,
                    palette.dark or scene.time == "sunset",
                )
            _shine(canvas, lights, _lamp(scene, future), palette.dark)


def _lamp(scene: Scene, future: bool) -> RGB:
    return mix(scene.palette.light, (110, 236, 255), 0.55) if future and scene.palette.dark else scene.palette.light


def _row(
    rng: random.Random, canvas: Canvas, tall: float, depth: float, future: bool
) -> list[tuple[float, float, float]]:
    """Return buildings as (left, width, height) in pixels, tallest around one or two centers."""
    blocks = []
    centers = (rng.uniform(0.2, 0.45), rng.uniform(0.55, 0.85))
    x = -20.0 * canvas.unit
    while x < canvas.width:
        wide = rng.uniform(26, 62) * canvas.unit * (0.75 + 0.5 * depth)
        away = min(abs((x + wide / 2) / canvas.width - center) for center in centers)
        crest = max(0.0, 1 - away * 3.4) ** 1.4
        high = tall * (0.2 + 0.24 * rng.random() + (0.75 if future else 0.55) * crest * rng.uniform(0.55, 1.0))
        blocks.append((x, wide, high))
        x += wide * rng.uniform(0.82, 1.25)
    return blocks


def _building(
    rng: random.Random, draw: ImageDraw.ImageDraw, block: tuple[float, float, float], base: int, future: bool
) -> None:
    """Draw one building on a mask of twice the size."""
    left, wide, high = (value * 2 for value in block)
    foot, right = base * 2, left + wide
    roof = foot - high
    middle = left + wide / 2
    kind = rng.choice(
        ("flat", "flat", "step", "spire", "slant", "taper", "dome")
        if future
        else ("flat", "flat", "step", "spire", "slant")
    )
    if kind == "taper":
        slim = wide * 0.22
        draw.polygon([(left, foot), (left + slim, roof), (right - slim, roof), (right, foot)], fill=255)
        draw.line((middle, roof, middle, roof - high * 0.22), fill=255, width=max(2, int(wide * 0.05)))
        return
    draw.rectangle((left, roof, right, foot), fill=255)
    if kind == "step":
        for share in (0.16, 0.32):
            draw.rectangle((left + wide * share, roof - wide * share * 1.1, right - wide * share, roof), fill=255)
    elif kind == "spire":
        draw.polygon([(left + wide * 0.2, roof), (middle, roof - wide * 0.8), (right - wide * 0.2, roof)], fill=255)
        draw.line((middle, roof, middle, roof - wide * 1.7), fill=255, width=max(2, int(wide * 0.05)))
    elif kind == "slant":
        draw.polygon([(left, roof), (left, roof - wide * rng.uniform(0.3, 0.7)), (right, roof)], fill=255)
    elif kind == "dome":
        draw.ellipse((left, roof - wide / 2, right, roof + wide / 2), fill=255)
    elif high > wide * 5:
        draw.line((middle, roof, middle, roof - wide * 0.9), fill=255, width=max(2, int(wide * 0.05)))


def _windows(
    rng: random.Random,
    draw: ImageDraw.ImageDraw,
    block: tuple[float, float, float],
    base: int,
    unit: float,
    lit: bool,
) -> None:
    """Light some of the windows of one building."""
    left, wide, high = block
    across, down = 8.5 * unit, 11.0 * unit
    columns, rows = int((wide - 6 * unit) / across), int((high - 10 * unit) / down)
    share = rng.uniform(0.25, 0.62) if lit else rng.uniform(0.06, 0.2)
    start = left + (wide - columns * across) / 2
    for row in range(rows):
        whole = rng.random() < 0.06
        for column in range(columns):
            if whole or rng.random() < share:
                x, y = start + column * across + 1.5 * unit, base - high + 8 * unit + row * down
                level = rng.choice((110, 170, 230, 255)) if lit else rng.choice((50, 90, 120))
                draw.rectangle((x, y, x + across * 0.52, y + down * 0.5), fill=level)


def _shine(canvas: Canvas, lights: Image.Image, color: RGB, dark: bool) -> None:
    """Add the light of the windows and its glow."""
    canvas.fill(color, lights)
    if not dark:
        return
    small = lights.reduce(4).filter(ImageFilter.GaussianBlur(3.2)).resize(lights.size, Image.Resampling.BILINEAR)
    warm = tint(color, 0.85)
    canvas.screen(Image.merge("RGB", [small.point([v * part // 255 for v in range(256)]) for part in warm]))
