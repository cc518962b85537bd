"""Masks: each common form gives the same upload; a mask with two meanings is refused, and the error names both."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blockrun_magic.errors import SourceError
from blockrun_magic.images.conversion import to_upload
from blockrun_magic.images.source import find_source, open_mask, read_mask, read_upload
from harness import ROOT
from harness.corpus import SIZE, card, encoded

TOP = np.zeros((SIZE[1], SIZE[0]), bool)
TOP[: SIZE[1] // 2] = True
ADVICE = re.compile(r"`([^`]+)`")


async def no_fetch(url: str) -> bytes:
    """Fail: the test needs no network."""
    raise AssertionError(url)


def photo() -> Image.Image:
    """Return an image without repeated regions and without black or white."""
    ramp = Image.linear_gradient("L").resize(SIZE).point(lambda level: 40 + level * 170 // 255)
    return Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp.point(lambda level: level // 2)))


def sent(mask: object, source: Image.Image | None = None, text: str = "") -> Image.Image:
    """Return the mask that is uploaded with `source`."""
    upload = asyncio.run(read_mask(mask, to_upload(source or photo()), no_fetch, text=text))
    image = Image.open(io.BytesIO(upload.data))
    assert (image.format, image.mode) == ("PNG", "L")
    return image


def refusal(mask: object, source: Image.Image | None = None) -> SourceError:
    """Return the error of a refused mask."""
    with pytest.raises(SourceError) as caught:
        sent(mask, source)
    assert len(str(caught.value).splitlines()) == 2
    return caught.value


def layer(color: tuple[int, ...], hidden: tuple[int, int, int] = (0, 0, 0), below: int = 0) -> Image.Image:
    """Return a transparent layer with a painted upper half; `below` is the alpha of the lower half."""
    image = Image.new("RGBA", SIZE, (*hidden, below))
    image.paste(color, (0, 0, SIZE[0], SIZE[1] // 2))
    return image


def holed(image: Image.Image) -> Image.Image:
    """Return an image in OpenAI's form: transparent where it may change, with its colors still stored."""
    image = image.convert("RGB").convert("RGBA")
    image.putalpha(Image.fromarray(~TOP).convert("L"))
    return image


