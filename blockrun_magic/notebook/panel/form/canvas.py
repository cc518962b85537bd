"""Cropping and extending of a source's canvas; added areas are painted, so that the edit fills them (outpainting)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from blockrun_magic.errors import SourceError
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.dispatcher import Callback, Dispatcher
from blockrun_magic.notebook.panel.widgets import button, field, html, row

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CanvasEdges", "new_canvas"]

_SIDES = ("Left", "Top", "Right", "Bottom")
_MOST = 4096


class CanvasEdges:
    """Inputs for the pixels that each side gains (or loses, where negative); `apply_now` is called by the button."""

    def __init__(self, dispatcher: Dispatcher, apply_now: Callback) -> None:
        self._sides = [
            field(light.BoundedIntText(description=side, value=0, min=-_MOST, max=_MOST, step=64), "brm-short")
            for side in _SIDES
        ]
        self._apply = button("Apply", "Crop or extend the image; nothing is paid yet")
        dispatcher.on_click(self._apply, apply_now)
        words = "Pixels to add on each side; a negative number crops. The price is on the Edit button before you pay."
        self.box = light.VBox([html(f'<div class="brm-quiet">{words}</div>'), row(*self._sides, self._apply)])

    def apply(self, image: Image.Image) -> tuple[bytes, Image.Image | None]:
        """Return the new image as a PNG, and the mask of the added areas or None; raises SourceError."""
        left, top, right, bottom = (side.value for side in self._sides)
        return new_canvas(image, left, top, right, bottom)


def new_canvas(image: Image.Image, left: int, top: int, right: int, bottom: int) -> tuple[bytes, Image.Image | None]:
    """Return `image` with added or cropped sides as a PNG, and a mask that is white in the added areas.

    The new area repeats the image's edge, which guides a model better than one color. Without a new area the mask
    is None. Raises SourceError for a canvas without pixels.
    """
    from PIL import Image as PILImage

    width, height = image.width + left + right, image.height + top + bottom
    if width < 1 or height < 1 or max(width, height) > 2 * _MOST:
        raise SourceError(f"A canvas of {width} x {height} pixels is not possible.", "Change the numbers.")
    rgb = image.convert("RGB")
    inner = (max(0, left), max(0, top), min(width, image.width + left), min(height, image.height + top))
    if inner[0] >= inner[2] or inner[1] >= inner[3]:
        raise SourceError("Nothing of the image would be left.", "Crop fewer pixels.")
    part = rgb.crop((inner[0] - left, inner[1] - top, inner[2] - left, inner[3] - top))
    canvas = PILImage.new("RGB", (width, height))
    _extend(canvas, part, inner)
    file = io.BytesIO()
    canvas.save(file, "png")
    if inner == (0, 0, width, height):
        return file.getvalue(), None
    mask = PILImage.new("L", (width, height), 255)
    mask.paste(0, inner)
    return file.getvalue(), mask


def _extend(canvas: Image.Image, part: Image.Image, inner: tuple[int, int, int, int]) -> None:
    """Put `part` at `inner` and repeat its edges to the sides of `canvas`."""
    left, top, right, bottom = inner
    width, height = canvas.size
    for box, strip in (
        ((0, top, left, bottom), part.crop((0, 0, 1, part.height))),
        ((right, top, width, bottom), part.crop((part.width - 1, 0, part.width, part.height))),
    ):
        if box[2] > box[0]:
            canvas.paste(strip.resize((box[2] - box[0], part.height)), box)
    canvas.paste(part, inner)
    middle = canvas.crop((0, top, width, bottom))
    if top:
        canvas.paste(middle.crop((0, 0, width, 1)).resize((width, top)), (0, 0))
    if height > bottom:
        last = middle.crop((0, middle.height - 1, width, middle.height))
        canvas.paste(last.resize((width, height - bottom)), (0, bottom))
