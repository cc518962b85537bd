"""Edits without a model: the subjects of the prompt are painted into the source, inside the mask only.

Outside the white of the mask, every pixel is the source's, resized to the requested size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageFilter

from blockrun_magic.practice.painter.canvas import Canvas, gradient, mix
from blockrun_magic.practice.painter.filters import apply_look
from blockrun_magic.practice.painter.painter import paint_scene, seed_of, stamp
from blockrun_magic.practice.painter.scenes import read_scene
from blockrun_magic.practice.painter.sky import paint_sky, paint_weather
from blockrun_magic.practice.painter.sprites import CREATURES
from blockrun_magic.practice.painter.subjects import paint_subjects, subject_sprite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockrun_magic.practice.painter.scenes import Scene

__all__ = ["edit", "fit_source", "white_of"]

_WHITE = 128
_SKY_SHARE = 0.62


def fit_source(source: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return `source` as RGB in `size`, transparency on white; unchanged if it has that size."""
    if source.mode in {"RGBA", "LA", "PA"} or "transparency" in source.info:
        clear = source.convert("RGBA")
        source = Image.new("RGB", clear.size, (255, 255, 255))
        source.paste(clear, (0, 0), clear.getchannel("A"))
    rgb = source.convert("RGB")
    return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.LANCZOS)


def white_of(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return where the mask is white, as 0 and 255 in `size`; a transparent mask is white nowhere."""
    if mask.mode in {"RGBA", "LA", "PA"}:
        clear = mask.convert("RGBA")
        mask = Image.new("RGB", clear.size)
        mask.paste(clear, (0, 0), clear.getchannel("A"))
    gray = mask.convert("L")
    gray = gray if gray.size == size else gray.resize(size, Image.Resampling.NEAREST)
    return gray.point([255 if level >= _WHITE else 0 for level in range(256)])


def edit(
    prompt: str,
    model: str,
    sources: Sequence[Image.Image],
    mask: Image.Image | None,
    size: tuple[int, int],
    index: int = 0,
) -> Image.Image:
    """Return the sources, fused and changed by `prompt`, `size` pixels, RGB."""
    seed = seed_of(prompt, model, index)
    scene = read_scene(prompt, seed)
    source = fit_source(sources[0], size) if len(sources) == 1 else _fused(sources, size)
    area = (0, 0, *size)
    white = None
    if mask is not None:
        white = white_of(mask, size)
        area = white.getbbox() or (0, 0, 0, 0)
        if area[2] - area[0] < 1:
            return source
    part = source.crop(area)
    changed = _changed(part, scene, seed, whole=mask is None)
    changed = apply_look(changed, model, seed) if mask is None else changed
    if white is None:
        stamp(changed)
        return changed
    window = white.crop(area)
    if ImageChops.invert(window).getbbox() is None:
        stamp(changed)
    result = source.copy()
    result.paste(Image.composite(changed, part, _feathered(window)), area[:2])
    return result


def _feathered(window: Image.Image) -> Image.Image:
    """Return the mask with a soft edge on the inside."""
    radius = max(1, min(window.size) // 90)
    soft = window.filter(ImageFilter.BoxBlur(radius)).point([max(0, level * 2 - 255) for level in range(256)])
    return ImageChops.darker(soft, window)


def _fused(sources: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Return several images side by side, flowing into each other."""
    fused = fit_source(sources[0], size)
    count = len(sources)
    for number, source in enumerate(sources[1:], 1):
        seam, soft = number / count, 0.09
        ramp = Image.new("L", (256, 1))
        ramp.putdata([max(0, min(255, round(255 * (x / 255 - seam + soft) / (2 * soft)))) for x in range(256)])
        fused = Image.composite(fit_source(source, size), fused, ramp.resize(size, Image.Resampling.BILINEAR))
    return fused


def _changed(part: Image.Image, scene: Scene, seed: int, *, whole: bool) -> Image.Image:
    """Return the changed version of the part that may change."""
    canvas = Canvas(part.size, seed)
    if scene.land_said:
        canvas.image = Image.blend(part, paint_scene(scene, part.size, seed), 0.6 if whole else 1.0)
        return canvas.image
    if scene.sky_said:
        canvas.image = _new_sky(part, scene, seed, whole=whole)
    elif scene.subjects:
        canvas.image = _graded(part, scene, 0.12)
    else:
        canvas.image = Image.blend(_graded(part, scene, 0.3), paint_scene(scene, part.size, seed), 0.36)
    if whole:
        paint_subjects(canvas, scene, 0.6)
    else:
        _into(canvas, scene)
    paint_weather(canvas, scene)
    return canvas.image


def _new_sky(part: Image.Image, scene: Scene, seed: int, *, whole: bool) -> Image.Image:
    """Return the part with another sky: all of it, or its upper half, with the rest in that light."""
    sky = Canvas(part.size, seed)
    paint_sky(sky, scene, 1.0 if not whole else _SKY_SHARE)
    if not whole:
        return sky.image
    ramp = [max(0, min(235, round(235 * (1.25 - level / 255 / _SKY_SHARE * 1.25)))) for level in range(256)]
    return Image.composite(
        sky.image, _graded(part, scene, 0.55), Image.linear_gradient("L").resize(part.size).point(ramp)
    )


def _graded(part: Image.Image, scene: Scene, share: float) -> Image.Image:
    """Return the part in the light and colors of the scene."""
    tone = gradient(
        part.size,
        (scene.palette.sky[1], scene.palette.haze, mix(scene.palette.light, scene.palette.near, 0.4)),
    )
    if scene.colors:
        tone = Image.blend(tone, Image.new("RGB", part.size, scene.colors[0]), 0.7)
    return Image.blend(part, ImageChops.overlay(part, tone), min(1.0, share * 1.8))


def _into(canvas: Canvas, scene: Scene) -> None:
    """Draw creatures large enough to fill the part, and other subjects at their place in a scene."""
    actors = [name for name in scene.subjects if name in CREATURES or name == "robot"]
    if not actors:
        paint_subjects(canvas, scene, 0.6)
        return
    side = max(8, int(min(canvas.width / len(actors), canvas.height) * 0.94))
    for number, name in enumerate(actors):
        sprite = subject_sprite(name, scene).resize((side, side), Image.Resampling.LANCZOS)
        canvas.stamp(sprite, (canvas.width * (number + 0.5) / len(actors), canvas.height - side * 0.5))
