"""Filters that give each model a look of its own, so that models differ visibly."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from blockrun_magic.practice.painter.canvas import gradient, mix, noise, tint

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockrun_magic.practice.painter.canvas import RGB

    Curve = Callable[[float], float]
    Look = Callable[[Image.Image, random.Random], Image.Image]

__all__ = ["apply_look"]


def apply_look(image: Image.Image, model: str, seed: int, *, crisp: bool = False) -> Image.Image:
    """Return `image` as `model` (a full id) would have painted it; unknown models leave it as it is."""
    rng = random.Random(seed ^ 0x5EED)  # noqa: S311
    look = next((look for prefix, look in _LOOKS if model.startswith(prefix)), None)
    image = look(image, rng) if look else image
    return image.filter(ImageFilter.UnsharpMask(1.2, 60)) if crisp else image


def _curves(image: Image.Image, red: Curve, green: Curve, blue: Curve) -> Image.Image:
    """Return the image with a tone curve on each channel, 0 to 1."""
    table = [max(0, min(255, round(255 * curve(level / 255)))) for curve in (red, green, blue) for level in range(256)]
    return image.point(table)


def _bloom(image: Image.Image, strength: float, radius: float = 5) -> Image.Image:
    """Return the image with glowing lights."""
    small = image.reduce(8).point([round(max(0, level - 96) * 1.6 * strength) for level in range(256)] * 3)
    light = small.filter(ImageFilter.GaussianBlur(radius)).resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.screen(image, light)


def _texture(image: Image.Image, rng: random.Random, cells: tuple[int, int], depth: float) -> Image.Image:
    """Return the image on paper or canvas."""
    grain = noise(rng, cells, 2).resize(image.size, Image.Resampling.BILINEAR)
    grain = grain.point([round(255 - depth * abs(level - 128)) for level in range(256)])
    return ImageChops.multiply(image, Image.merge("RGB", (grain, grain, grain)))


def _vignette(image: Image.Image, depth: float) -> Image.Image:
    rim = Image.radial_gradient("L").point([round(255 - depth * max(0, level - 110)) for level in range(256)])
    rim = rim.resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(image, Image.merge("RGB", (rim, rim, rim)))


def _contrast(level: float) -> float:
    return level * level * (3 - 2 * level)


def _warm(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return a soft, warm image on canvas."""
    soft = image.reduce(2).filter(ImageFilter.MedianFilter(3)).resize(image.size, Image.Resampling.BICUBIC)
    soft = _curves(
        Image.blend(image, soft, 0.7),
        lambda v: 0.05 + 1.0 * v,
        lambda v: 0.025 + 0.97 * v,
        lambda v: 0.02 + 0.86 * v,
    )
    return _texture(_bloom(soft, 0.5), rng, (150, 150), 0.16)


