"""Arrays as images: NumPy, and objects with `__array_interface__` or `__array__` (torch, TensorFlow, JAX)."""

from __future__ import annotations

import importlib
import math
import sys
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import SourceError
from blockrun_magic.images.conversion import eight_bit
from blockrun_magic.images.formats import check_decodable
from blockrun_magic.images.references import Subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

__all__ = ["array_to_image"]

_GRAY_DIMENSIONS = _GRAY_AND_ALPHA = 2
_COLOR_DIMENSIONS = 3
_BATCH_DIMENSIONS = 4
_BYTE = 255
_WORD = 65535
_ROUNDING = 1.001
_DARKEST = 16
"""Floats up to this maximum may be 0..1 with an overshoot, or an almost black image in 0..255."""
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_EXPECTED = "Give HxW, HxWx3 or HxWx4 of uint8, bool, or floats in 0..1."


def array_to_image(value: Any, subject: Subject, check: Callable[[tuple[int, int]], None]) -> Image.Image:
    """Return an array as an L, RGB or RGBA image.

    Takes HxW and HxWx1, x3, x4 of bool (False black, True white), integers in 0..255, uint16 in 0..65535, or
    floats in 0..1 or 0..255; a mask may also have any two values. Raises SourceError for anything else; `check` may
    raise for a size before any pixel is converted.
    """
    from PIL import Image

    numpy = sys.modules.get("numpy")
    if numpy is None and hasattr(type(value), "__array_interface__"):
        try:
            return eight_bit(Image.fromarray(value), subject.words)
        except (TypeError, ValueError) as error:
            raise SourceError(f"{subject.words} is an array that cannot be read ({error}).", _EXPECTED) from error
    pixels = _single(_as_numpy(value, subject))
    mode = _array_mode(pixels.shape, subject)
    size = (int(pixels.shape[1]), int(pixels.shape[0]))
    check_decodable(size, subject.words, max(1, size[0] * size[1]))
    check(size)
    return Image.frombytes(mode, size, _to_bytes(pixels, subject))


def _as_numpy(value: Any, subject: Subject) -> Any:
    try:
        return importlib.import_module("numpy").asarray(value)
    except Exception as error:
        raise SourceError(
            f"{subject.words} is a {type(value).__name__} that cannot be read as an array ({_reason(error)}).",
            f"Run `{subject.variable} = {subject.reference}.detach().cpu().float().numpy()` if it is a torch tensor.",
        ) from error


def _single(pixels: Any) -> Any:
    """Return the image of a batch of one, and any other array as it is."""
    inner = pixels
    while len(inner.shape) > _GRAY_DIMENSIONS and inner.shape[0] == 1:
        if len(inner.shape) == _COLOR_DIMENSIONS and inner.shape[2] in _MODES:
            return inner
        inner = inner[0]
    is_image = len(inner.shape) == _GRAY_DIMENSIONS or inner.shape[2:] in {(count,) for count in _MODES}
    return inner if is_image else pixels


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _array_mode(shape: tuple[int, ...], subject: Subject) -> str:
    if len(shape) == _GRAY_DIMENSIONS:
        return "L"
    if len(shape) == _COLOR_DIMENSIONS and shape[2] in _MODES:
        return _MODES[shape[2]]
    hint, array = _EXPECTED, f"np.asarray({subject.reference})"
    if len(shape) == _COLOR_DIMENSIONS and shape[2] == _GRAY_AND_ALPHA:
        hint = f"If the first channel is the image: `{subject.numpy_code(f'{array}[..., 0]')}`"
    if len(shape) == _COLOR_DIMENSIONS and shape[0] in _MODES and min(shape[1:]) > max(_MODES):
        # Segmentation models return several candidate masks as channels.
        change = f"{array}[0]" if subject.is_mask else f"np.moveaxis({array}, 0, -1)"
        hint = f"{'Choose one' if subject.is_mask else 'Put the channels last'}: `{subject.numpy_code(change)}`"
    elif len(shape) == _BATCH_DIMENSIONS and shape[3] in _MODES:
        hint = f"That is a batch; choose one image: `{subject.numpy_code(f'{array}[0]')}`"
    elif len(shape) == _BATCH_DIMENSIONS and shape[1] in _MODES:
        change = f"{array}[0, 0]" if subject.is_mask else f"np.moveaxis({array}[0], 0, -1)"
        hint = f"That is a batch; choose one image: `{subject.numpy_code(change)}`"
    raise SourceError(f"{subject.words} is an array of shape {shape}; an image has HxW, HxWx1, HxWx3 or HxWx4.", hint)


def _to_bytes(pixels: Any, subject: Subject) -> bytes:
    """Return the values of an array as bytes 0..255, row by row."""
    kind = pixels.dtype.kind
    if kind not in "buif":
        raise SourceError(f"{subject.words} is an array of {pixels.dtype}, which are not colors.", _EXPECTED)
    if pixels.size == 0:
        return b""
    low, high = pixels.min(), pixels.max()
    if subject.is_mask and low < high and ((pixels == low) | (pixels == high)).all():
        pixels, kind = pixels == high, "b"
    if kind == "b":
        return bytes((pixels * _BYTE).astype("uint8").tobytes())
    if kind != "f" and pixels.dtype.itemsize == 2 and pixels.dtype.kind == "u" and high > _BYTE:
        return bytes((pixels.astype("float32") * (_BYTE / _WORD) + 0.5).astype("uint8").tobytes())
    # Not `low < 0 or high > top`: a NaN is neither, and makes both comparisons false.
    if kind != "f" and low >= 0 and high <= _BYTE:
        return bytes(pixels.astype("uint8").tobytes())
    if kind == "f" and low >= 1 - _ROUNDING and high <= _ROUNDING:
        return bytes((pixels.astype("float32").clip(0, 1) * _BYTE + 0.5).astype("uint8").tobytes())
    if kind == "f" and low >= 0 and _DARKEST < high <= _BYTE:
        return bytes((pixels.astype("float32") + 0.5).astype("uint8").tobytes())
    raise _out_of_range(pixels, float(low), float(high), subject)


def _out_of_range(pixels: Any, low: float, high: float, subject: Subject) -> SourceError:
    array = f"np.asarray({subject.reference})"
    if math.isnan(low) or math.isnan(high):
        code = subject.numpy_code(f"np.nan_to_num({array}, posinf=1).clip(0, 1)")
        return SourceError(f"{subject.words} has values that are not numbers (NaN).", f"Replace them: `{code}`")
    message = f"{subject.words} has {pixels.dtype} values from {low:g} to {high:g}"
    if subject.is_mask:
        change = f"{array} > 0"
        return SourceError(f"{message}.", f"To edit the positive part: `{subject.numpy_code(change)}`")
    if pixels.dtype.kind != "f":
        code = subject.numpy_code(f"{array}.clip(0, 255)")
        return SourceError(f"{message}; integers must be in 0..255.", f"Scale it, or cut it off: `{code}`")
    clip, whole = subject.numpy_code(f"{array}.clip(0, 1)"), subject.numpy_code(f"{array}.astype('uint8')")
    if 0 <= low and high <= _DARKEST:
        return SourceError(
            f"{message}: it can mean 0..1 with an overshoot, or 0..255 and almost black.",
            f"If 1 is white: `{clip}`. If 255 is white: `{whole}`",
        )
    return SourceError(f"{message}; floats must be in 0..1 or 0..255.", f"Scale it, or cut it off: `{clip}`")
