"""The mask painter: one widget; its half in the browser is web/maskpad.js.

The mask is the trait `_mask_bits`, which both halves write: one bit a pixel, in rows of whole bytes,
compressed by zlib; no bytes at all is an empty mask. It has the image's size, at most 2048 pixels on its longer side.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import traitlets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.images.conversion import eight_bit
from blockrun_magic.images.preview import preview
from blockrun_magic.images.source import find_source, open_mask
from blockrun_magic.notebook.mask.selection import select_bright, select_color
from blockrun_magic.notebook.subshells import route_to_subshell
from blockrun_magic.notebook.web.module import script, style

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MaskPad"]

_BITS_SIDE = 2048
_MAX_FEATHER = 100
_WHITE_FROM = 128


class MaskPad(anywidget.AnyWidget):
    """A pad to paint a mask on an image: `mask` is white where you paint.

    `source` is a PIL image of any mode; `namespace` holds the variables that a mask can be loaded from. Show the pad as
    the value of a cell, or as a child of other widgets, as often as you like. Observe `painted_fraction` for changes.
    """

    # As text: given a path, anywidget would watch the file and never release a pad.
    _esm = script("maskpad.js")
    _css = style("maskpad.css")

    _size = traitlets.List(traitlets.Int()).tag(sync=True)
    _bits_size = traitlets.List(traitlets.Int()).tag(sync=True)
    # Without the deserializer, the trait refuses the memoryview from the page, and the mask stays empty.
    _mask_bits = traitlets.Bytes().tag(sync=True, **ipywidgets.widgets.trait_types.bytes_serialization)
    _variables = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _message = traitlets.Unicode().tag(sync=True)
    feather = traitlets.Int(0, min=0, max=_MAX_FEATHER, help="width of the mask's soft edge, in pixels").tag(sync=True)
    painted_fraction = traitlets.Float(0.0, read_only=True, help="painted part of the image, 0 to 1")

    def __init__(self, source: Image.Image, namespace: Mapping[str, object] | None = None) -> None:
        self._image = eight_bit(source, "The image")
        self._namespace = namespace or {}
        self._jpeg, _, _ = preview([self._image])
        self._last: tuple[bytes, int, Image.Image] | None = None
        width, height = self._image.size
        scale = min(1.0, _BITS_SIDE / max(width, height))
        super().__init__(
            _size=[width, height],
            _bits_size=[max(1, round(width * scale)), max(1, round(height * scale))],
        )
        route_to_subshell(self)
        self.on_msg(self._receive)

    @property
    def mask(self) -> Image.Image:
        """A copy of the mask: mode L, exactly as large as the image, 255 where it may change and 0 elsewhere.

        With `feather`, the edge between the two has gray levels.
        """
        bits, feather = self._mask_bits, self.feather
        if self._last is None or self._last[0] is not bits or self._last[1] != feather:
            mask = _two_tones(_unpacked(bits, self._bits_size), self._size, "L")
            self._last = bits, feather, _feathered(mask, feather)
        return self._last[2].copy()

    @property
    def image(self) -> Image.Image:
        """The mask, under the attribute that `--mask` reads."""
        return self.mask

    def load_mask(self, image: object) -> None:
        """Replace the mask with `image`: anything that `--mask` takes except a URL, in the size of the source.

        Pixels that are at least half white count as painted. Raises SourceError.
        """
        self._set_mask(open_mask(image, (self._size[0], self._size[1])))

    def select_bright(self, threshold: int, *, dark: bool = False) -> None:
        """Paint the pixels that are at least as bright as `threshold` (0 to 255); with `dark`, at most as bright."""
        self._set_mask(select_bright(self._image, threshold, dark=dark))

    def select_color(self, x: int, y: int, tolerance: int) -> None:
        """Paint the pixels that differ from the color at `x`, `y` by at most `tolerance` (0 to 255)."""
        self._set_mask(select_color(self._image, x, y, tolerance))

    def _set_mask(self, mask: Image.Image) -> None:
        self._mask_bits = zlib.compress(_two_tones(mask, self._bits_size, "1").tobytes())

    def offer_variables(self, names: Sequence[str]) -> None:
        """Offer these variables to load a mask from."""
        self._variables = list(names)

    def close(self) -> None:
        """Remove the pad from the page and from the kernel; its mask can still be read."""
        if self.comm is not None:
            self.unobserve_all()
            self.layout.close()
            super().close()
            # ipywidgets hides closed widgets; a closed pad still shows its mask
            self.__dict__.pop("_repr_mimebundle_", None)

    def __repr__(self) -> str:
        width, height = self._size
        return f"MaskPad({width} x {height}, {self.painted_fraction:.1%} painted)"

    # -- messages from the page

    @traitlets.validate("_mask_bits")
    def _checked(self, proposal: Any) -> bytes:
        """Refuse bytes that are not a mask, and keep the last one: any client of the kernel's socket can send them."""
        _unpacked(proposal.value, self._bits_size)
        return bytes(proposal.value)

    @traitlets.observe("_mask_bits")
    def _on_painted(self, _: Any) -> None:
        bits = _unpacked(self._mask_bits, self._bits_size)
        self.set_trait("painted_fraction", sum(bits.histogram()[_WHITE_FROM:]) / (bits.width * bits.height))

    def _receive(self, _: object, content: Any, _buffers: object) -> None:
        if not isinstance(content, dict):
            return
        kind = content.get("type")
        if kind == "image":  # as a message: a saved notebook does not contain the image
            self.send({"type": "image"}, buffers=[self._jpeg])
            return
        try:
            self._select(kind, content)
        except (BlockrunError, traitlets.TraitError, TypeError, ValueError) as error:
            self._message = str(getattr(error, "message", "The selection failed."))
        else:
            self._message = ""

    def _select(self, kind: object, content: dict[str, Any]) -> None:
        if kind == "load":
            self.load_mask(find_source(str(content["name"]), self._namespace))
        elif kind in ("bright", "dark"):
            self.select_bright(int(content["threshold"]), dark=kind == "dark")
        elif kind == "color":
            x, y = content["at"]
            self.select_color(int(x), int(y), int(content["threshold"]))

    # -- display

    def _repr_mimebundle_(self, **_: Any) -> Any:
        """Return the widget and, for viewers without widgets, the mask itself as an image."""
        file = io.BytesIO()
        self.mask.save(file, "png", optimize=True)
        text = {"image/png": base64.b64encode(file.getvalue()).decode("ascii"), "text/plain": repr(self)}
        if self.comm is None:
            return text
        data, metadata = super()._repr_mimebundle_() or ({}, {})
        return {**data, **text}, metadata


def _unpacked(bits: bytes, size: list[int]) -> Image.Image:
    """Return mask bits as an image of mode 1 and of `size`; raises TraitError for any other bytes."""
    from PIL import Image

    width, height = size
    if not bits:
        return Image.new("1", (width, height))
    length = (width + 7) // 8 * height
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(bits, length + 1)
    except zlib.error as error:
        raise traitlets.TraitError(f"these are not mask bits: {error}") from error
    if len(rows) != length or not stream.eof:
        raise traitlets.TraitError(f"these are not mask bits of {width} x {height} pixels")
    return Image.frombytes("1", (width, height), rows)


def _two_tones(mask: Image.Image, size: list[int], mode: str) -> Image.Image:
    """Return a mask scaled to `size`, each pixel black or white."""
    from PIL import Image

    gray = mask.convert("L").resize((size[0], size[1]), Image.Resampling.BILINEAR)
    return gray.point([0] * _WHITE_FROM + [255] * (256 - _WHITE_FROM), mode)


def _feathered(mask: Image.Image, radius: int) -> Image.Image:
    if not radius:
        return mask
    from PIL import ImageFilter

    return mask.filter(ImageFilter.GaussianBlur(radius / 2))
