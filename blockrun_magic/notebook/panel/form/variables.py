"""Image variables of the notebook, and small views of sources."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import SourceError
from blockrun_magic.images.detection import is_image_like
from blockrun_magic.images.source import find_source
from blockrun_magic.notebook.background import BackgroundJob
from blockrun_magic.notebook.display.cards import short
from blockrun_magic.notebook.display.thumbnails import data_uri
from blockrun_magic.threads import run_foreign

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["check_room", "find_image", "image_names", "source_html"]

_THUMB = 96


def check_room(count: int, most: int) -> None:
    """Raise SourceError if a model that takes `most` images already has `count`; a single image is replaced."""
    if count >= most > 1:
        raise SourceError(f"This model takes at most {most} images.", "Remove one, or choose another model.")


async def find_image(name: str, namespace: Mapping[str, Any]) -> object:
    """Return the image that `name` refers to; waits for one that is still being made, without blocking."""
    value = namespace.get(name)
    if isinstance(value, BackgroundJob):
        return (await value).image
    return await run_foreign(find_source, name, namespace)


def image_names(namespace: Mapping[str, Any]) -> list[str]:
    """Return the names of the variables that are images or will be; it may run properties of the user's objects."""
    return sorted(name for name, value in namespace.items() if _is_offered(name, value))


def _is_offered(name: str, value: Any) -> bool:
    return not name.startswith("_") and (isinstance(value, BackgroundJob) or is_image_like(value))


def source_html(image: Image.Image, name: str) -> str:
    """Return a thumbnail of a source with its name and size."""
    label = escape(short(name))
    return (
        f'<div><img src="{data_uri(image, _THUMB)}" alt="{label}">'
        f'<div class="brm-quiet">{label}<br>{image.width} x {image.height}</div></div>'
    )
