"""Land and water: mountains in haze, forests, hills, dunes, and lakes that mirror them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw

from blockrun_magic.practice.painter.canvas import gradient, mix, noise, ridge, shape, tint

if TYPE_CHECKING:
    import random

    from blockrun_magic.practice.painter.canvas import RGB, Canvas, Point
    from blockrun_magic.practice.painter.scenes import Scene

__all__ = ["paint_forest", "paint_ground", "paint_mountains", "paint_water"]


def paint_mountains(canvas: Canvas, scene: Scene, horizon: float, layers: int = 3) -> None:
    """Paint mountain ranges, hazier with distance, their feet in mist at `horizon`."""
    rng = canvas.fork("mountains")
    base = int(canvas.height * horizon) + 2
    palette = scene.palette
    snowy = "snow" in scene.features or rng.random() < 0.45
    for layer in range(layers):
        depth = (layer + 1) / layers
        reach = canvas.height * horizon * (0.78 - 0.5 * depth)
        heights = ridge(rng, 7, 0.52)
        step = canvas.width / (len(heights) - 1)
        line = [(at * step, base - reach * (0.16 + 0.84 * high)) for at, high in enumerate(heights)]
        top = max(0, int(min(y for _, y in line)) - 2)
        rock = mix(palette.haze, mix(palette.near, palette.sky[0], 0.25), 0.28 + 0.5 * depth)
        foot = mix(rock, palette.haze, 0.72)
        crown = mix(rock, (250, 252, 255), 0.72 if not palette.dark else 0.42) if snowy and layer < layers - 1 else rock
        _range(canvas, line, top, base, (crown, rock, mix(rock, foot, 0.5), foot), 0.62 - 0.2 * depth)


def _range(canvas: Canvas, line: list[Point], top: int, base: int, colors: tuple[RGB, ...], shadow: float) -> None:
    """Paint one range: a gradient, and the sides in shadow."""
    size = (canvas.width, max(2, base - top))
    outline = [(x, y - top) for x, y in line]
    mask = shape(size, [(0, size[1]), *outline, (size[0], size[1])])
    canvas.fill(gradient(size, colors), mask, top)
    dark = shape(size, *_shaded_sides(outline, size[1], canvas))
    dark = ImageChops.multiply(dark, mask).point([round(level * shadow) for level in range(256)])
    fade = Image.linear_gradient("L").resize(size).point([255 - level for level in range(256)])
    canvas.fill(tint(colors[1], 0.45), ImageChops.multiply(dark, fade), top)


def _shaded_sides(line: list[Point], base: int, canvas: Canvas) -> list[list[Point]]:
    """Return a polygon for the shadow side of each larger peak."""
    rng = canvas.fork("shade")
    sides: list[list[Point]] = []
    reach = 5
    for at in range(reach, len(line) - reach):
        x, y = line[at]
        if y > min(high for _, high in line[at - reach : at + reach + 1]):
            continue
        end = min(at + 16, len(line) - 1)
        valley = max(range(at, end + 1), key=lambda step: line[step][1])
        if valley == at:
            continue
        away, drop = line[valley][0] - x, (base - y) * rng.uniform(0.5, 0.85)
        spine: list[Point] = []
        for step in range(1, 10):
            jag = (step % 2 * 2 - 1) * rng.uniform(0.01, 0.09) * away
            spine.append((x + away * 0.32 * step / 9 + jag, y + drop * step / 9))
        sides.append([*line[at : valley + 1], *reversed(spine)])
    return sides


def _conifer(rng: random.Random, x: float, foot: float, tall: float) -> list[Point]:
    """Return the outline of one conifer."""
    tiers = 6
    left: list[Point] = []
    right: list[Point] = []
    for tier in range(1, tiers + 1):
        y = foot - tall * (1 - tier / tiers) - tall * 0.02
        wide = tall * 0.23 * (tier / tiers) ** 0.85 * rng.uniform(0.82, 1.15)
        left += [(x - wide, y), (x - wide * 0.52, y - tall * 0.025)]
        right += [(x + wide * rng.uniform(0.85, 1.1), y), (x + wide * 0.52, y - tall * 0.025)]
    trunk = tall * 0.025
    return [(x, foot - tall), *right, (x + trunk, foot), (x - trunk, foot), *reversed(left)]


def paint_forest(canvas: Canvas, scene: Scene, horizon: float, front: bool) -> None:
    """Paint rows of conifers at the horizon, and large ones at both sides when `front`."""
    rng = canvas.fork("forest")
    palette = scene.palette
    rows = ((0.0, 0.08, 64), (0.05, 0.13, 44), (0.13, 0.2, 28)) if front else ((0.004, 0.05, 80),)
    green = mix(palette.near, (22, 92, 64), 0.12 if palette.dark else 0.5)
    for number, (lower, share, count) in enumerate(rows):
        foot = canvas.height * (horizon + lower)
        tall = canvas.height * share
        top = int(foot - tall * 1.6)
        size = (canvas.width, int(tall * 1.6) + int(canvas.height * 0.012) + 3)
        trees = []
        for tree in range(count):
            x = (tree + rng.uniform(-0.4, 0.4)) * canvas.width / (count - 1)
            trees.append(_conifer(rng, x, foot - top + 2, tall * rng.uniform(0.6, 1.45)))
        ground = [
            (0.0, foot - top - 1),
            (float(size[0]), foot - top - 1),
            (float(size[0]), size[1]),
            (0.0, size[1]),
        ]
        color = mix(mix(palette.haze, green, 0.55), green, number / max(1, len(rows) - 1))
        _plant(canvas, shape(size, ground, *trees), color, scene, top)
    if front:
        _frame(canvas, scene, rng, tint(green, 0.62))


def _plant(canvas: Canvas, mask: Image.Image, color: RGB, scene: Scene, top: int) -> None:
    tips = mix(color, (244, 249, 255), 0.62) if "snow" in scene.features else mix(color, scene.palette.haze, 0.2)
    canvas.fill(gradient(mask.size, (tips, color, tint(color, 0.85))), mask, top)


def _frame(canvas: Canvas, scene: Scene, rng: random.Random, color: RGB) -> None:
    """Paint tall trees in front, at both sides."""
    trees = []
    for _ in range(9):
        side = rng.choice((0, 1))
        x = canvas.width * abs(side - rng.betavariate(1.1, 3.2) * 0.42)
        trees.append(_conifer(rng, x, canvas.height * 1.02, canvas.height * rng.uniform(0.3, 0.62)))
    _plant(canvas, shape(canvas.size, *trees), color, scene, 0)


def paint_ground(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """Paint rolling land from the horizon to the lower edge: meadows, dunes or snow."""
    rng = canvas.fork("ground")
    palette = scene.palette
    near, far = _soil(scene)
    layers = 5
    for layer in range(layers):
        depth = layer / (layers - 1)
        sweep = canvas.height * (0.014 + 0.05 * depth)
        level = canvas.height * (horizon + (1.0 - horizon) * 0.92 * depth**1.35) - sweep * 1.4
        phase, speed = rng.uniform(0, 6.3), rng.uniform(2.4, 5.5)
        line = []
        for step in range(65):
            wave = math.sin(step / 64 * speed + phase) + 0.35 * math.sin(step / 64 * speed * 2.3 + phase * 2)
            line.append((step / 64 * canvas.width, level - sweep * wave))
        top = max(0, int(min(y for _, y in line)) - 2)
        size = (canvas.width, canvas.height - top)
        mask = shape(size, [(0, size[1]), *[(x, y - top) for x, y in line], (size[0], size[1])])
        color = mix(far, near, depth)
        lit = mix(color, palette.light, 0.34 if not palette.dark else 0.1)
        canvas.fill(gradient(size, (lit, color, tint(color, 0.62))), mask, top)
        if "desert" in scene.features:
            _dune_shadow(canvas, rng, mask, line, top, tint(mix(color, palette.sky[0], 0.2), 0.72))


def _dune_shadow(
    canvas: Canvas, rng: random.Random, mask: Image.Image, line: list[Point], top: int, color: RGB
) -> None:
    """Shade the far side of a dune, behind its winding crest."""
    at = rng.randrange(8, 40)
    crest = line[at]
    below = mask.height - (crest[1] - top)
    spine = []
    for step in range(21):
        share = step / 20
        bend = math.sin(share * math.pi * 1.4) * 0.09 * canvas.width
        spine.append((crest[0] + bend + share * 0.24 * canvas.width, crest[1] - top + below * share * 0.8))
    side = shape(mask.size, [*[(x, y - top) for x, y in line[at:]], (float(mask.width), below * 0.9), *reversed(spine)])
    fade = Image.linear_gradient("L").resize(mask.size).point([205 - level * 205 // 255 for level in range(256)])
    canvas.fill(color, ImageChops.multiply(ImageChops.multiply(side, mask), fade), top)


def _soil(scene: Scene) -> tuple[RGB, RGB]:
    """Return the colors of the ground, near and far."""
    palette = scene.palette
    if "snow" in scene.features:
        near: RGB = (214, 226, 242)
    elif "desert" in scene.features:
        near = (196, 92, 52) if "mars" in scene.words else (214, 150, 88)
    elif scene.time == "golden":
        near = (150, 116, 54)
    else:
        near = (70, 132, 74)
    dim = {"night": 0.22, "aurora": 0.24, "space": 0.3, "sunset": 0.5, "storm": 0.62}.get(scene.time, 0.95)
    near = mix(tint(near, dim), palette.near, 0.15)
    return near, mix(near, palette.haze, 0.62)


def paint_water(canvas: Canvas, scene: Scene, horizon: float, light: Point) -> None:
    """Paint water below the horizon: a reflection, broken by waves."""
    rng = canvas.fork("water")
    top = int(canvas.height * horizon)
    size = (canvas.width, canvas.height - top)
    above = canvas.image.crop((0, max(0, top - size[1]), canvas.width, top))
    mirror = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    smeared = mirror.resize((size[0] // 2, max(2, size[1] // 12)), Image.Resampling.BOX)
    mirror = Image.blend(mirror.resize(size), smeared.resize(size, Image.Resampling.BICUBIC), 0.74)
    mirror = _rippled(mirror, rng, canvas.unit)
    deep = mix(scene.palette.sky[0], scene.palette.near, 0.35)
    depth = Image.linear_gradient("L").resize(size).point([48 + level // 2 for level in range(256)])
    mirror.paste(deep, (0, 0), depth)
    canvas.image.paste(mirror, (0, top))
    _swell(canvas, scene, rng, top)
    _glints(canvas, scene, rng, light, top)


def _rippled(mirror: Image.Image, rng: random.Random, unit: float) -> Image.Image:
    """Shift the reflection sideways in strips that widen toward the viewer."""
    rippled = mirror.copy()
    y, phase = 0.0, rng.uniform(0, 6.3)
    while y < mirror.height:
        thick = 2 + y / mirror.height * 9 * unit
        share = y / mirror.height
        shift = (2 + 16 * share) * unit * math.sin(phase + y * 0.9 / (1 + 3 * share)) * rng.uniform(0.4, 1.0)
        strip = mirror.crop((0, int(y), mirror.width, min(mirror.height, int(y + thick) + 1)))
        rippled.paste(strip, (int(shift), int(y)))
        y += thick
    return rippled


def _swell(canvas: Canvas, scene: Scene, rng: random.Random, top: int) -> None:
    """Paint bands of lighter water, as wind makes them."""
    size = (canvas.width, canvas.height - top)
    field = noise(rng, (3, 26), 3).point([max(0, min(255, (level - 118) * 3)) for level in range(256)])
    mask = field.resize(size, Image.Resampling.BICUBIC).point([level * 52 // 255 for level in range(256)])
    canvas.fill(mix(scene.palette.haze, scene.palette.sky[-1], 0.5), mask, top)


def _glints(canvas: Canvas, scene: Scene, rng: random.Random, light: Point, top: int) -> None:
    """Draw the path of light on the water, under sun or moon."""
    if scene.time in {"storm", "space"}:
        return
    mask = Image.new("L", (canvas.width, canvas.height - top))
    draw = ImageDraw.Draw(mask)
    for _ in range(230):
        share = rng.random() ** 1.5
        y = share * mask.height
        spread = (26 + 150 * share) * canvas.unit
        x = light[0] + rng.gauss(0, 0.55) * spread
        half = rng.uniform(5, 16 + 44 * share) * canvas.unit
        thick = max(1.0, (0.6 + 2.2 * share) * canvas.unit)
        level = int(rng.uniform(70, 220) * (1 - 0.55 * share))
        draw.ellipse((x - half, y - thick / 2, x + half, y + thick / 2), fill=level)
    canvas.fill(mix(scene.palette.light, scene.palette.sun, 0.5), mask, top)
