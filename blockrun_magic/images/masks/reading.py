"""Reading of masks: each form of "edit here" becomes a gray mask, white where the image may change.

There are two conventions: white means edit; or, as at OpenAI, transparent means edit, over the image itself or over
black. A mask with two readings is refused, with a line of Python for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from blockrun_magic.errors import SourceError
from blockrun_magic.images.masks.colors import (
    DARK,
    MAX_SPREAD,
    Color,
    brightness,
    color_on_black,
    is_one_color,
    nearer_code,
    paint_on_photo,
    spread_of,
    two_colors,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from blockrun_magic.images.references import Subject

__all__ = ["check_mask_shape", "mask_from", "scale_mask"]

_WHITE = 255
_HALF = 128
_BRIGHT = 224
_MAX_DEVIATION = 8
"""The largest average difference of a copy from the image: lossy formats change it a little."""
_MAX_ARTIFACT, _MAX_LOSS = 48, 2
"""The largest and the average difference of a mask from the image that is the image itself."""
_VISIBLE_FROM, _OPAQUE_FROM = 32, 250
_MAX_DISTORTION = 0.01
_CLASSES = 32
_MAX_COLORS = 65_536
_SHOWN = 4


def check_mask_shape(mask: tuple[int, int], size: tuple[int, int], subject: Subject) -> None:
    """Raise SourceError unless a mask of one size (pixels) fits an image of the other: the same, or in proportion."""
    if _in_proportion(mask, size):
        return
    message = f"{subject.words} is {mask[0]} x {mask[1]}, but the image, upright, is {size[0]} x {size[1]}."
    if _in_proportion((mask[1], mask[0]), size):
        left, right = (
            subject.pil_code(f"{{}}.transpose(Image.Transpose.ROTATE_{degrees})", "from PIL import Image; ")
            for degrees in (90, 270)
        )
        raise SourceError(message, f"Turn it left: `{left}`, or right: `{right}`")
    code = subject.pil_code(f"ImageOps.pad({{}}, {size})", "from PIL import ImageOps; ")
    raise SourceError(message, f"Make it the same shape; this scales it and adds black at the edges: `{code}`")


def _in_proportion(mask: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether one size is the other one, scaled and rounded to whole pixels."""
    off = min(abs(mask[0] - size[0] * mask[1] / size[1]), abs(mask[1] - size[1] * mask[0] / size[0]))
    is_close = abs(mask[0] * size[1] / (mask[1] * size[0]) - 1) <= _MAX_DISTORTION
    return off < 0.5 or (off < 1 and is_close)


def scale_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a mask of mode L in `size`; one of two levels keeps them."""
    from PIL import Image

    if mask.size == size:
        return mask
    soft = len(_levels(mask)) > 2
    return mask.resize(size, Image.Resampling.BILINEAR if soft else Image.Resampling.NEAREST)


def mask_from(
    mask: Image.Image, subject: Subject, photo: Image.Image | None = None, *, may_be_empty: bool = False
) -> Image.Image:
    """Return an eight-bit mask (L, RGB or RGBA) as mode L, white where the image may change.

    `photo` is the image that it belongs to, eight bits and of the same shape. Raises SourceError for a mask with two
    possible meanings, for one that changes nothing, unless it `may_be_empty`, and for the photo itself.
    """
    reading = _Reading(mask, subject, None if photo is None else _beside(photo, mask))
    gray = reading.gray()
    levels = _levels(gray)
    if levels == [0] and may_be_empty:
        return gray
    if levels == [0]:
        raise SourceError(f"{subject.words} is all black: nothing is painted yet.", "Paint the area to edit white.")
    if len(levels) == 2:
        return gray.point([0 if level <= levels[0] else _WHITE for level in range(256)])
    _check_levels(levels, subject)
    return gray


def _beside(photo: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the photo as RGB in the mask's size."""
    return photo.convert("RGB") if photo.size == mask.size else photo.convert("RGB").resize(mask.size)


def _levels(gray: Image.Image) -> list[int]:
    return [level for level, count in enumerate(gray.histogram()) if count]


