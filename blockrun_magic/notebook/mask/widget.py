"""Paint a mask over a picture, in the notebook: one widget, whose other half is maskpad.js.

What is painted is the trait `_ink`, which both halves write: one bit a pixel, in rows of whole bytes, compressed
by zlib; no bytes at all is an empty mask. It has the picture's size, or where that is larger, 2048 pixels on its
longer side.
"""

from __future__ import annotations

import base64
import io
import zlib
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from blockrun_magic.errors import MissingDependency
from blockrun_magic.images.conversion import eight_bit
from blockrun_magic.images.preview import preview
from blockrun_magic.images.source import open_mask
from blockrun_magic.notebook.panel.still import leaves_a_still, still_style
from blockrun_magic.notebook.subshells import route_to_subshell

try:
    import anywidget
except ImportError as error:
    raise MissingDependency(
        "Painting a mask needs the library anywidget, which is not installed.",
        'Run `pip install "blockrun-magic[mask]"`, then reload this page.',
    ) from error

if TYPE_CHECKING:
    from IPython.core.display_functions import DisplayHandle
    from PIL import Image

__all__ = ["MaskPad"]

_INK_SIDE = 2048
_STILL_SIDE = 384
_STILLS = 4
_TINT = (240, 0, 80)
_WHITE_FROM = 128
_HERE = files(__package__)


class MaskPad(anywidget.AnyWidget):
    """A picture to paint a mask on: its `mask` is white where something was painted.

    `source` is a PIL image of any mode. It is shown as the value of a cell, or as a child of other widgets, as often as
    one likes. Observe `painted` to know of changes.
    """

    # As text: of a path, anywidget would watch the file, and keep every pad that was ever made.
    _esm = _HERE.joinpath("maskpad.js").read_text("utf-8")
    _css = _HERE.joinpath("maskpad.css").read_text("utf-8")

    _picture = traitlets.Unicode().tag(sync=True)
    _size = traitlets.List(traitlets.Int()).tag(sync=True)
    _ink_size = traitlets.List(traitlets.Int()).tag(sync=True)
    # Without the deserializer the memoryview that comes from the page is refused, and the mask stays empty.
    _ink = traitlets.Bytes().tag(sync=True, **ipywidgets.widgets.trait_types.bytes_serialization)
    painted = traitlets.Float(0.0, read_only=True, help="the part of the picture that is painted, 0 to 1")

    def __init__(self, source: Image.Image) -> None:
        from PIL import Image

        picture = eight_bit(source, "The picture")
        jpeg, _, _ = preview([picture])
        self._shown = Image.open(io.BytesIO(jpeg)).convert("RGB")
        self._last: tuple[bytes, Image.Image] | None = None
        self._stills: list[DisplayHandle] = []
        width, height = picture.size
        scale = min(1.0, _INK_SIDE / max(width, height))
        super().__init__(
            _picture=f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}",
            _size=[width, height],
            _ink_size=[max(1, round(width * scale)), max(1, round(height * scale))],
        )
        route_to_subshell(self)

    @property
    def mask(self) -> Image.Image:
        """A copy of the mask: mode L, exactly as large as the picture, 255 where it may change and 0 elsewhere."""
        ink = self._ink
        if self._last is None or self._last[0] is not ink:
            self._last = ink, _in_two_tones(_unpacked(ink, self._ink_size), self._size, "L")
        return self._last[1].copy()

    @property
    def image(self) -> Image.Image:
        """The mask, under the name by which whatever takes a picture looks for it."""
        return self.mask

    def load_mask(self, image: object) -> None:
        """Put `image` in the place of what is painted: whatever `--mask` takes but a URL, of the picture's size.

        What is half white or more counts as painted. Raises SourceError.
        """
        mask = open_mask(image, (self._size[0], self._size[1]))
        self._ink = zlib.compress(_in_two_tones(mask, self._ink_size, "1").tobytes())

    def close(self) -> None:
        """Take the pad out of the page and out of the kernel; its mask can still be read."""
        if self.comm is not None:
            self.unobserve_all()
            self._stills.clear()
            self.layout.close()
            super().close()

    def __repr__(self) -> str:
        width, height = self._size
        return f"MaskPad({width} x {height}, {self.painted:.1%} painted)"

    # -- what comes from the page

    @traitlets.validate("_ink")
    def _checked(self, proposal: Any) -> bytes:
        """Refuse what is not ink, and leave what was there: whoever can reach the kernel's socket can send anything."""
        _unpacked(proposal.value, self._ink_size)
        return bytes(proposal.value)

    @traitlets.observe("_ink")
    def _painted_on(self, _: Any) -> None:
        ink = _unpacked(self._ink, self._ink_size)
        self.set_trait("painted", sum(ink.histogram()[_WHITE_FROM:]) / (ink.width * ink.height))
        for still in self._stills:
            still.update(self._still(), raw=True)

    # -- how it is shown

    def _ipython_display_(self) -> None:
        """Show the pad, and before it the still that is left in the saved notebook (see `panel.still`)."""
        from IPython.display import DisplayHandle, display

        bundle = None if self.comm is None else self._repr_mimebundle_()
        if bundle is None or leaves_a_still():
            still = DisplayHandle()
            still.display(self._still(), raw=True)
            self._stills = [*self._stills[1 - _STILLS :], still]
        if bundle is not None:
            data, metadata = bundle
            display(data, metadata=metadata, raw=True)

    def _still(self) -> dict[str, str]:
        """Return the picture with what is painted on it, for viewers without this pad."""
        from PIL import Image

        from blockrun_magic.notebook.display.thumbnails import data_uri

        ink = _unpacked(self._ink, self._ink_size).convert("L").resize(self._shown.size)
        tinted = Image.blend(self._shown, Image.new("RGB", self._shown.size, _TINT), 0.6)
        picture = data_uri(Image.composite(tinted, self._shown, ink), _STILL_SIDE)
        words = f"A mask to paint, {self.painted:.1%} painted. Run the cell to paint again."
        return {
            "text/html": f'<div class="brm-maskpad-still">{still_style("brm-maskpad-still", "brm-maskpad")}'
            f'<img src="{picture}" alt="{escape(words)}" style="max-width:100%"><div>{escape(words)}</div></div>',
            "text/plain": repr(self),
        }


def _unpacked(ink: bytes, size: list[int]) -> Image.Image:
    """Return ink as a picture of mode 1 and of `size`; raises TraitError for bytes that are not that, and no more."""
    from PIL import Image

    width, height = size
    if not ink:
        return Image.new("1", (width, height))
    length = (width + 7) // 8 * height
    stream = zlib.decompressobj()
    try:
        bits = stream.decompress(ink, length + 1)
    except zlib.error as error:
        raise traitlets.TraitError(f"that is not ink: {error}") from error
    if len(bits) != length or not stream.eof:
        raise traitlets.TraitError(f"that is not ink of {width} x {height} pixels")
    return Image.frombytes("1", (width, height), bits)


def _in_two_tones(mask: Image.Image, size: list[int], mode: str) -> Image.Image:
    """Return a mask scaled to `size`, each pixel black or white."""
    from PIL import Image

    gray = mask.convert("L").resize((size[0], size[1]), Image.Resampling.BILINEAR)
    return gray.point([0] * _WHITE_FROM + [255] * (256 - _WHITE_FROM), mode)
