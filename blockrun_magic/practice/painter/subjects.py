"""Subjects of a scene: creatures, boats, balloons and houses, at their places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from blockrun_magic.practice.painter.canvas import mix, tint
from blockrun_magic.practice.painter.sprites import CREATURES, creature, robot

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from blockrun_magic.practice.painter.canvas import RGB, Canvas, Point
    from blockrun_magic.practice.painter.scenes import Scene

    Drawer = Callable[[Canvas, Scene, random.Random, float], None]

__all__ = ["paint_subjects", "subject_sprite"]

_DIM = {"night": 0.55, "aurora": 0.5, "space": 0.72, "sunset": 0.8, "storm": 0.8}


def paint_subjects(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """Paint the subjects of the prompt, distant ones first."""
    rng = canvas.fork("subjects")
    for name in scene.subjects:
        if name in _PLACED:
            _PLACED[name](canvas, scene, rng, horizon)
    actors = [name for name in scene.subjects if name in CREATURES or name == "robot"]
    for number, name in enumerate(actors):
        side = int(min(canvas.width, canvas.height) * (0.5 if len(actors) == 1 else 0.4))
        sprite = subject_sprite(name, scene).resize((side, side), Image.Resampling.LANCZOS)
        across = (number + 1) / (len(actors) + 1) + rng.uniform(-0.05, 0.05)
        foot = canvas.height * 0.95
        x = canvas.width * across
        _shadow(canvas, (x, foot), side * 0.36)
        canvas.stamp(sprite, (x, foot - side * 0.48))


def subject_sprite(name: str, scene: Scene) -> Image.Image:
    """Return a creature or the robot in the light of the scene and the prompt's first color."""
    color = scene.colors[0] if scene.colors else None
    dim = _DIM.get(scene.time, 1.0)
    return robot(color, dim) if name == "robot" else creature(name, color, dim)


def _shadow(canvas: Canvas, foot: Point, half: float) -> None:
    wide, high = max(2, int(half * 2)), max(2, int(half * 0.42))
    spot = Image.radial_gradient("L").point([max(0, 150 - level) for level in range(256)]).resize((wide * 2, high * 2))
    canvas.image.paste((8, 8, 16), (int(foot[0]) - wide, int(foot[1]) - high), spot)


def _sprite(side: float, color: RGB) -> tuple[Image.Image, ImageDraw.ImageDraw, float]:
    """Return an empty sprite of twice the size, its pen, and a hundredth of its side in pixels."""
    pixels = max(8, int(side)) * 2
    sprite = Image.new("RGBA", (pixels, pixels), (*color, 0))
    return sprite, ImageDraw.Draw(sprite), pixels / 100