def faint_black() -> Image.Image:
    """Return a mask as in OpenAI's cookbook: alpha is only 1 of 255 where the image must not change."""
    image = Image.new("RGBA", SIZE, (0, 0, 0, 1))
    image.paste((0, 0, 0, 0), (0, 0, SIZE[0], SIZE[1] // 2))
    return image


def painted(color: str) -> Image.Image:
    """Return the photo with a painted upper half."""
    return Image.composite(Image.new("RGB", SIZE, color), photo(), Image.fromarray(TOP))


def palette(*colors: tuple[int, int, int]) -> Image.Image:
    """Return class labels as a palette image: 1 in the upper half, 0 in the lower."""
    image = Image.fromarray(TOP.astype("uint8")).convert("P")
    image.putpalette([value for color in colors for value in color])
    return image


def labels(*values: int) -> Image.Image:
    """Return horizontal stripes with these values."""
    array = np.repeat(np.array(values, "uint8"), -(-SIZE[1] // len(values)))[: SIZE[1]]
    return Image.fromarray(np.repeat(array[:, None], SIZE[0], axis=1))


ALIKE: dict[str, Any] = {
    "bools": TOP,
    "0 and 1": TOP.astype("uint8"),
    "0 and 1 as float": TOP.astype("float32"),
    "0 and 5 as int64": TOP * 5,
    "-1 and 1": TOP * 2.0 - 1,
    "PIL of 0 and 1": Image.fromarray(TOP.astype("uint8")),
    "PNG of 0 and 1": encoded(Image.fromarray(TOP.astype("uint8")), "PNG"),
    "PIL of 0 and 100": Image.fromarray(TOP.astype("uint8") * 100),
    "PIL of mode 1": Image.fromarray(TOP),
    "PIL of mode I": Image.fromarray(TOP.astype("int32")),
    "PIL of mode F": Image.fromarray(TOP.astype("float32")),
    "PIL of 16 bits, 0 and 1": Image.fromarray(TOP.astype("uint16")),
    "PIL of 16 bits": Image.fromarray(TOP.astype("uint16") * 65535),
    "PNG of 16 bits, 0 and 1": encoded(Image.fromarray(TOP.astype("uint16")), "PNG"),
    "RGB": Image.fromarray(TOP).convert("RGB"),
    "RGB array of 0 and 1": np.dstack([TOP.astype("uint8")] * 3),
    "opaque RGBA": Image.fromarray(TOP).convert("RGBA"),
    "gray in a JPEG": encoded(Image.fromarray(TOP).convert("RGB"), "JPEG", quality=100),
    "palette of black and white": palette((0, 0, 0), (255, 255, 255)),
    "palette of black and red": palette((0, 0, 0), (128, 0, 0)),
    "red on black": Image.composite(Image.new("RGB", SIZE, "red"), Image.new("RGB", SIZE), Image.fromarray(TOP)),
    "white paint on nothing": layer((255, 255, 255, 255)),
    "white paint, hidden colors": layer((255, 255, 255, 255), hidden=(255, 0, 255)),
    "half-transparent white brush": layer((255, 255, 255, 128)),
    "half-transparent black brush": layer((0, 0, 0, 128)),
    "half-transparent red brush": layer((255, 0, 0, 110)),
    "half-transparent red brush on hidden white": layer((255, 0, 0, 110), hidden=(255, 255, 255)),
    "OpenAI: the photo with a hole": holed(photo()),
    "OpenAI: black with a hole": holed(Image.new("RGB", SIZE)),
    "OpenAI's cookbook: black of alpha 1 with a hole": faint_black(),
    "black of alpha 254 with a hole": layer((0, 0, 0, 0), (0, 0, 0), below=254),
    "one mask as a batch": TOP[None],
    "one mask as a batch of one channel": TOP[None, None],
    "the photo, painted red": painted("red"),
    "the photo, painted white": painted("white"),
    "OpenAI: another photo with a hole": holed(photo().rotate(180)),
    "half the size": Image.fromarray(TOP).resize((SIZE[0] // 2, SIZE[1] // 2)),
    "OpenAI, half the size": holed(photo()).resize((SIZE[0] // 2, SIZE[1] // 2), Image.Resampling.NEAREST),
    "twice the size": Image.fromarray(TOP).resize((SIZE[0] * 2, SIZE[1] * 2)),
}


@pytest.mark.parametrize("mask", ALIKE.values(), ids=ALIKE)
def test_a_mask_is_white_where_the_image_may_change(mask: object) -> None:
    """Each of these masks allows changes in the upper half only."""
    values = np.asarray(sent(mask))

    assert TOP.shape == values.shape
    assert [True] * 2 == [bool((values[TOP] >= 250).all()), bool((values[~TOP] <= 5).all())]


def test_a_photo_of_one_color_with_a_hole_is_read_by_the_photo() -> None:
    """A blue image with a hole is a mask for a blue source, and is refused for another source."""
    blue = Image.new("RGB", SIZE, (40, 60, 200))
    values = np.asarray(sent(holed(blue), blue))

    assert (values[TOP] == 255).all()
    assert refusal(holed(blue))


def test_soft_edges_stay_soft() -> None:
    """Gray levels of a mask are not changed."""
    soft = Image.linear_gradient("L").resize(SIZE)

    assert soft.tobytes() == sent(soft).tobytes()


def magenta() -> Image.Image:
    """Return an image with one color on black."""
    return Image.composite(Image.new("RGB", SIZE, "magenta"), Image.new("RGB", SIZE), Image.fromarray(TOP))


SOFT: dict[str, Any] = {
    "a good JPEG": encoded(magenta(), "JPEG", quality=95),
    "a small JPEG": encoded(magenta(), "JPEG", quality=60),
    "smooth edges": magenta().resize((20, 20), Image.Resampling.BICUBIC).resize(SIZE),
    "the photo, painted, as JPEG": encoded(painted("blue"), "JPEG", quality=90),
}


@pytest.mark.parametrize("mask", SOFT.values(), ids=SOFT)
def test_a_colored_mask_may_have_soft_edges(mask: object) -> None:
    """Only the edge has gray levels."""
    values, edge = np.asarray(sent(mask)), SIZE[1] // 2

    assert [True] * 2 == [bool((values[: edge - 6] >= 230).all()), bool((values[edge + 6 :] <= 5).all())]


def upper(color: str, lower: str) -> Image.Image:
    """Return an image of two colors, one in each half."""
    return Image.composite(Image.new("RGB", SIZE, color), Image.new("RGB", SIZE, lower), Image.fromarray(TOP))


def halves() -> Image.Image:
    """Return a mask whose white half and opaque half differ."""
    left = Image.new("L", SIZE)
    left.paste(255, (0, 0, SIZE[0] // 2, SIZE[1]))
    return Image.merge("LA", [left, Image.fromarray(TOP).convert("L")])


REFUSED: dict[str, Any] = {
    "black": Image.new("L", SIZE),
    "no label": np.zeros_like(TOP),
    "dark everywhere": Image.linear_gradient("L").resize(SIZE).point(lambda level: 32 + level // 4),
    "one dark level": Image.new("L", SIZE, 1),
    "labels of three classes": labels(0, 1, 2),
    "labels with a border class": labels(0, 1, 2, 255),
    "labels of COCO": labels(0, 17, 141),
    "pink and gray classes": Image.composite(upper("pink", "gray"), Image.new("RGB", SIZE), labels(255, 255, 255, 0)),
    "red on white, with soft edges": upper("red", "white").resize((20, 20), Image.Resampling.BICUBIC).resize(SIZE),
    "dark red on a little blue": upper("darkred", "navy"),
    "labels of three classes in a palette": labels(0, 1, 2).convert("P", palette=Image.Palette.ADAPTIVE),
    "logits": np.linspace(-3, 4, TOP.size).reshape(TOP.shape),
    "all red": Image.new("RGB", SIZE, "red"),
    "another photo": card(),
    "red and blue": upper("red", "blue"),
    "red on white": upper("red", "white"),
    "opaque red paint on nothing": layer((255, 0, 0, 255)),
    "gray and partly transparent": halves(),
    "transparent everywhere": Image.new("RGBA", SIZE),
    "another shape": Image.new("L", (SIZE[0], SIZE[1] + 20), 255),
    "lying": Image.fromarray(TOP).transpose(Image.Transpose.ROTATE_90),
    "lying array": np.ascontiguousarray(TOP.T),
    "three candidates": np.stack([TOP] * 3),
    "a batch of candidates": np.stack([np.stack([TOP] * 3)]),
}


@pytest.mark.parametrize("mask", REFUSED.values(), ids=REFUSED)
def test_a_mask_that_cannot_be_meant_is_refused(mask: object) -> None:
    """A mask that changes nothing or has two meanings is refused in an error that mentions the mask."""
    assert "mask" in refusal(mask).message


def test_the_source_is_no_mask_of_itself() -> None:
    """The source image as its own mask is refused in color, in gray, as an array, as a JPEG and scaled."""
    again = encoded(photo().convert("L"), "JPEG")
    smaller = photo().convert("L").resize((SIZE[0] // 2, SIZE[1] // 2))
    for mask in (photo(), photo().convert("L"), np.asarray(photo()), photo().convert("RGBA"), again, smaller):
        assert refusal(mask).message


def test_both_readings_are_named() -> None:
    """A mask with two meanings is refused with a line of Python for each."""
    both = ("labels of three classes", "red and blue", "red on white", "opaque red paint on nothing", "another photo")
    both += ("labels of COCO", "red on white, with soft edges")

    assert [2] * len(both) == [len(ADVICE.findall(refusal(REFUSED[name]).hint)) for name in both]


# Advice


def advised(error: SourceError) -> list[str]:
    """Return the lines of Python in an error's advice."""
    return [code for code in ADVICE.findall(error.hint) if "=" in code and "%config" not in code]


def large() -> Image.Image:
    """Return a gray image with too many pixels."""
    return Image.new("L", (5000, 4000))


SOURCES: dict[str, Callable[[np.ndarray[Any, Any]], object]] = {
    "channels first": lambda values: np.moveaxis(values, -1, 0),
    "channels first as floats": lambda values: np.moveaxis(values / 255, -1, 0),
    "a batch": lambda values: np.stack([values] * 2),
    "a batch, channels first": lambda values: np.stack([np.moveaxis(values, -1, 0)] * 2),
    "gray and alpha": lambda values: values[..., :2],
    "PIL of floats over 255": lambda values: Image.fromarray(values[..., 0].astype("float32") * 4),
    "PIL of floats with NaN": lambda _: Image.fromarray(np.full((8, 8), np.nan, "float32")),
    "PIL of negative integers": lambda values: Image.fromarray(values[..., 0].astype("int32") - 100),
    "over 255": lambda values: values.astype("int32") * 2,
    "below 0": lambda values: values.astype("float32") / 255 - 0.2,
    "NaN": lambda _: np.full((8, 8), np.nan),
    "overshoot": lambda values: values / 255 * 1.4,
    "too large": lambda _: large().convert("RGB"),
    "too large and gray": lambda _: large(),
    "too large an array": lambda _: np.asarray(large()),
    "too large a file": lambda _: encoded(large(), "PNG"),
}
"""Values that are refused as sources with advice; each is made from the values of an image."""


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("variable", ["image", "frame"])
def test_advice_on_a_source_works_when_it_is_pasted(name: str, variable: str) -> None:
    """Each line of Python in the error turns the value into a valid source."""
    value = SOURCES[name](np.asarray(card()))
    with pytest.raises(SourceError) as caught:
        asyncio.run(read_upload(value, no_fetch, text=variable))
    lines = advised(caught.value)

    assert lines
    for line in lines:
        namespace = {variable: value}
        exec(line, namespace)  # noqa: S102  runs the advice like the user
        assert asyncio.run(read_upload(namespace[variable], no_fetch)).data


def save(mask: Image.Image, folder: Path) -> Path:
    """Save the mask to a file and return its path."""
    mask.save(folder / "m.png")
    return folder / "m.png"


HOLDERS: dict[str, Callable[[Image.Image, Path], object]] = {
    "PIL": lambda mask, _: mask,
    "array": lambda mask, _: np.asarray(mask),
    "bytes": lambda mask, _: encoded(mask, "PNG"),
    "path": save,
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", [name for name, mask in REFUSED.items() if isinstance(mask, Image.Image)])
def test_advice_on_a_mask_works_when_it_is_pasted(name: str, holder: str, tmp_path: Path) -> None:
    """Each line of Python in the error gives a valid mask, whether the refused one was an object or a file."""
    mask = HOLDERS[holder](REFUSED[name], tmp_path)
    text = str(mask) if isinstance(mask, Path) else "mask"
    with pytest.raises(SourceError) as caught:
        sent(mask, text=text)
    for line in advised(caught.value):
        namespace = {} if isinstance(mask, Path) else {"mask": mask}
        exec(line, namespace)  # noqa: S102  runs the advice like the user
        assert SIZE == sent(namespace["mask"]).size


@pytest.mark.parametrize("name", [name for name, mask in REFUSED.items() if isinstance(mask, np.ndarray)])
def test_advice_on_an_array_works_when_it_is_pasted(name: str) -> None:
    """Each line of Python gives a valid mask for arrays with values that no file can have."""
    namespace: dict[str, Any] = {"masks": {"sky": REFUSED[name]}}
    with pytest.raises(SourceError) as caught:
        sent(find_source('masks["sky"]', namespace), text='masks["sky"]')
    for line in advised(caught.value):
        exec(line, namespace)  # noqa: S102  runs the advice like the user
        assert SIZE == sent(namespace["mask"]).size


def test_advice_on_scores_in_a_pil_image_works_when_it_is_pasted() -> None:
    """A PIL image of floats gets the same advice as its array."""
    namespace: dict[str, Any] = {"mask": Image.fromarray(REFUSED["logits"].astype("float32"))}
    lines = advised(refusal(namespace["mask"]))
    for line in lines:
        exec(line, namespace)  # noqa: S102  runs the advice like the user
        assert SIZE == sent(namespace["mask"]).size

    assert lines


def test_a_mask_that_is_loaded_into_a_painter_may_be_empty() -> None:
    """A painter starts with an empty mask, so black is accepted; another shape is still refused."""
    assert (0, 0) == open_mask(Image.new("L", SIZE), SIZE).getextrema()
    with pytest.raises(SourceError):
        open_mask(Image.new("L", (9, 5)), SIZE)


# The page "Your images and masks"


def drawn() -> Any:
    """Return the script that draws the page's images."""
    spec = importlib.util.spec_from_file_location("draw_masks", ROOT / "docs" / "draw_masks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = drawn()


@pytest.mark.parametrize("name", PAGE.taken())
def test_what_the_page_shows_as_a_mask_is_one(name: str) -> None:
    """Each image under "What a mask means" marks the sky and is on the page."""
    assert PAGE.sky().tobytes() == sent(PAGE.taken()[name], PAGE.photo()).tobytes()
    assert f"masks/{name}.png" in (ROOT / "docs" / "images-and-masks.md").read_text("utf-8")


@pytest.mark.parametrize("name", PAGE.refused())
def test_what_the_page_shows_as_refused_is(name: str) -> None:
    """Each image under "Masks that are refused" is refused and is on the page."""
    assert refusal(PAGE.refused()[name], PAGE.photo())
    assert f"masks/{name}.png" in (ROOT / "docs" / "images-and-masks.md").read_text("utf-8")