def _check_levels(levels: Sequence[int], subject: Subject) -> None:
    """Raise SourceError for class labels of several classes, and for a mask without anything bright."""
    labels = [level for level in levels if level]
    are_small = labels[0] < _CLASSES and all(level < _CLASSES or level == _WHITE for level in levels)
    are_few = (
        levels[0] == 0 and len(levels) <= _CLASSES and _HALF <= levels[-1] < _BRIGHT
    )  # COCO and ADE20K have up to 150
    if len(levels) > 2 and (are_small or are_few):
        shown = ", ".join(map(str, levels[:_SHOWN])) + (", …" if len(levels) > _SHOWN else "")
        single, every = (
            subject.pil_code(f"{{}}.convert('L').point(lambda level: 255 * (level {test}))")
            for test in (f"== {labels[0]}", "> 0")
        )
        raise SourceError(
            f"{subject.words} has the values {shown}, which look like class labels: one class may change, or all.",
            f"One class: `{single}`. All: `{every}`",
        )
    if levels[-1] < _HALF:
        code = subject.pil_code("{}.convert('L').point(lambda level: 255 * (level > 0))")
        raise SourceError(
            f"{subject.words} is dark everywhere, so that nothing may change: its brightest value is {levels[-1]}, "
            "and white is 255.",
            f"If everything but black may change: `{code}`",
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    """One mask, and the possible meanings of its transparency and colors."""

    mask: Image.Image
    subject: Subject
    photo: Image.Image | None

    def gray(self) -> Image.Image:
        """Return the mask as gray levels, white where the image may change."""
        if self.mask.mode == "RGBA":
            lowest, highest = cast("tuple[int, int]", self.mask.getchannel("A").getextrema())
            if highest == 0:
                raise self._two_readings(
                    "is transparent everywhere",
                    ("everything may change", "Image.new('L', {}.size, 255)"),
                    ("nothing is painted yet", "Image.new('L', {}.size, 0)"),
                    paint=True,
                )
            if lowest != highest:
                return self._from_alpha(highest)
        return self._from_colors(self.mask.convert("RGB"))

    # -- transparency

    def _from_alpha(self, highest: int) -> Image.Image:
        """Return the meaning of a varying alpha: the photo or black with holes, or paint on nothing."""
        from PIL import ImageChops

        alpha = self.mask.getchannel("A")
        transparent = ImageChops.invert(alpha)
        if self._shows_photo(alpha):
            return transparent
        colors = self._visible_colors()
        if colors is not None and is_one_color(colors):
            return self._from_paint(colors, alpha, highest)
        if colors is None or any(spread_of(color) > MAX_SPREAD for color in colors):
            return transparent  # another photo with holes
        raise self._two_readings(
            "is gray and partly transparent",
            ("white may change", "Image.composite({0}.convert('L'), Image.new('L', {0}.size), {0}.getchannel('A'))"),
            ("what is transparent may change", "ImageChops.invert({}.getchannel('A'))"),
        )

    def _from_paint(self, colors: list[Color], alpha: Image.Image, highest: int) -> Image.Image:
        """Return the meaning of one color under a varying alpha: a brush, or black with holes."""
        from PIL import ImageChops

        is_black = max(map(max, colors)) <= DARK
        if highest < _WHITE:
            alpha = alpha.point([min(_WHITE, round(level * _WHITE / highest)) for level in range(256)])
            is_brush = highest < _OPAQUE_FROM and not (is_black and highest < _VISIBLE_FROM)
            if is_brush:  # half-transparent; OpenAI's cookbook has black of alpha 1, which is invisible
                return alpha
        if min(map(min, colors)) >= _BRIGHT:
            return ImageChops.multiply(alpha, self.mask.convert("RGB").convert("L"))
        if is_black:
            return ImageChops.invert(alpha)
        raise self._two_readings(
            "is of one color and partly transparent",
            ("what is painted may change", "{}.getchannel('A')"),
            ("what is transparent may change", "ImageChops.invert({}.getchannel('A'))"),
        )

    def _shows_photo(self, alpha: Image.Image) -> bool:
        """Return whether the visible part of the mask is the photo, as in OpenAI's guide."""
        from PIL import ImageChops, ImageStat

        if self.photo is None:
            return False
        visible = alpha.point([0] * _VISIBLE_FROM + [_WHITE] * (256 - _VISIBLE_FROM))
        if visible.getbbox() is None:
            return False
        difference = ImageChops.difference(self.mask.convert("RGB"), self.photo)
        return max(ImageStat.Stat(difference, visible).mean) <= _MAX_DEVIATION and self._varies(self.photo, visible)

    @staticmethod
    def _varies(photo: Image.Image, visible: Image.Image) -> bool:
        """Return whether the photo has other colors there than white or black, which could be paint."""
        from PIL import ImageStat

        extrema = ImageStat.Stat(photo, visible).extrema
        return not (all(low >= _BRIGHT for low, _ in extrema) or all(high <= DARK for _, high in extrema))

    def _visible_colors(self) -> list[Color] | None:
        """Return the visible colors, faint ones only if there are no others; None for very many."""
        colors = cast("list[tuple[int, tuple[int, int, int, int]]] | None", self.mask.getcolors(_MAX_COLORS))
        if colors is None:
            return None
        strong = [color[:3] for _, color in colors if color[3] >= _VISIBLE_FROM]
        return strong or [color[:3] for _, color in colors if color[3]]

    # -- colors

    def _from_colors(self, rgb: Image.Image) -> Image.Image:
        """Return the meaning of an opaque mask: gray unchanged, or one color on black."""
        from PIL import ImageChops

        if self._is_photo(rgb):
            raise SourceError(
                f"{self.subject.words} is the image itself.",
                "A mask is black, with white where the image may change; or the image, transparent where it may.",
            )
        red, green, blue = rgb.split()
        darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
        spread = ImageChops.subtract(brightness(rgb), darkest)
        if cast("tuple[int, int]", spread.getextrema())[1] <= MAX_SPREAD:
            return rgb.convert("L")
        colors = cast("list[tuple[int, Color]] | None", rgb.getcolors(2))
        if colors is not None and any(max(color) <= DARK for _, color in colors):
            return brightness(rgb).point([0] * (DARK + 1) + [_WHITE] * (255 - DARK))
        read = color_on_black(rgb) or (self.photo and paint_on_photo(rgb, self.photo))
        if read:
            return read
        raise self._colored(rgb)

    def _is_photo(self, rgb: Image.Image) -> bool:
        """Return whether the mask is the photo, in color or gray, scaled or saved again; a photo has two colors."""
        from PIL import ImageChops, ImageStat

        if self.photo is None:
            return False
        gray = self.photo.convert("L")
        difference = ImageChops.difference(rgb.convert("L"), gray)
        (lowest, highest), (_, largest) = cast(
            "tuple[tuple[int, int], ...]", (gray.getextrema(), difference.getextrema())
        )
        return lowest < highest and largest <= _MAX_ARTIFACT and max(ImageStat.Stat(difference).mean) <= _MAX_LOSS

    def _colored(self, rgb: Image.Image) -> SourceError:
        """Return the error for a mask in color that is neither of one color on black nor a painted photo."""
        colors = rgb.getcolors(1)
        if colors is not None:
            white = self.subject.pil_code("Image.new('L', {}.size, 255)", "from PIL import Image; ")
            return SourceError(
                f"{self.subject.words} is {colors[0][1]} everywhere; a mask is gray, or has transparency.",
                f"If everything may change: `{white}`",
            )
        pair = two_colors(rgb)
        if pair is not None:
            readings = ((f"{color} may change", nearer_code(color, other)) for color, other in (pair, pair[::-1]))
            return self._two_readings("has two colors", *readings, numpy=True)
        half = cast("tuple[int, int]", rgb.convert("L").getextrema())[1] // 2
        bright = self.subject.pil_code(f"{{}}.convert('L').point(lambda level: 255 * (level > {half}))")
        every = self.subject.pil_code("{}.convert('L').point(lambda level: 255 * (level > 0))")
        return SourceError(
            f"{self.subject.words} is in color: bright areas may change, or everything but black.",
            f"Bright areas: `{bright}`. All but black: `{every}`",
        )

    def _two_readings(
        self, what: str, first: tuple[str, str], second: tuple[str, str], *, numpy: bool = False, paint: bool = False
    ) -> SourceError:
        """Return the error for a mask with two possible meanings, with code for each."""
        imports = "import numpy as np; " if numpy else "from PIL import Image, ImageChops; "
        (one, one_code), (other, other_code) = first, second
        message = f"{self.subject.words} {what}, so it can mean two things: {one}, or {other}."
        if paint:
            return SourceError(message, f"If everything may change: `{self.subject.pil_code(one_code, imports)}`")
        return SourceError(
            message,
            f"The first: `{self.subject.pil_code(one_code, imports)}`. "
            f"The second: `{self.subject.pil_code(other_code, imports)}`",
        )