def _sailboat(canvas: Canvas, scene: Scene, rng: random.Random, horizon: float) -> None:
    side = 250 * canvas.unit
    sail = tint(scene.colors[0] if scene.colors else (250, 244, 232), _DIM.get(scene.time, 1.0))
    sprite, draw, step = _sprite(side, sail)
    hull = mix(scene.palette.near, (120, 52, 40), 0.4)
    draw.polygon([(x * step, y * step) for x, y in ((48, 4), (48, 74), (14, 74))], fill=(*sail, 255))
    draw.polygon([(x * step, y * step) for x, y in ((53, 12), (53, 74), (84, 74))], fill=(*tint(sail, 0.84), 255))
    draw.line((50.5 * step, 2 * step, 50.5 * step, 80 * step), fill=(*tint(hull, 0.7), 255), width=int(1.6 * step))
    draw.polygon([(x * step, y * step) for x, y in ((8, 79), (92, 79), (78, 93), (22, 93))], fill=(*hull, 255))
    x, y = canvas.width * rng.uniform(0.3, 0.7), canvas.height * (horizon + 0.14)
    boat = sprite.reduce(2)
    mirror = boat.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((boat.width, boat.height // 2))
    mirror.putalpha(mirror.getchannel("A").point([level * 70 // 255 for level in range(256)]))
    canvas.stamp(mirror, (x, y + side * 0.24))
    canvas.stamp(boat, (x, y - side * 0.43))


def _balloon(canvas: Canvas, scene: Scene, rng: random.Random, horizon: float) -> None:
    hues: tuple[RGB, ...] = scene.colors or ((226, 74, 66), (246, 190, 84), (64, 140, 190))
    for number in range(3):
        side = (300, 170, 110)[number] * canvas.unit
        first = tint(hues[number % len(hues)], _DIM.get(scene.time, 1.0))
        sprite, draw, step = _sprite(side, first)
        stripe = mix(first, (255, 250, 240), 0.62)
        for at, reach in enumerate((34, 25, 15, 5)):
            fill = first if at % 2 == 0 else stripe
            draw.ellipse(((50 - reach) * step, 2 * step, (50 + reach) * step, 70 * step), fill=(*fill, 255))
            low = [((50 - reach * 0.94) * step, 46 * step), ((50 + reach * 0.94) * step, 46 * step)]
            draw.polygon(
                [*low, ((50 + reach * 0.2) * step, 78 * step), ((50 - reach * 0.2) * step, 78 * step)],
                fill=(*fill, 255),
            )
        for x in (44, 56):
            draw.line(
                (x * step, 76 * step, (50 + (x - 50) * 0.7) * step, 88 * step),
                fill=(60, 44, 36, 255),
                width=max(1, int(step)),
            )
        draw.rounded_rectangle((44 * step, 87 * step, 56 * step, 97 * step), int(2 * step), fill=(112, 74, 46, 255))
        spot = (
            canvas.width * (0.28, 0.7, 0.52)[number] + rng.uniform(-40, 40) * canvas.unit,
            canvas.height * horizon,
        )
        canvas.stamp(sprite.reduce(2), (spot[0], spot[1] * (0.42, 0.3, 0.66)[number]))


def _kite(canvas: Canvas, scene: Scene, rng: random.Random, horizon: float) -> None:
    first = tint((scene.colors or ((214, 52, 48),))[0], _DIM.get(scene.time, 1.0))
    sprite, draw, step = _sprite(360 * canvas.unit, first)
    top, left, right, low = ((x * step, y * step) for x, y in ((62, 6), (34, 26), (90, 30), (52, 66)))
    middle = (60 * step, 28 * step)
    for corners, shade in (((top, left, middle), 1.1), ((top, right, middle), 0.94), ((left, low, middle), 0.84)):
        draw.polygon(corners, fill=(*tint(first, shade), 255))
    draw.polygon((right, low, middle), fill=(*tint(first, 0.72), 255))
    tail = [(52 * step - index * 3.4 * step, 66 * step + (index + (index % 2) * 3) * 3 * step) for index in range(10)]
    draw.line(tail, fill=(*tint(first, 0.6), 255), width=max(1, int(1.4 * step)), joint="curve")
    for x, y in tail[2::3]:
        draw.ellipse(
            (x - 3 * step, y - 2 * step, x + 3 * step, y + 2 * step), fill=(*mix(first, (255, 250, 240), 0.5), 255)
        )
    place = (canvas.width * rng.uniform(0.34, 0.66), canvas.height * horizon * 0.5)
    canvas.stamp(sprite.reduce(2), place)


def _lighthouse(canvas: Canvas, scene: Scene, rng: random.Random, horizon: float) -> None:
    x, foot = canvas.width * rng.choice((0.2, 0.8)), canvas.height * (horizon + 0.03)
    unit, dim = canvas.unit, _DIM.get(scene.time, 1.0)
    rock = Image.new("L", (int(420 * unit) * 2, int(120 * unit) * 2))
    ImageDraw.Draw(rock).ellipse((0, 0, rock.width, rock.height * 2), fill=255)
    canvas.image.paste(
        mix(scene.palette.near, scene.palette.haze, 0.12),
        (int(x - 210 * unit), int(foot - 70 * unit)),
        rock.reduce(2),
    )
    sprite, draw, step = _sprite(460 * unit, (240, 240, 236))
    hue = scene.colors[0] if scene.colors else (206, 62, 54)
    for band in range(5):
        top, wide = 24 + band * 14, 6.4 + band * 0.95
        fill = tint(hue if band % 2 else (246, 244, 238), dim)
        draw.polygon(
            [
                ((50 - wide) * step, top * step),
                ((50 + wide) * step, top * step),
                ((50.95 + wide) * step, (top + 14) * step),
                ((49.05 - wide) * step, (top + 14) * step),
            ],
            fill=(*fill, 255),
        )
    draw.rectangle((45 * step, 14 * step, 55 * step, 24 * step), fill=(*scene.palette.light, 255))
    draw.rectangle((42 * step, 22 * step, 58 * step, 24.5 * step), fill=(40, 36, 44, 255))
    draw.polygon(
        [(43 * step, 14 * step), (50 * step, 5 * step), (57 * step, 14 * step)],
        fill=(*tint(hue, dim * 0.8), 255),
    )
    canvas.stamp(sprite.reduce(2), (x, foot - 220 * unit))
    canvas.glow((x, foot - 362 * unit), 170 * unit, scene.palette.light, 0.9, 2.0)


def _house(canvas: Canvas, scene: Scene, rng: random.Random, horizon: float) -> None:
    side, dim = 330 * canvas.unit, _DIM.get(scene.time, 1.0)
    wall = tint(scene.colors[0] if scene.colors else (150, 96, 62), dim)
    sprite, draw, step = _sprite(side, wall)
    draw.rectangle((66 * step, 18 * step, 75 * step, 46 * step), fill=(*tint(wall, 0.6), 255))
    draw.rectangle((16 * step, 50 * step, 84 * step, 92 * step), fill=(*wall, 255))
    for line in range(5):
        draw.line(
            (16 * step, (56 + line * 8) * step, 84 * step, (56 + line * 8) * step),
            fill=(*tint(wall, 0.85), 255),
            width=max(1, int(step * 0.7)),
        )
    roof = (240, 246, 252) if "snow" in scene.features else tint((98, 48, 44), dim)
    draw.polygon([(8 * step, 52 * step), (50 * step, 20 * step), (92 * step, 52 * step)], fill=(*roof, 255))
    draw.rounded_rectangle((43 * step, 66 * step, 57 * step, 92 * step), int(2 * step), fill=(*tint(wall, 0.45), 255))
    for left in (23, 63):
        draw.rectangle(
            (left * step, 62 * step, (left + 14) * step, 76 * step),
            fill=(*mix(scene.palette.light, (255, 190, 90), 0.4), 255),
        )
        draw.line(
            ((left + 7) * step, 62 * step, (left + 7) * step, 76 * step),
            fill=(*tint(wall, 0.5), 255),
            width=int(step * 1.4),
        )
    spot = (canvas.width * rng.uniform(0.34, 0.66), canvas.height * (horizon + 0.2))
    canvas.stamp(sprite.reduce(2), (spot[0], spot[1] - side * 0.4))
    canvas.glow((spot[0], spot[1] - side * 0.2), side * 0.6, scene.palette.light, 0.3, 1.6)


def _castle(canvas: Canvas, scene: Scene, rng: random.Random, horizon: float) -> None:
    side = 520 * canvas.unit
    stone = mix(mix(scene.palette.haze, scene.palette.near, 0.55), (150, 140, 150), 0.25)
    sprite, draw, step = _sprite(side, stone)
    roof = scene.colors[0] if scene.colors else mix(scene.palette.near, (120, 60, 110), 0.5)
    for left, wide, top in ((12, 12, 52), (76, 12, 50), (28, 13, 36), (60, 13, 40), (42, 17, 22)):
        draw.rectangle(
            (left * step, top * step, (left + wide) * step, 96 * step),
            fill=(*tint(stone, 0.8 + top / 200), 255),
        )
        peak = [
            ((left - 2) * step, top * step),
            ((left + wide / 2) * step, (top - wide * 1.3) * step),
            ((left + wide + 2) * step, top * step),
        ]
        draw.polygon(peak, fill=(*roof, 255))
        for row in range(2):
            x, y = left + wide / 2, top + 6 + row * 12
            draw.rounded_rectangle(
                ((x - 1.3) * step, y * step, (x + 1.3) * step, (y + 5) * step),
                int(step),
                fill=(*scene.palette.light, 255),
            )
    draw.rectangle((14 * step, 66 * step, 86 * step, 96 * step), fill=(*tint(stone, 0.94), 255))
    for tooth in range(12):
        draw.rectangle(
            ((14 + tooth * 6.1) * step, 63 * step, (17.4 + tooth * 6.1) * step, 67 * step),
            fill=(*tint(stone, 0.94), 255),
        )
    draw.pieslice((44 * step, 74 * step, 57 * step, 114 * step), 180, 360, fill=(*tint(stone, 0.4), 255))
    canvas.stamp(
        sprite.reduce(2),
        (canvas.width * rng.uniform(0.38, 0.62), canvas.height * (horizon + 0.05) - side * 0.44),
    )


def _rocket(canvas: Canvas, scene: Scene, rng: random.Random, _horizon: float) -> None:
    side = 460 * canvas.unit
    hue = scene.colors[0] if scene.colors else (222, 70, 66)
    sprite, draw, step = _sprite(side, (236, 238, 242))
    for fill, wide, low in (((255, 130, 50), 7.0, 98), ((255, 214, 110), 4.0, 90)):
        draw.polygon(
            [((50 - wide) * step, 70 * step), ((50 + wide) * step, 70 * step), (50 * step, low * step)],
            fill=(*fill, 255),
        )
    for sign in (-1, 1):
        draw.polygon(
            [
                ((50 + sign * 9) * step, 52 * step),
                ((50 + sign * 20) * step, 74 * step),
                ((50 + sign * 7) * step, 68 * step),
            ],
            fill=(*tint(hue, 0.85), 255),
        )
    draw.ellipse((38 * step, 4 * step, 62 * step, 92 * step), fill=(236, 238, 242, 255))
    draw.rectangle((30 * step, 70 * step, 70 * step, 93 * step), fill=(0, 0, 0, 0))
    for fill, wide, low in (((255, 130, 50), 8.0, 97), ((255, 224, 130), 4.5, 88)):
        draw.polygon(
            [((50 - wide) * step, 70 * step), ((50 + wide) * step, 70 * step), (50 * step, low * step)],
            fill=(*fill, 255),
        )
    draw.chord((38 * step, 4 * step, 62 * step, 92 * step), 232, 308, fill=(*hue, 255))
    draw.ellipse((44.5 * step, 30 * step, 55.5 * step, 41 * step), fill=(60, 84, 110, 255))
    draw.ellipse((46 * step, 31.5 * step, 54 * step, 39.5 * step), fill=(150, 220, 250, 255))
    spot = (canvas.width * rng.uniform(0.4, 0.6), canvas.height * 0.42)
    turn = rng.choice((-24, 24))
    tail = (spot[0] + math.sin(math.radians(turn)) * side * 0.4, spot[1] + side * 0.4)
    canvas.glow(tail, side * 0.5, (255, 170, 90), 0.9, 1.8)
    canvas.stamp(sprite.reduce(2).rotate(turn, Image.Resampling.BICUBIC), spot)


def _birds(canvas: Canvas, scene: Scene, rng: random.Random, horizon: float) -> None:
    draw = ImageDraw.Draw(canvas.image)
    ink = scene.palette.near if not scene.palette.dark else scene.palette.haze
    middle = (canvas.width * rng.uniform(0.3, 0.7), canvas.height * horizon * 0.45)
    for _ in range(13):
        x, y = middle[0] + rng.gauss(0, 150) * canvas.unit, middle[1] + rng.gauss(0, 70) * canvas.unit
        wing, lift = rng.uniform(14, 34) * canvas.unit, rng.uniform(0.25, 0.6)
        for side in (-1, 1):
            tip, elbow = (x + side * wing, y - wing * lift), (x + side * wing * 0.45, y - wing * lift * 0.95)
            draw.line((x, y, *elbow, *tip), fill=ink, width=max(2, int(3.4 * canvas.unit)), joint="curve")


_PLACED: dict[str, Drawer] = {
    "castle": _castle,
    "lighthouse": _lighthouse,
    "house": _house,
    "sailboat": _sailboat,
    "balloon": _balloon,
    "kite": _kite,
    "rocket": _rocket,
    "birds": _birds,
}
