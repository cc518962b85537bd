"""Skies: gradient, stars, sun or moon, clouds, aurora, nebulae and planets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from blockrun_magic.practice.painter.canvas import gradient, mix, noise, tint

if TYPE_CHECKING:
    import random

    from blockrun_magic.practice.painter.canvas import RGB, Canvas, Point
    from blockrun_magic.practice.painter.scenes import Scene

__all__ = ["paint_sky", "paint_weather"]


def paint_sky(canvas: Canvas, scene: Scene, horizon: float) -> Point:
    """Paint the sky down to `horizon` (0 to 1) and return the position of its light."""
    rng = canvas.fork("sky")
    palette = scene.palette
    height = canvas.height if scene.time == "space" else max(2, int(canvas.height * min(1.0, horizon + 0.02)))
    canvas.image.paste(gradient((canvas.width, height), palette.sky), (0, 0))
    if scene.time == "space":
        _nebula(canvas, rng, scene)
    if palette.dark or "stars" in scene.features:
        _stars(canvas, rng, horizon)
    if scene.time == "aurora":
        _aurora(canvas, rng, horizon)
    light = _light(canvas, rng, scene, horizon)
    if scene.time == "space":
        _planet(canvas, rng, scene)
    elif scene.time != "aurora":
        _clouds(canvas, rng, scene, horizon)
    return light


def _light(canvas: Canvas, rng: random.Random, scene: Scene, horizon: float) -> Point:
    """Paint sun or moon with its glow and return its center."""
    low = scene.time in {"sunset", "dawn", "golden"}
    across = rng.choice((rng.uniform(0.24, 0.4), rng.uniform(0.6, 0.76)))
    down = horizon * (rng.uniform(0.72, 0.86) if low else rng.uniform(0.2, 0.36))
    center = (canvas.width * across, canvas.height * down)
    sun, unit = scene.palette.sun, canvas.unit
    if scene.time in {"space", "aurora", "storm"}:
        return center
    if scene.palette.dark:
        canvas.glow(center, 330 * unit, mix(scene.palette.haze, sun, 0.35), 0.75, 2.2)
        canvas.disc(center, 50 * unit, sun)
        for _ in range(5):
            spot = (center[0] + rng.uniform(-28, 28) * unit, center[1] + rng.uniform(-28, 28) * unit)
            canvas.disc(spot, rng.uniform(4, 10) * unit, tint(sun, 0.93))
        return center
    canvas.glow(center, 620 * unit, mix(scene.palette.light, scene.palette.haze, 0.4), 0.6, 1.6)
    canvas.glow(center, 250 * unit, scene.palette.light, 0.9, 2.0)
    canvas.disc(center, (72 if low else 46) * unit, sun)
    return center


def _stars(canvas: Canvas, rng: random.Random, horizon: float) -> None:
    draw = ImageDraw.Draw(canvas.image)
    limit = canvas.height * horizon
    for _ in range(420):
        x, y = rng.uniform(0, canvas.width), limit * rng.random() ** 1.25
        level = rng.uniform(0.25, 1.0) * (1 - 0.6 * y / limit)
        ground = canvas.image.getpixel((min(int(x), canvas.width - 1), min(int(y), canvas.height - 1)))
        base: RGB = (ground[0], ground[1], ground[2]) if isinstance(ground, tuple) else (0, 0, 0)
        color = mix(base, rng.choice(((255, 255, 255), (206, 222, 255), (255, 232, 206))), level)
        radius = rng.choice((0.0, 0.0, 0.0, 0.7, 1.1)) * canvas.unit
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    for _ in range(9):
        spot = (rng.uniform(0, canvas.width), limit * rng.uniform(0, 0.7))
        canvas.glow(spot, rng.uniform(7, 14) * canvas.unit, (200, 220, 255), 0.9, 1.8)


def _clouds(canvas: Canvas, rng: random.Random, scene: Scene, horizon: float) -> None:
    heavy = scene.time == "storm" or "clouds" in scene.features
    floor = 108 if heavy else 138
    field = noise(rng, (3, 7), 5)
    ramp = [max(0, min(1, (level - floor) / 58)) for level in range(256)]
    mask = field.point([round(255 * value * value * (3 - 2 * value)) for value in ramp])
    size = (canvas.width, int(canvas.height * horizon))
    fade = Image.linear_gradient("L").resize(mask.size).point(lambda level: 235 - level // 2)
    mask = ImageChops.multiply(mask, fade).resize(size, Image.Resampling.BICUBIC)
    strength = 0.34 if scene.palette.dark else 0.78
    mask = mask.point([round(level * strength) for level in range(256)])
    palette = scene.palette
    top = mix(palette.sky[1], palette.sun, 0.45 if not palette.dark else 0.1)
    bottom = mix(palette.haze, palette.light, 0.5)
    if scene.time == "storm":
        top, bottom = (52, 58, 70), (150, 158, 166)
    canvas.fill(gradient(size, (top, mix(top, bottom, 0.6), bottom)), mask)


def _aurora(canvas: Canvas, rng: random.Random, horizon: float) -> None:
    """Paint curtains of light, drawn small and enlarged, because they are soft."""
    wide, high = 160, 100
    layers = ((86, 255, 170), (60, 220, 190), (150, 96, 240))
    size = (canvas.width, int(canvas.height * horizon))
    total = Image.new("RGB", (wide, high))
    for number, color in enumerate(layers):
        phase, speed = rng.uniform(0, 6.3), rng.uniform(0.022, 0.045)
        curtain = Image.new("L", (wide, high))
        draw = ImageDraw.Draw(curtain)
        for x in range(wide):
            wave = math.sin(x * speed + phase) + 0.5 * math.sin(x * speed * 2.7 + phase * 2)
            foot = high * (0.66 - 0.09 * number) + wave * high * 0.13
            flicker = 0.55 + 0.45 * math.sin(x * 0.41 + phase * 3 + 2 * math.sin(x * 0.13))
            length = high * (0.34 + 0.2 * flicker)
            for y in range(max(0, int(foot - length)), max(0, min(high, int(foot)))):
                rise = (foot - y) / length
                draw.point((x, y), fill=int(235 * flicker * max(0.0, 1 - rise) ** 1.3 * min(1, rise * 9)))
        soft = curtain.filter(ImageFilter.GaussianBlur(1.1))
        lit = Image.merge("RGB", [soft.point([v * part // 255 for v in range(256)]) for part in color])
        total = ImageChops.screen(total, lit)
    bloom = total.filter(ImageFilter.GaussianBlur(7))
    total = ImageChops.screen(total, bloom)
    canvas.screen(total.resize(size, Image.Resampling.BICUBIC))


def _nebula(canvas: Canvas, rng: random.Random, scene: Scene) -> None:
    pairs = (
        ((190, 60, 150), (50, 90, 210)),
        ((230, 120, 70), (70, 70, 200)),
        ((60, 180, 190), (150, 60, 190)),
    )
    colors = scene.colors[:2] if len(scene.colors) > 1 else rng.choice(pairs)
    band = Image.linear_gradient("L").resize((288, 288)).rotate(rng.uniform(20, 60), Image.Resampling.BILINEAR)
    band = band.crop((48, 48, 240, 240)).point(
        [round(255 * math.exp(-(((level - 128) / 62) ** 2))) for level in range(256)]
    )
    for color in colors:
        cloud = noise(rng, (4, 4), 6).point([max(0, min(255, (level - 92) * 3)) for level in range(256)])
        cloud = ImageChops.multiply(cloud, band).resize(canvas.size, Image.Resampling.BICUBIC)
        canvas.screen(Image.merge("RGB", [cloud.point([v * part // 255 for v in range(256)]) for part in color]))


def _planet(canvas: Canvas, rng: random.Random, scene: Scene) -> None:
    """Paint a shaded planet, sometimes with rings."""
    radius = int(canvas.unit * rng.uniform(150, 230))
    side = radius * 2
    surface = gradient((side, side), _bands(rng, scene)).rotate(rng.uniform(-25, 25), Image.Resampling.BILINEAR)
    shade = Image.radial_gradient("L").resize((side * 2, side * 2))
    shade = shade.crop((side * 3 // 4, side * 3 // 4, side * 7 // 4, side * 7 // 4))
    shade = shade.point([max(10, 255 - round(level * 1.75)) for level in range(256)])
    ball = ImageChops.multiply(surface, Image.merge("RGB", (shade, shade, shade)))
    disc = Image.new("L", (side * 2, side * 2))
    ImageDraw.Draw(disc).ellipse((2, 2, side * 2 - 2, side * 2 - 2), fill=255)
    center = (canvas.width * rng.uniform(0.3, 0.7), canvas.height * rng.uniform(0.34, 0.6))
    canvas.glow(center, radius * 1.5, mix(scene.palette.haze, (120, 150, 255), 0.5), 0.7, 1.4)
    place = (int(center[0]) - radius, int(center[1]) - radius)
    canvas.image.paste(ball, place, disc.reduce(2))
    if "saturn" in scene.words or rng.random() < 0.6:
        _rings(canvas, center, radius, rng)


def _bands(rng: random.Random, scene: Scene) -> tuple[RGB, ...]:
    base = scene.colors[0] if scene.colors else rng.choice(((226, 160, 104), (112, 170, 220), (206, 110, 90)))
    return tuple(mix(tint(base, rng.uniform(0.75, 1.15)), (255, 240, 220), rng.uniform(0, 0.35)) for _ in range(9))


def _rings(canvas: Canvas, center: Point, radius: int, rng: random.Random) -> None:
    wide = int(radius * 4.6)
    ring = Image.new("L", (wide * 2, wide * 2))
    draw = ImageDraw.Draw(ring)
    for step in range(14):
        reach = wide * (0.96 - step * 0.022)
        box = (wide - reach, wide - reach * 0.2, wide + reach, wide + reach * 0.2)
        draw.ellipse(box, outline=rng.randint(70, 210), width=max(2, int(wide * 0.016)))
    # The far half passes behind the planet.
    draw.pieslice((wide - radius * 2, wide - radius * 2, wide + radius * 2, wide + radius * 2), 180, 360, fill=0)
    ring = ring.reduce(2).rotate(16, Image.Resampling.BILINEAR)
    canvas.image.paste((238, 222, 196), (int(center[0] - wide / 2), int(center[1] - wide / 2)), ring)


def paint_weather(canvas: Canvas, scene: Scene) -> None:
    """Paint rain or snow over everything else."""
    rng = canvas.fork("weather")
    draw = ImageDraw.Draw(canvas.image)
    unit = canvas.unit
    if "snow" in scene.features:
        for _ in range(260):
            x, y, radius = (
                rng.uniform(0, canvas.width),
                rng.uniform(0, canvas.height),
                rng.uniform(0.8, 3.2) * unit,
            )
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(246, 250, 255))
    if "rain" in scene.features:
        veil = Image.new("L", canvas.size)
        lines = ImageDraw.Draw(veil)
        for _ in range(520):
            x, y, length = (
                rng.uniform(0, canvas.width * 1.1),
                rng.uniform(-40, canvas.height),
                rng.uniform(20, 60),
            )
            end = (x - length * 0.22 * unit, y + length * unit)
            lines.line((x, y, *end), fill=rng.randint(30, 95), width=1)
        canvas.image.paste((214, 226, 238), (0, 0), veil)
