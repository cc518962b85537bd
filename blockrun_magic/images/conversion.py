"""Pixels from memory, as eight-bit pictures: PIL images of any mode, NumPy arrays, and PNG out of them.

NumPy is not imported: whoever has an array has done that already.
"""

from __future__ import annotations

import array
import hashlib
import io
import math
import sys
from typing import TYPE_CHECKING, Any, cast

from blockrun_magic.errors import SourceError
from blockrun_magic.gateway.request import Upload
from blockrun_magic.images.formats import check_pixels

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["array_to_picture", "eight_bit", "to_upload"]

_GREY_DIMENSIONS = 2
_COLOUR_DIMENSIONS = 3
_BYTE = 255
_WORD = 65535
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_upload(image: Image.Image) -> Upload:
    """Return an eight-bit picture as a PNG that is named by its mode, size and pixels."""
    head = f"{image.mode} {image.width}x{image.height}\n".encode()
    digest = hashlib.sha256(head + image.tobytes()).hexdigest()
    file = io.BytesIO()
    # Level 3 takes a third of the default's time for a few percent more bytes.
    image.save(file, "PNG", compress_level=3)
    return Upload(file.getvalue(), "image/png", f"pixels-sha256:{digest}")


def eight_bit(image: Image.Image, name: str) -> Image.Image:
    """Return a copy of a PIL image of any mode as L, RGB or RGBA, without metadata.

    Sixteen-bit grays are scaled down; I and F are taken as 0..255 (F also as 0..1) if their values
    fit. Raises SourceError for values that fit no range, and for files that can no longer be read.
    """
    check_pixels(image.size, name)
    try:
        picture = _converted(image, name)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"{name}, a PIL image of mode {image.mode}, cannot be read ({error}).",
            "Open the file again, or pass image.convert('RGB').",
        ) from error
    picture.info = {}
    return picture


def _converted(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _scaled(image.convert("I"), _BYTE / _WORD)
    if image.mode in {"I", "F"}:
        return _scaled(image, _scale(image, name))
    if image.has_transparency_data:
        return image.copy() if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in {"1", "L"}:
        return image.convert("L")
    return image.convert("RGB")


def _scale(image: Image.Image, name: str) -> float:
    """Return what brings the values of an I or F image to 0..255."""
    finite = image.mode == "I" or math.isfinite(sum(array.array("f", image.tobytes())))
    low, high = cast("tuple[float, float]", image.getextrema())
    if finite and low >= 0:
        if image.mode == "F" and high <= 1:
            return 255.0
        if high <= _BYTE:
            return 1.0
        if image.mode == "I" and high <= _WORD:
            return _BYTE / _WORD
    raise SourceError(
        f"{name}, a PIL image of mode {image.mode}, has values from {low:g} to {high:g}"
        f"{'' if finite else ', and some that are not finite'}.",
        "Bring them to 0..255 and pass image.convert('L').",
    )


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    # Half a step up, because the conversion to L cuts fractions off.
    return image.point(lambda value: value * factor + 0.5).convert("L")


def array_to_picture(value: Any, name: str) -> Image.Image:
    """Return an array as an L, RGB or RGBA picture.

    Takes HxW and HxWx1, x3, x4 of bool (False black, True white), integers in 0..255 or floats in
    0..1; raises SourceError for anything else.
    """
    from PIL import Image

    numpy = sys.modules.get("numpy")
    if numpy is None:
        try:
            return eight_bit(Image.fromarray(value), name)
        except (TypeError, ValueError) as error:
            raise SourceError(f"{name} is an array that cannot be read ({error}).", _EXPECTED) from error
    pixels = numpy.asarray(value)
    mode = _array_mode(pixels.shape, name)
    check_pixels((pixels.shape[1], pixels.shape[0]), name)
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), _to_bytes(pixels, name))


_EXPECTED = "Give HxW, HxWx3 or HxWx4 of uint8, bool, or floats in 0..1."


def _array_mode(shape: tuple[int, ...], name: str) -> str:
    if len(shape) == _GREY_DIMENSIONS:
        return "L"
    if len(shape) == _COLOUR_DIMENSIONS and shape[2] in _MODES:
        return _MODES[shape[2]]
    advice = _EXPECTED
    if len(shape) == _COLOUR_DIMENSIONS and shape[0] in _MODES and min(shape[1:]) > max(_MODES):
        advice = "Channels come last: pass array.transpose(1, 2, 0)."
    elif len(shape) == _COLOUR_DIMENSIONS + 1:
        advice = "That is a batch: pass one picture of it, array[0]."
    raise SourceError(f"{name} is an array of shape {shape}; a picture has HxW, HxWx1, HxWx3 or HxWx4.", advice)


def _to_bytes(pixels: Any, name: str) -> bytes:
    """Return the values of an array as bytes 0..255, row by row."""
    kind = pixels.dtype.kind
    if kind not in "buif":
        raise SourceError(f"{name} is an array of {pixels.dtype}, which are no colors.", _EXPECTED)
    if kind == "b":
        return bytes((pixels * 255).astype("uint8").tobytes())
    top = 1 if kind == "f" else _BYTE
    low, high = pixels.min(), pixels.max()
    # Not `low < 0 or high > top`: a NaN is neither, and makes both comparisons false.
    if not (low >= 0 and high <= top):
        raise SourceError(*_out_of_range(pixels, float(low), float(high), name))
    if kind == "f":
        pixels = (pixels.astype("float32") * 255 + 0.5).astype("uint8")
    return bytes(pixels.astype("uint8").tobytes())


def _out_of_range(pixels: Any, low: float, high: float, name: str) -> tuple[str, str]:
    if math.isnan(low) or math.isnan(high):
        return f"{name} is an array with NaN in it.", "Replace them first, for example with numpy.nan_to_num."
    what = f"{name} is an array of {pixels.dtype} with values from {low:g} to {high:g}; "
    if pixels.dtype.kind == "f":
        fix = "array / 255" if low >= 0 and high <= _BYTE else "array.clip(0, 1)"
        return what + "floats must be in 0..1.", f"Pass {fix}."
    return what + "integers must be in 0..255.", "Pass array.clip(0, 255), or scale it."
