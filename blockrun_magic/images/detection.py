"""Which values are pictures, told without importing PIL or NumPy: whoever has one has done that."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.images.formats import is_picture

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["extract_image", "has_repr_png", "is_array", "is_image_like", "is_pil"]


def is_image_like(value: object) -> bool:
    """Return whether `value` can be read as a picture: PIL image, array, bytes, existing Path, result."""
    if extract_image(value) is not None:
        return True
    if is_array(value):
        shape: Any = getattr(value, "shape", ())
        dtype = getattr(value, "dtype", None)
        return len(shape) in {2, 3} and (dtype is None or dtype.kind in "buif")
    if isinstance(value, bytes | bytearray | memoryview):
        return is_picture(bytes(value[:64]))
    if isinstance(value, Path):
        return os.path.isfile(value)  # noqa: PTH113  Path.is_file raises on odd names
    return has_repr_png(value)


def is_pil(value: object) -> bool:
    """Return whether `value` is a PIL image; does not import PIL to know."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def is_array(value: object) -> bool:
    """Return whether `value` is a NumPy array or speaks its interface; does not import NumPy to know."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return True
    scalar = numpy is not None and isinstance(value, numpy.generic)
    return not scalar and not is_pil(value) and hasattr(type(value), "__array_interface__")


def extract_image(value: object) -> Image.Image | None:
    """Return the PIL image that `value` is, or has as `value.image`; None if neither."""
    if is_pil(value):
        return value  # type: ignore[return-value]
    # Statically first: looking for it must not wake the `__getattr__` of a stranger.
    if inspect.getattr_static(value, "image", None) is None:
        return None
    try:
        image = value.image  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001  somebody else's property
        return None
    return image if is_pil(image) else None


def has_repr_png(value: object) -> bool:
    """Return whether `value` is an object with a PNG face for notebooks: `_repr_png_`."""
    return not isinstance(value, type) and callable(inspect.getattr_static(type(value), "_repr_png_", None))