def _warm_pro(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return a warm, clear image with light from one corner."""
    clear = _curves(image, lambda v: 0.02 + 1.05 * v, lambda v: 1.01 * v, lambda v: 0.9 * v)
    leak = Image.radial_gradient("L").resize(image.size).point([max(0, 130 - level) for level in range(256)])
    leak = ImageChops.offset(leak, image.width * rng.choice((-1, 1)) * 2 // 5, -image.height * 2 // 5)
    amber = Image.merge("RGB", [leak.point([v * part // 255 for v in range(256)]) for part in (255, 178, 84)])
    return _vignette(ImageChops.screen(_bloom(clear, 0.35), amber), 0.5)


def _cinematic(image: Image.Image, _rng: random.Random) -> Image.Image:
    """Return high contrast, teal shadows and amber lights, with the streaks of a wide lens."""
    graded = _curves(
        image,
        lambda v: 0.2 * v + 0.86 * _contrast(v),
        lambda v: 0.03 + 0.25 * v + 0.7 * _contrast(v),
        lambda v: 0.08 + 0.3 * v + 0.5 * _contrast(v),
    )
    bright = image.reduce(8).convert("L").point([max(0, level - 196) * 3 for level in range(256)])
    streak = bright.resize((6, bright.height), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
    blue = Image.merge("RGB", [streak.point([v * part // 255 for v in range(256)]) for part in (90, 150, 255)])
    return _vignette(ImageChops.screen(_bloom(graded, 0.45), blue), 0.95)


def _poster(colors: int, paper: RGB, ink: RGB) -> Look:
    """Return the look of a printed poster: few flat colors inside a frame."""

    def look(image: Image.Image, _rng: random.Random) -> Image.Image:
        flat = image.filter(ImageFilter.BoxBlur(2))
        palette = image.resize((160, 160)).quantize(colors, Image.Quantize.MEDIANCUT)
        flat = flat.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB")
        flat = _curves(flat, lambda v: 0.04 + 0.98 * v, lambda v: 0.03 + 0.97 * v, lambda v: 0.04 + 0.92 * v)
        rim = max(2, min(image.size) // 26)
        draw = ImageDraw.Draw(flat)
        draw.rectangle((0, 0, flat.width - 1, flat.height - 1), outline=paper, width=rim)
        draw.rectangle((rim, rim, flat.width - 1 - rim, flat.height - 1 - rim), outline=ink, width=max(1, rim // 9))
        return flat

    return look


def _points(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return dots of pure color, as in Seurat."""
    step = max(3.0, min(image.size) / 120)
    canvas = image.filter(ImageFilter.BoxBlur(step * 0.5)).point([level * 215 // 255 for level in range(256)] * 3)
    small = image.resize((max(1, int(image.width / step)), max(1, int(image.height / step))), Image.Resampling.BOX)
    pixels: Any = small.load()
    draw = ImageDraw.Draw(canvas)
    spots = [(x, y) for x in range(small.width) for y in range(small.height)]
    rng.shuffle(spots)
    for x, y in spots:
        red, green, blue = pixels[x, y]
        swing, warm = 0.84 + 0.4 * rng.random(), 24 * rng.random() - 12
        color = (int(red * swing + warm), int(green * swing), int(blue * swing - warm))
        left, top, side = (x + rng.random() * 0.8) * step, (y + rng.random() * 0.8) * step, step * 0.95
        draw.ellipse(
            (left, top, left + side, top + side),
            fill=(max(0, color[0]), max(0, color[1]), max(0, color[2])),
        )
    return canvas


def _crayon(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return strokes of wax crayon in one direction."""
    step = max(3.0, min(image.size) / 116)
    canvas = image.filter(ImageFilter.BoxBlur(step)).point([28 + level * 224 // 255 for level in range(256)] * 3)
    small = image.resize((max(1, int(image.width / step)), max(1, int(image.height / step))), Image.Resampling.BOX)
    pixels: Any = small.load()
    draw = ImageDraw.Draw(canvas)
    for y in range(small.height):
        for x in range(small.width):
            pixel = pixels[x, y]
            color = tint((pixel[0], pixel[1], pixel[2]), 0.86 + 0.34 * rng.random())
            left, top = (x + rng.random()) * step, (y + rng.random()) * step
            reach = step * (0.8 + rng.random())
            draw.line(
                (left - reach, top + reach * 0.7, left + reach, top - reach * 0.7),
                fill=color,
                width=max(1, int(step / 4)),
            )
    return canvas


def _ink(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return an ink wash on rice paper, with a red seal."""
    gray = image.convert("L").filter(ImageFilter.BoxBlur(1))
    gray = ImageOps.autocontrast(gray.reduce(2), 1).resize(image.size, Image.Resampling.BICUBIC)
    wash = ImageOps.colorize(gray, (24, 26, 34), (252, 246, 232), (172, 174, 170))
    wash = _texture(Image.blend(wash, image, 0.14), rng, (120, 60), 0.16)
    side = max(8, min(image.size) // 15)
    left, top = side // 2, image.height - side * 3 // 2
    seal = Image.new("L", (side * 2, side * 2))
    draw = ImageDraw.Draw(seal)
    draw.rounded_rectangle((0, 0, side * 2 - 1, side * 2 - 1), side // 4, fill=225)
    for share in (0.28, 0.5, 0.72):
        draw.line((side * 0.4, side * 2 * share, side * 1.6, side * 2 * share), fill=40, width=max(1, side // 9))
    draw.line((side, side * 0.36, side, side * 1.64), fill=40, width=max(1, side // 9))
    wash.paste((178, 44, 34), (left, top), seal.reduce(2))
    return wash


def _neon(first: RGB, second: RGB, ground: RGB) -> Look:
    """Return neon tubes along every edge."""

    def look(image: Image.Image, _rng: random.Random) -> Image.Image:
        small = image.convert("L").reduce(2).filter(ImageFilter.BoxBlur(1))
        edges = small.filter(ImageFilter.FIND_EDGES).point([min(255, max(0, level - 7) * 8) for level in range(256)])
        border = ImageDraw.Draw(edges)
        border.rectangle((0, 0, edges.width - 1, edges.height - 1), outline=0, width=2)
        hue = gradient(edges.size, (first, mix(first, second, 0.5), second))
        lines = ImageChops.multiply(hue, Image.merge("RGB", (edges, edges, edges)))
        halo = lines.reduce(2).filter(ImageFilter.GaussianBlur(5)).resize(lines.size, Image.Resampling.BILINEAR)
        lines = ImageChops.screen(lines, ImageChops.add(halo, halo))
        red, green, blue = (0.5 * part / 255 for part in ground)
        dark = _curves(image, lambda v: red + 0.34 * v, lambda v: green + 0.26 * v, lambda v: blue + 0.42 * v)
        return ImageChops.screen(dark, lines.resize(image.size, Image.Resampling.BICUBIC))

    return look


def _pastel(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return a pale image, pink above and mint below."""
    pale = _curves(image, lambda v: 0.36 + 0.62 * v, lambda v: 0.35 + 0.61 * v, lambda v: 0.4 + 0.58 * v)
    wash = gradient(image.size, ((255, 206, 226), (226, 214, 250), (206, 240, 232)))
    pale = Image.blend(pale, ImageChops.multiply(pale, wash), 0.8)
    return _texture(_bloom(pale, 0.18), rng, (150, 150), 0.22)


_LOOKS: tuple[tuple[str, Look], ...] = (
    ("google/nano-banana-pro", _warm_pro),
    ("google/nano-banana-2", lambda image, rng: _warm_pro(_warm(image, rng), rng)),
    ("google/", _warm),
    ("openai/gpt-image-2.5", _poster(20, (250, 222, 150), (196, 84, 44))),
    ("openai/gpt-image-2", _poster(18, (28, 32, 48), (226, 196, 128))),
    ("openai/gpt-image", _poster(11, (246, 238, 220), (60, 50, 48))),
    ("openai/dall-e-2", _crayon),
    ("openai/", _points),
    ("black-forest/", _cinematic),
    ("zai/", _ink),
    ("xai/grok-imagine-image-pro", _neon((255, 206, 84), (80, 255, 170), (20, 40, 30))),
    ("xai/grok-imagine-image-2", _neon((120, 130, 255), (90, 255, 236), (10, 16, 60))),
    ("xai/", _neon((70, 230, 255), (255, 70, 190), (34, 8, 60))),
    ("bytedance/", _pastel),
)
