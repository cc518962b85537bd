"""Sizes in words: `--size 16:9`, `portrait`, `square` or `hd`, translated into a size that the model sells."""

from __future__ import annotations

import re
from math import log
from typing import TYPE_CHECKING

from blockrun_magic.errors import FlagError, RequestError
from blockrun_magic.gateway.catalog.snapshot import dimensions
from blockrun_magic.text import any_of, quoted

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.gateway.catalog.snapshot import Model

__all__ = ["SIZE_WORDS", "is_size_word", "read_size", "resolve_size"]

_RATIO = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)[:/](\d{1,4}(?:\.\d{1,3})?)", re.ASCII)
_SHAPES = {
    "square": 1.0,
    "portrait": 2 / 3,
    "landscape": 3 / 2,
    "wide": 16 / 9,
    "tall": 9 / 16,
}
_AREAS = {"small": 512 * 512, "hd": 2048 * 2048, "2k": 2048 * 2048, "4k": 4096 * 4096}
SIZE_WORDS = (*_SHAPES, "16:9", "4:3", "3:4", "9:16", *_AREAS)
_DEFAULT = "auto"
_ALIKE = 1.1
_ALIASES = {
    "large": "hd",
    "horizontal": "landscape",
    "vertical": "portrait",
    "widescreen": "wide",
    "1080p": "hd",
    "fullhd": "hd",
}
_MAX_UNLIKENESS = log(1.36)


def is_size_word(text: str) -> bool:
    """Return whether `text`, in lower case, is a ratio or one of the words for a size."""
    if text == _DEFAULT or _ratio(text) is not None:
        return True
    return _ALIASES.get(text, text) in _AREAS


def read_size(value: object, model_id: str, catalog: Catalog) -> str:
    """Return the size for a program's value: pixels as text or a pair, a ratio, a word, or None for the default.

    Raises RequestError for anything else, and FlagError as `resolve_size`; pixels are not checked.
    """
    if not value:
        return catalog.default_size(model_id)
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(side, int) for side in value):
        value = f"{value[0]}x{value[1]}"
    if not isinstance(value, str):
        raise RequestError(
            f"{quoted(str(value))} is not a size.", "Use pixels, as in 1216x832, or a ratio, as in 16:9."
        )
    return resolve_size(value.lower(), model_id, catalog) if is_size_word(value.lower()) else value


def resolve_size(text: str, model_id: str, catalog: Catalog) -> str:
    """Return the size in pixels for `text`: "16:9" is "1216x832" for a model that sells this size.

    A size in pixels stays as it is. Raises FlagError if the model sells no such shape.
    """
    if dimensions(text) is not None:
        return text
    if text == _DEFAULT:
        return catalog.default_size(model_id)
    model = catalog.find(model_id)
    if model is None or model.unverified:
        raise FlagError(
            f"The sizes of {model_id} are not known, so --size {text} cannot be translated.",
            "Write width x height in pixels: --size 1024x1024.",
        )
    ratio = _ratio(text)
    if ratio is None:
        return _by_area(_AREAS[_ALIASES.get(text, text)], model)
    return _by_ratio(text, ratio, model)


def _ratio(text: str) -> float | None:
    match = _RATIO.fullmatch(text)
    if match is not None:
        width, height = float(match[1]), float(match[2])
        return width / height if width and height else None
    return _SHAPES.get(_ALIASES.get(text, text))


def _sold(model: Model) -> list[tuple[str, int, int]]:
    return [(size, *sides) for size in model.sizes if (sides := dimensions(size)) is not None]


def _by_area(area: int, model: Model) -> str:
    """Return the largest size of at most `area` pixels, else the smallest; an upright one only if all are.

    Of sizes with about as many pixels as the smallest, it is the first in the model's list.
    """
    sold = _sold(model)
    sizes = sorted([size for size in sold if size[1] >= size[2]] or sold, key=lambda size: size[1] * size[2])
    fitting = [size for size in sizes if size[1] * size[2] <= area]
    if fitting:
        return fitting[-1][0]
    smallest = sizes[0][1] * sizes[0][2] * _ALIKE
    return next(size for size in sold if size in sizes and size[1] * size[2] <= smallest)[0]


def _by_ratio(text: str, ratio: float, model: Model) -> str:
    """Return the sold size whose shape is most like `ratio`; among equals, the first in the model's list."""

    def unlikeness(size: tuple[str, int, int]) -> float:
        return round(abs(log(size[1] / size[2] / ratio)), 6)

    best = min(_sold(model), key=unlikeness)
    if model.sides is not None:
        fitted = _made_to_measure(ratio, model.sides, best[1] * best[2])
        best = min((best, fitted), key=unlikeness)
    if unlikeness(best) > _MAX_UNLIKENESS or (ratio - 1) * (best[1] - best[2]) < 0:
        raise FlagError(f"{model.id} has no size like {text}.", f"Choose {any_of(model.sizes)}, or another --model.")
    return best[0]


def _made_to_measure(ratio: float, sides: range, area: int) -> tuple[str, int, int]:
    """Return a size of this ratio with about `area` pixels, for a model that makes any side in `sides`."""

    def side(length: float) -> int:
        step = max(sides.step, 1)
        steps = round((length - sides.start) / step)
        return sides[max(0, min(len(sides) - 1, steps))]

    width, height = side((area * ratio) ** 0.5), side((area / ratio) ** 0.5)
    return f"{width}x{height}", width, height
