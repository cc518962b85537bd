"""Which values are images, decided without importing PIL or NumPy: a value of theirs has already imported them."""

from __future__ import annotations

import inspect
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.images.formats import is_image

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "IMAGE_SUFFIXES",
    "display_image_content",
    "extract_image",
    "extract_stream",
    "is_array",
    "is_figure",
    "is_image_like",
    "is_pil",
    "rich_representation",
]

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".mpo"}
)


def is_image_like(value: object) -> bool:  # noqa: PLR0911  one kind of value a line
    """Return whether `value` can be read as an image; looks, but calls nothing of the value's own."""
    if extract_image(value) is not None or is_figure(value):
        return True
    if is_array(value):
        shape: Any = getattr(value, "shape", ())
        kind = getattr(getattr(value, "dtype", None), "kind", "u")
        return len(shape) in {2, 3} and kind in "buif"
    if isinstance(value, bytes | bytearray | memoryview):
        return is_image(bytes(value[:64]))
    if isinstance(value, io.BytesIO):
        return not value.closed and is_image(bytes(value.getbuffer()[:64]))
    stream = extract_stream(value)
    if stream is not None:
        return not stream.closed and Path(str(getattr(stream, "name", ""))).suffix.lower() in IMAGE_SUFFIXES
    if isinstance(value, Path):
        return os.path.isfile(value)  # noqa: PTH113  Path.is_file raises on odd names
    if isinstance(value, str):
        return value[:11].lower().startswith("data:image/")
    return display_image_content(value) is not None or bool(_representations(value))


def is_pil(value: object) -> bool:
    """Return whether `value` is a PIL image; does not import PIL to know."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def is_array(value: object) -> bool:
    """Return whether `value` is a NumPy array or offers its pixels like one; does not import NumPy to know.

    Tables, which offer their numbers in the same way, are not images.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return True
    if is_pil(value) or isinstance(value, type) or (numpy is not None and isinstance(value, numpy.generic)):
        return False
    if hasattr(type(value), "__array_interface__"):
        return True
    is_table = inspect.getattr_static(value, "columns", None) is not None
    return hasattr(type(value), "__array__") and hasattr(type(value), "shape") and not is_table


def extract_stream(value: object) -> io.IOBase | None:
    """Return the file or stream that `value` is, or wraps as a named temporary file does; None if neither."""
    wrapped = inspect.getattr_static(value, "file", None)
    stream = value if isinstance(value, io.IOBase) else wrapped
    return stream if isinstance(stream, io.IOBase) else None


def is_figure(value: object) -> bool:
    """Return whether `value` is a matplotlib figure; does not import matplotlib to know."""
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(value, module.FigureBase)


def extract_image(value: object) -> Image.Image | None:
    """Return the PIL image that `value` is, or has as `value.image`; None if neither."""
    if is_pil(value):
        return value  # type: ignore[return-value]
    # Statically first: a look must not run the `__getattr__` of a stranger's class.
    if inspect.getattr_static(value, "image", None) is None:
        return None
    try:
        image = value.image  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001  somebody else's property
        return None
    return image if is_pil(image) else None


def display_image_content(value: object) -> bytes | Path | str | None:
    """Return the bytes, the file or the URL of an `IPython.display.Image`; None for any other value."""
    module = sys.modules.get("IPython.core.display")
    if module is None or not isinstance(value, module.Image):
        return None
    data: object = value.data
    if isinstance(data, bytes):
        return data
    filename, url = value.filename, value.url
    if filename:
        return Path(str(filename))
    return str(url) if url else None


def rich_representation(value: Any) -> bytes | str | None:
    """Return the PNG or JPEG by which a notebook shows `value`, as bytes or base64; None if it has none."""
    if is_figure(value):
        file = io.BytesIO()
        value.savefig(file, format="png")
        return file.getvalue()
    for name in _representations(value):
        content = getattr(value, name)()
        content = content[0] if isinstance(content, tuple) and content else content
        if isinstance(content, bytes | str):
            return content
    return None


def _representations(value: object) -> list[str]:
    names = ("_repr_png_", "_repr_jpeg_")
    is_type = isinstance(value, type)
    return [name for name in names if not is_type and callable(inspect.getattr_static(type(value), name, None))]
