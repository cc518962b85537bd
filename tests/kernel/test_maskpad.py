"""A mask painted by hand: messages of the page, and the resulting mask."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import re
import tracemalloc
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops
from traitlets import TraitError

import blockrun_magic
from blockrun_magic.errors import BlockrunError, SourceError
from blockrun_magic.gateway.request import Upload
from blockrun_magic.images.conversion import to_upload
from blockrun_magic.images.source import find_source, is_image_like, open_source, read_mask
from blockrun_magic.notebook.mask.widget import MaskPad
from blockrun_magic.notebook.web.module import script, style
from blockrun_magic.practice.server.server import PracticeServer
from harness.kernel import Kernel, made, paid_to

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def pad() -> Iterator[MaskPad]:
    """Return a pad over an image with a width that is not a multiple of 8."""
    made = MaskPad(Image.new("RGB", (21, 13), "navy"))
    yield made
    made.close()


def ink(mask: Image.Image) -> bytes:
    """Return the page's message for `mask`, an image of mode 1."""
    return zlib.compress(mask.tobytes())


def spot(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Return a mask of mode 1 with white pixels inside `box`."""
    mask = Image.new("1", size)
    mask.paste(1, box)
    return mask


def paint(pad: MaskPad, content: bytes) -> None:
    """Set the painted pixels as a message of the page does, and raise errors that ipywidgets only logs."""
    pad.set_state({"_mask_bits": memoryview(content)})


def masked(source: object, size: tuple[int, int]) -> Upload:
    """Return the mask that `--mask` sends; a download is an error."""

    async def fetch(url: str) -> bytes:
        raise AssertionError(url)

    return asyncio.run(read_mask(source, to_upload(Image.linear_gradient("L").resize(size)), fetch))


# The painted mask


def test_what_is_painted_is_white(pad: MaskPad) -> None:
    """The mask has mode L and the image's size, and is white exactly where the page was painted."""
    painted = spot((21, 13), (3, 2, 10, 9))
    paint(pad, ink(painted))

    assert ("L", (21, 13)) == (pad.mask.mode, pad.mask.size)
    assert painted.convert("L").tobytes() == pad.mask.tobytes()
    assert pad.mask.tobytes() == pad.image.tobytes()
    assert 49 / (21 * 13) == pad.painted_fraction
    assert "MaskPad(21 x 13, 17.9% painted)" == repr(pad)


def test_nothing_is_painted_at_first(pad: MaskPad) -> None:
    """A new pad has a black mask of the image's size."""
    assert [(21 * 13, 0)] == pad.mask.getcolors()
    assert 0.0 == pad.painted_fraction


def test_the_mask_is_a_copy(pad: MaskPad) -> None:
    """A change to the returned mask does not change the pad."""
    pad.mask.paste(255, (0, 0, 21, 13))

    assert [(21 * 13, 0)] == pad.mask.getcolors()


def test_changes_can_be_observed(pad: MaskPad) -> None:
    """`painted_fraction` is updated after the mask and cannot be set directly."""
    seen: list[tuple[float, Any]] = []
    pad.observe(lambda change: seen.append((change["new"], pad.mask.getbbox())), "painted_fraction")
    paint(pad, ink(spot((21, 13), (0, 0, 21, 13))))
    paint(pad, ink(Image.new("1", (21, 13))))

    assert [(1.0, (0, 0, 21, 13)), (0.0, None)] == seen
    with pytest.raises(TraitError):
        pad.painted_fraction = 0.5


@pytest.mark.parametrize("size", [(4000, 1000), (1000, 4000), (2049, 3), (5000, 1)])
def test_a_large_picture_is_painted_smaller(size: tuple[int, int]) -> None:
    """The page paints at most 2048 pixels a side; the mask has the image's size and only black and white."""
    pad = MaskPad(Image.new("L", size))
    width, height = pad._bits_size
    paint(pad, ink(spot((width, height), (0, 0, width // 2, height))))
    left, top, right, bottom = pad.mask.getbbox() or (0, 0, 0, 0)
    pad.close()

    assert 2048 == max(width, height)
    assert min(width, height) >= 1
    assert size == pad.mask.size
    assert {0, 255} == {tone for _, tone in pad.mask.getcolors() or []}
    assert (0, 0, size[1]) == (left, top, bottom)
    assert abs(right - size[0] / 2) <= size[0] / width


# Messages of the page

WHOLE = ink(spot((21, 13), (3, 2, 10, 9)))
HOSTILE = {
    "garbage": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "cut short": WHOLE[:-3],
    "of a smaller image": ink(Image.new("1", (21, 12))),
    "of a larger image": ink(Image.new("1", (21, 14))),
    "nothing inside": zlib.compress(b""),
    "far too much": zlib.compress(bytes(50_000_000)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_ink_is_refused(pad: MaskPad, content: bytes) -> None:
    """Malformed bytes and wrong sizes are refused, and little is decompressed."""
    paint(pad, WHOLE)
    before = pad.mask.tobytes(), pad.painted_fraction
    tracemalloc.start()
    with pytest.raises(TraitError):
        paint(pad, content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert before == (pad.mask.tobytes(), pad.painted_fraction)
    assert most < 1_000_000


@pytest.mark.parametrize("value", ["text", 5, None, ["list"], {}])
def test_what_is_not_even_bytes_is_refused(pad: MaskPad, value: object) -> None:
    """A message with JSON in place of bytes is refused."""
    paint(pad, WHOLE)
    with pytest.raises((AttributeError, TraitError)):
        pad.set_state({"_mask_bits": value})

    assert (3, 2, 10, 9) == pad.mask.getbbox()


@given(st.binary(max_size=200))
def test_no_bytes_break_the_mask(content: bytes) -> None:
    """Any bytes either give a mask of the image's size or are refused."""
    pad = MaskPad(Image.new("L", (9, 5)))
    try:
        paint(pad, content)
    except TraitError:
        assert pad.mask.getbbox() is None
    assert (9, 5) == pad.mask.size
    pad.close()


# Loading a mask


@given(st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_loaded_mask_comes_back_as_it_was(width: int, height: int, chance: Any) -> None:
    """A loaded black-and-white mask is unchanged in the pad and in its message to the page."""
    pad = MaskPad(Image.new("RGB", (width, height)))
    mask = Image.frombytes("L", (width, height), bytes(chance.choices((0, 255), k=width * height)))
    pad.load_mask(mask)

    assert mask.tobytes() == pad.mask.tobytes()
    assert mask.convert("1").tobytes() == zlib.decompress(pad.get_state("_mask_bits")["_mask_bits"])
    pad.close()


def test_any_kind_of_mask_can_be_loaded(pad: MaskPad, tmp_path: Path) -> None:
    """Files, arrays and pads can be loaded; gray values from 128 count as painted."""
    gray = Image.linear_gradient("L").resize((21, 13))
    gray.save(tmp_path / "gray.png")
    pad.load_mask(tmp_path / "gray.png")
    of_file = pad.mask
    pad.load_mask(np.asarray(gray) >= 128)
    of_array = pad.mask
    other = MaskPad(Image.new("L", (21, 13)))
    other.load_mask(pad)

    assert gray.point([0] * 128 + [255] * 128).tobytes() == of_file.tobytes()
    assert of_file.tobytes() == of_array.tobytes() == other.mask.tobytes()
    other.close()


def test_loading_black_clears(pad: MaskPad) -> None:
    """Loading a black mask clears the pad."""
    paint(pad, WHOLE)
    pad.load_mask(Image.new("L", (21, 13)))

    assert 0.0 == pad.painted_fraction


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (Image.new("L", (13, 21), 255), "13 x 21.* 21 x 13"),
        ("https://example.org/mask.png", "https://example.org/mask.png"),
        ("no such file", "no such file"),
        (7, r"\bint\b"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(pad: MaskPad, mask: object, why: str) -> None:
    """A mask of another size, a URL or an invalid source is refused, and the pad stays unchanged."""
    paint(pad, WHOLE)
    with pytest.raises(SourceError, match=why):
        pad.load_mask(mask)

    assert (3, 2, 10, 9) == pad.mask.getbbox()


# A pad as the mask of an edit


def test_a_pad_is_a_mask(pad: MaskPad) -> None:
    """A pad counts as an image and is sent as its mask."""
    paint(pad, WHOLE)
    sent = masked(find_source("mask", {"mask": pad}), (21, 13))

    assert is_image_like(pad)
    assert pad.mask.tobytes() == Image.open(io.BytesIO(sent.data)).tobytes()


def test_an_empty_pad_is_refused_before_money_is_at_stake(pad: MaskPad) -> None:
    """An empty pad is refused."""
    with pytest.raises(SourceError):
        masked(pad, (21, 13))


def test_a_pad_of_another_picture_is_refused(pad: MaskPad) -> None:
    """A pad for an image of another size is refused, and the error names both sizes."""
    paint(pad, WHOLE)
    with pytest.raises(SourceError, match=r"21 x 13.* 30 x 13"):
        masked(pad, (30, 13))


# Messages to the page


def test_the_page_gets_a_small_picture() -> None:
    """The page gets a JPEG of at most 768 pixels a side."""
    pad = MaskPad(Image.effect_noise((3000, 1500), 80).convert("RGBA"))
    content = pad._jpeg
    sent = Image.open(io.BytesIO(content))
    pad.close()

    assert ("JPEG", (768, 384)) == (sent.format, sent.size)
    assert [3000, 1500] == pad._size


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "I;16", "F", "CMYK"])
def test_a_picture_of_any_mode_can_be_painted_on(mode: str) -> None:
    """A pad accepts images of every mode."""
    pad = MaskPad(Image.new(mode, (8, 4)))

    assert (8, 4) == pad.mask.size
    pad.close()


def test_the_page_needs_no_network() -> None:
    """The scripts and styles load nothing from a network."""
    texts = [script(name) for name in ("maskpad.js", "stage.js", "gallery.js", "go.js", "secret.js")]
    for text in (*texts, style("panel.css", "images.css", "maskpad.css")):
        code = re.sub(r'import\("[^"]*"\)', "", text.replace("http://www.w3.org/2000/svg", ""))  # types in comments

        assert [] == [word for word in ("://", "import ", "import(", "@import", ": url(", "fetch(") if word in code]


def test_closing_leaves_nothing_behind() -> None:
    """A closed pad removes its widget, its mask stays readable, and it can be garbage-collected."""
    before = set(ipywidgets.widgets.widget._instances)
    pad = MaskPad(Image.new("L", (21, 13)))
    paint(pad, WHOLE)
    pad.close()
    pad.close()
    box = pad.mask.getbbox()
    gone = weakref.ref(pad)
    del pad
    gc.collect()

    assert (3, 2, 10, 9) == box
    assert set() == set(ipywidgets.widgets.widget._instances) - before  # other tests' widgets may be gone
    assert gone() is None


# paint_mask


def test_a_picture_in_memory_or_on_disk_is_a_source(tmp_path: Path) -> None:
    """paint_mask accepts PIL images, arrays, bytes, paths, data URIs and results."""
    image = Image.linear_gradient("L").convert("RGB").crop((0, 0, 6, 4))
    image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    result = type("Result", (), {"image": image})()
    uri = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    sources = (image, np.asarray(image), content, tmp_path / "a.png", str(tmp_path / "a.png"), uri, result)

    for source in sources:
        assert ImageChops.difference(image, open_source(source)).getbbox() is None


def test_a_url_is_no_source() -> None:
    """A URL is refused, and the error omits its credentials and query."""
    with pytest.raises(SourceError) as caught:
        open_source("https://user:word@example.org/a.png?key=1")

    assert "URLs are not supported here: https://example.org/a.png" == caught.value.message


def test_there_must_be_a_notebook() -> None:
    """Without a notebook, paint_mask raises an error."""
    with pytest.raises(BlockrunError):
        blockrun_magic.paint_mask(Image.new("L", (4, 4)))


def paint_in_kernel(kernel: Kernel, name: str, content: bytes) -> None:
    """Send painted pixels to the pad in a variable, over the kernel's sockets."""
    update = {"method": "update", "state": {}, "buffer_paths": [["_mask_bits"]]}
    told = {"comm_id": kernel.value(f"{name}.model_id").strip("'"), "data": update}
    sent = kernel._client.session.msg("comm_msg", told)
    kernel._client.shell_channel.send(sent | {"buffers": [content]})


def test_a_notebook_paints_and_edits(kernel: Kernel, gateway: PracticeServer) -> None:
    """An empty pad costs nothing; the edit changes exactly the painted area."""
    made(kernel, "%%imagegen --model gpt-image --size 1024x1024 --as city\na city at sunset")
    made(kernel, "from blockrun_magic import paint_mask\nsky = paint_mask(city)")
    edit = "%%img2img --model gpt-image --image city --mask sky --as night\nan aurora"
    paid = paid_to(gateway.url)
    refused = kernel.run(edit)

    assert 2 == len(refused.error)
    assert paid == paid_to(gateway.url)

    paint_in_kernel(kernel, "sky", ink(spot((1024, 1024), (100, 200, 500, 400))))
    made(kernel, edit)
    made(
        kernel, "from PIL import ImageChops\nchange = ImageChops.difference(night.convert('RGB'), city.convert('RGB'))"
    )

    assert "(100, 200, 500, 400)" == kernel.value("sky.mask.getbbox()")
    assert "(100, 200, 500, 400)" == kernel.value("change.getbbox()")


def test_other_viewers_show_the_mask_itself(kernel: Kernel) -> None:
    """The output has the widget, the mask as an image and one text; the source image is not stored."""
    made(kernel, "from PIL import Image\nfrom blockrun_magic import paint_mask")
    made(kernel, "pad = paint_mask(Image.effect_noise((64, 64), 90))")
    made(kernel, "pad.load_mask(Image.linear_gradient('L').resize((64, 64)))")
    [shown] = made(kernel, "pad").outputs
    stored = Image.open(io.BytesIO(base64.b64decode(shown["data"]["image/png"])))

    assert {WIDGET, "image/png", "text/plain"} == set(shown["data"])
    assert (64, 64) == stored.size
    assert "MaskPad(64 x 64, 50.0% painted)" == shown["data"]["text/plain"]
    assert "True" == kernel.value(
        "all(len(repr(value)) < 2000 for value in pad.get_state().values() if value != pad._css and value != pad._esm)"
    )


def test_a_closed_pad_shows_its_mask(kernel: Kernel) -> None:
    """The output of a closed pad has its mask and no widget."""
    made(kernel, "from PIL import Image\nfrom blockrun_magic import paint_mask")
    made(kernel, "shut = paint_mask(Image.new('RGB', (64, 64)))\nshut.close()")
    [shown] = made(kernel, "shut").outputs

    assert {"image/png", "text/plain"} == set(shown["data"])
