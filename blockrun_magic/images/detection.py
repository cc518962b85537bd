"""Detection of images without importing PIL or NumPy, which are already imported if a value is theirs."""

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
    "can_be_bundled",
    "display_image_content",
    "extract_image",
    "extract_stream",
    "extract_widget",
    "is_array",
    "is_image_like",
    "is_pil",
    "rich_representation",
]

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".mpo"}
)


def is_image_like(value: object) -> bool:  # noqa: PLR0911  one kind of value a line
    """Return whether `value` can be read as an image, without calling any code of the value."""
    if extract_image(value) is not None or _figure_of(value) is not None or extract_widget(value) is not None:
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
    """Return whether `value` is a PIL image, without importing PIL."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def is_array(value: object) -> bool:
    """Return whether `value` is a NumPy array or offers its pixels like one, without importing NumPy.

    Tables offer their numbers in the same way, but are not images.
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
    """Return `value` if it is a file or stream, or the one that it wraps, as a named temporary file does; else None."""
    wrapped = inspect.getattr_static(value, "file", None)
    stream = value if isinstance(value, io.IOBase) else wrapped
    return stream if isinstance(stream, io.IOBase) else None


def _figure_of(value: object) -> Any | None:
    """Return `value` if it is a matplotlib figure, or the figure of its axes, without importing matplotlib."""
    module = sys.modules.get("matplotlib.figure")
    while module is not None and not isinstance(value, module.Figure):
        inner = None if inspect.getattr_static(value, "figure", None) is None else getattr(value, "figure", None)
        if not isinstance(inner, module.FigureBase) or inner is value:
            return None
        value = inner
    return None if module is None else value


def extract_widget(value: object) -> bytes | None:
    """Return the image that a widget of ipywidgets shows, or the one file that was uploaded to it; else None."""
    widgets = sys.modules.get("ipywidgets")
    if widgets is None or not isinstance(value, widgets.Image | widgets.FileUpload):
        return None
    content: Any = value.value
    if isinstance(value, widgets.FileUpload):
        content = content[0].get("content") if isinstance(content, tuple) and len(content) == 1 else None
    return bytes(content) if content else None


def extract_image(value: object) -> Image.Image | None:
    """Return `value` or `value.image` if it is a PIL image, else None."""
    if is_pil(value):
        return value  # type: ignore[return-value]
    # Statically first, so that the check does not run `__getattr__` of an unknown class.
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
    figure = _figure_of(value)
    if figure is not None:
        file = io.BytesIO()
        figure.savefig(file, format="png")
        return file.getvalue()
    for name in _representations(value):
        content = _first(getattr(value, name)())
        if isinstance(content, bytes | str):
            return content
    if can_be_bundled(value):
        bundle = _first(value._repr_mimebundle_())
        for kind in ("image/png", "image/jpeg"):
            if isinstance(bundle, dict) and isinstance(bundle.get(kind), bytes | str):
                return bundle[kind]  # type: ignore[no-any-return]
    return None


def can_be_bundled(value: object) -> bool:
    """Return whether a notebook asks `value` for all its forms at once, one of which may be an image."""
    return not isinstance(value, type) and callable(inspect.getattr_static(type(value), "_repr_mimebundle_", None))


def _first(content: Any) -> Any:
    """Return the content of a representation, without its metadata."""
    return content[0] if isinstance(content, tuple) and content else content


def _representations(value: object) -> list[str]:
    names = ("_repr_png_", "_repr_jpeg_")
    is_type = isinstance(value, type)
    return [name for name in names if not is_type and callable(inspect.getattr_static(type(value), name, None))]
