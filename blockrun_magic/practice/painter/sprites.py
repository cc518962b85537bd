"""Sprites of creatures and of a robot, each on a square of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from blockrun_magic.practice.painter.canvas import mix, tint

if TYPE_CHECKING:
    from blockrun_magic.practice.painter.canvas import RGB

__all__ = ["CREATURES", "creature", "robot"]

_SIDE = 640


@dataclass(frozen=True, slots=True)
class _Animal:
    fur: RGB
    ears: str
    tail: bool
    muzzle: bool
    eye: RGB


CREATURES: dict[str, _Animal] = {
    "cat": _Animal((216, 138, 72), "pointed", tail=True, muzzle=False, eye=(122, 190, 96)),
    "dog": _Animal((190, 138, 88), "hanging", tail=False, muzzle=True, eye=(70, 44, 30)),
    "fox": _Animal((224, 104, 46), "pointed", tail=True, muzzle=True, eye=(120, 76, 30)),
    "rabbit": _Animal((214, 204, 196), "long", tail=False, muzzle=False, eye=(70, 40, 50)),
    "bear": _Animal((126, 88, 60), "round", tail=False, muzzle=True, eye=(30, 22, 18)),
}
_Draw = ImageDraw.ImageDraw


def _oval(draw: _Draw, x: float, y: float, wide: float, high: float, fill: RGB) -> None:
    draw.ellipse((x - wide, y - high, x + wide, y + high), fill=(*fill, 255))


def creature(name: str, fur: RGB | None, dim: float) -> Image.Image:
    """Return a sitting creature of CREATURES as a sprite; `dim` (0 to 1) is the light on it."""
    kind = CREATURES[name]
    coat = tint(fur or kind.fur, dim)
    belly = mix(coat, tint((255, 248, 238), dim), 0.62)
    sprite = Image.new("RGBA", (_SIDE, _SIDE), (*coat, 0))
    draw = ImageDraw.Draw(sprite)
    if kind.tail:
        draw.arc((380, 330, 620, 610), 250, 450, fill=(*tint(coat, 0.86), 255), width=44)
        _oval(draw, 478, 345, 22, 22, belly)
    _oval(draw, 320, 480, 142, 158, coat)
    _oval(draw, 320, 500, 84, 122, belly)
    for side in (-1, 1):
        _oval(draw, 320 + side * 128, 560, 62, 66, tint(coat, 0.92))
        draw.rounded_rectangle(
            (320 + side * 50 - 32, 440, 320 + side * 50 + 32, 622), 32, fill=(*tint(coat, 1.04), 255)
        )
        _oval(draw, 320 + side * 52, 612, 44, 22, belly)
    _ears(draw, kind, coat)
    _oval(draw, 320, 236, 152, 128, coat)
    _face(draw, kind, coat, belly, dim)
    return sprite


def _ears(draw: _Draw, kind: _Animal, coat: RGB) -> None:
    inner = mix(coat, (244, 160, 160), 0.55)
    for side in (-1, 1):
        x = 320 + side * 96
        if kind.ears == "pointed":
            draw.polygon([(x - side * 66, 150), (x + side * 34, 38), (x + side * 56, 200)], fill=(*coat, 255))
            draw.polygon([(x - side * 34, 150), (x + side * 26, 78), (x + side * 38, 184)], fill=(*inner, 255))
        elif kind.ears == "long":
            _oval(draw, x - side * 24, 96, 40, 110, coat)
            _oval(draw, x - side * 24, 104, 20, 84, inner)
        elif kind.ears == "hanging":
            _oval(draw, x + side * 56, 244, 46, 106, tint(coat, 0.7))
        else:
            _oval(draw, x + side * 12, 134, 54, 54, coat)
            _oval(draw, x + side * 12, 138, 30, 30, inner)


def _face(draw: _Draw, kind: _Animal, coat: RGB, belly: RGB, dim: float) -> None:
    dark = tint((34, 26, 28), max(0.5, dim))
    _oval(draw, 320, 292, 86 if kind.muzzle else 70, 62 if kind.muzzle else 46, belly)
    for side in (-1, 1):
        x = 320 + side * 66
        _oval(draw, x, 228, 30, 33, tint((250, 250, 244), max(0.75, dim)))
        _oval(draw, x, 230, 25, 28, kind.eye)
        _oval(draw, x, 230, 11 if kind.ears == "pointed" else 18, 24, dark)
        _oval(draw, x + 8, 218, 7, 8, (255, 255, 255))
        if not kind.muzzle:
            for lean in (-12, 6, 24):
                draw.line(
                    (320 + side * 44, 290, 320 + side * 176, 278 + lean),
                    fill=(*tint(belly, 1.05), 255),
                    width=4,
                )
    _oval(draw, 320, 268, 22, 15, mix(dark, (210, 110, 110), 0.15 if kind.muzzle else 0.7))
    for side in (-1, 1):
        draw.arc((320 + side * 22 - 22, 268, 320 + side * 22 + 22, 312), 20, 160, fill=(*dark, 255), width=5)
    if kind.ears == "pointed" and not kind.muzzle:
        for offset in (-34, 0, 34):
            draw.line((320 + offset, 122, 320 + offset * 0.7, 160), fill=(*tint(coat, 0.7), 255), width=11)


def robot(body: RGB | None, dim: float) -> Image.Image:
    """Return a friendly robot as a sprite."""
    steel = tint(body or (150, 172, 190), dim)
    dark, light = tint(steel, 0.45), (120, 246, 255)
    sprite = Image.new("RGBA", (_SIDE, _SIDE), (*steel, 0))
    draw = ImageDraw.Draw(sprite)
    draw.line((320, 40, 320, 120), fill=(*dark, 255), width=12)
    _oval(draw, 320, 40, 20, 20, (255, 120, 96))
    for side in (-1, 1):
        x = 320 + side * 176
        draw.rounded_rectangle((x - 32, 350, x + 32, 540), 30, fill=(*tint(steel, 0.78), 255))
        draw.rounded_rectangle((320 + side * 74 - 42, 540, 320 + side * 74 + 42, 628), 22, fill=(*dark, 255))
        _oval(draw, 320 + side * 172, 212, 22, 40, dark)
    draw.rounded_rectangle((168, 330, 472, 572), 46, fill=(*steel, 255))
    draw.rounded_rectangle((158, 112, 482, 316), 60, fill=(*tint(steel, 1.08), 255))
    draw.rounded_rectangle((192, 148, 448, 280), 44, fill=(*tint((18, 28, 40), 1.0), 255))
    for side in (-1, 1):
        _oval(draw, 320 + side * 62, 208, 26, 32, light)
    draw.arc((280, 220, 360, 264), 20, 160, fill=(*light, 255), width=8)
    draw.rounded_rectangle((232, 384, 408, 470), 20, fill=(*dark, 255))
    for at, color in enumerate(((255, 120, 96), (255, 206, 92), (124, 230, 150))):
        _oval(draw, 270 + at * 50, 427, 16, 16, color)
    return sprite
