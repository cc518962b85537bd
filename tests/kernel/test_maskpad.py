"""A mask painted by hand: what comes from the page, and what the notebook makes of it."""

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
    """Return a pad over an image whose rows do not fill whole bytes."""
    made = MaskPad(Image.new("RGB", (21, 13), "navy"))
    yield made
    made.close()


def ink(mask: Image.Image) -> bytes:
    """Return what the page sends once it looks like `mask`, an image of mode 1."""
    return zlib.compress(mask.tobytes())


def spot(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Return a mask of mode 1 that is white inside `box`."""
    mask = Image.new("1", size)
    mask.paste(1, box)
    return mask


def paint(pad: MaskPad, content: bytes) -> None:
    """Let ink come from the page, as ipywidgets hands it over; raises what ipywidgets would only log."""
    pad.set_state({"_mask_bits": memoryview(content)})


def masked(source: object, size: tuple[int, int]) -> Upload:
    """Return what `--mask` would send; nothing is fetched."""

    async def fetch(url: str) -> bytes:
        raise AssertionError(url)

    return asyncio.run(read_mask(source, to_upload(Image.linear_gradient("L").resize(size)), fetch))


# What is painted


def test_what_is_painted_is_white(pad: MaskPad) -> None:
    """The mask is of mode L and the image's size, white exactly where the page has painted."""
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
    """Drawing on the returned mask changes only that copy."""
    pad.mask.paste(255, (0, 0, 21, 13))

    assert [(21 * 13, 0)] == pad.mask.getcolors()


def test_changes_can_be_observed(pad: MaskPad) -> None:
    """`painted_fraction` changes after the mask; only the page and `load_mask` set it."""
    seen: list[tuple[float, Any]] = []
    pad.observe(lambda change: seen.append((change["new"], pad.mask.getbbox())), "painted_fraction")
    paint(pad, ink(spot((21, 13), (0, 0, 21, 13))))
    paint(pad, ink(Image.new("1", (21, 13))))

    assert [(1.0, (0, 0, 21, 13)), (0.0, None)] == seen
    with pytest.raises(TraitError):
        pad.painted_fraction = 0.5


@pytest.mark.parametrize("size", [(4000, 1000), (1000, 4000), (2049, 3), (5000, 1)])
def test_a_large_picture_is_painted_smaller(size: tuple[int, int]) -> None:
    """The page gets at most 2048 pixels a side; the mask has the image's size and two tones all the same."""
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


# What may come over the wire

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
    """Bytes of another kind or size change nothing, and are not unpacked beyond the mask's own size."""
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
    """A message whose state holds JSON in the place of bytes changes nothing."""
    paint(pad, WHOLE)
    with pytest.raises((AttributeError, TraitError)):
        pad.set_state({"_mask_bits": value})

    assert (3, 2, 10, 9) == pad.mask.getbbox()


@given(st.binary(max_size=200))
def test_no_bytes_break_the_mask(content: bytes) -> None:
    """Whatever comes is a mask of the image's size, or is refused as a value."""
    pad = MaskPad(Image.new("L", (9, 5)))
    try:
        paint(pad, content)
    except TraitError:
        assert pad.mask.getbbox() is None
    assert (9, 5) == pad.mask.size
    pad.close()


# Beginning with a mask


@given(st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_loaded_mask_comes_back_as_it_was(width: int, height: int, chance: Any) -> None:
    """A mask of two tones, of any size, is what the pad then has; the page is told."""
    pad = MaskPad(Image.new("RGB", (width, height)))
    mask = Image.frombytes("L", (width, height), bytes(chance.choices((0, 255), k=width * height)))
    pad.load_mask(mask)

    assert mask.tobytes() == pad.mask.tobytes()
    assert mask.convert("1").tobytes() == zlib.decompress(pad.get_state("_mask_bits")["_mask_bits"])
    pad.close()


def test_any_kind_of_mask_can_be_loaded(pad: MaskPad, tmp_path: Path) -> None:
    """Files, arrays of bool and pads are masks; of grays, the brighter half counts as painted."""
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
    """An empty mask is one, too: one may begin with it."""
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
    """Another size, a URL, and what is no image leave the pad as it is."""
    paint(pad, WHOLE)
    with pytest.raises(SourceError, match=why):
        pad.load_mask(mask)

    assert (3, 2, 10, 9) == pad.mask.getbbox()


# As a mask for an edit


def test_a_pad_is_a_mask(pad: MaskPad) -> None:
    """Wherever an image is taken, a pad stands for its mask."""
    paint(pad, WHOLE)
    sent = masked(find_source("mask", {"mask": pad}), (21, 13))

    assert is_image_like(pad)
    assert pad.mask.tobytes() == Image.open(io.BytesIO(sent.data)).tobytes()


def test_an_empty_pad_is_refused_before_money_is_at_stake(pad: MaskPad) -> None:
    """It says that nothing is painted yet."""
    with pytest.raises(SourceError):
        masked(pad, (21, 13))


def test_a_pad_of_another_picture_is_refused(pad: MaskPad) -> None:
    """Both sizes are named."""
    paint(pad, WHOLE)
    with pytest.raises(SourceError, match=r"21 x 13.* 30 x 13"):
        masked(pad, (30, 13))


# What goes to the page


def test_the_page_gets_a_small_picture() -> None:
    """A JPEG of at most 768 pixels a side goes to the page, whatever the image's size and mode."""
    pad = MaskPad(Image.effect_noise((3000, 1500), 80).convert("RGBA"))
    content = pad._jpeg
    sent = Image.open(io.BytesIO(content))
    pad.close()

    assert ("JPEG", (768, 384)) == (sent.format, sent.size)
    assert [3000, 1500] == pad._size


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "I;16", "F", "CMYK"])
def test_a_picture_of_any_mode_can_be_painted_on(mode: str) -> None:
    """Every mode of PIL can be shown."""
    pad = MaskPad(Image.new(mode, (8, 4)))

    assert (8, 4) == pad.mask.size
    pad.close()


def test_the_page_needs_no_network() -> None:
    """Scripts and styles come with the package, load nothing and fetch nothing."""
    texts = [script(name) for name in ("maskpad.js", "stage.js", "gallery.js", "go.js", "secret.js")]
    for text in (*texts, style("panel.css", "images.css", "maskpad.css")):
        code = re.sub(r'import\("[^"]*"\)', "", text.replace("http://www.w3.org/2000/svg", ""))  # types in comments

        assert [] == [word for word in ("://", "import ", "import(", "@import", ": url(", "fetch(") if word in code]


def test_closing_leaves_nothing_behind() -> None:
    """A closed pad has no widget in the kernel and is collected; until then its mask can be read."""
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
    assert set() == set(ipywidgets.widgets.widget._instances) - before  # those of other tests may be collected, too
    assert gone() is None


# paint_mask


def test_a_picture_in_memory_or_on_disk_is_a_source(tmp_path: Path) -> None:
    """Every source that `--image` takes can be painted on: PIL images, arrays, bytes, paths, data URIs, results."""
    image = Image.linear_gradient("L").convert("RGB").crop((0, 0, 6, 4))
    image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    result = type("Result", (), {"image": image})()
    uri = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    sources = (image, np.asarray(image), content, tmp_path / "a.png", str(tmp_path / "a.png"), uri, result)

    for source in sources:
        assert ImageChops.difference(image, open_source(source)).getbbox() is None


def test_a_url_is_no_source() -> None:
    """Nothing is fetched; what a URL carries in secret is not repeated."""
    with pytest.raises(SourceError) as caught:
        open_source("https://user:word@example.org/a.png?key=1")

    assert "URLs are not supported here: https://example.org/a.png" == caught.value.message


def test_there_must_be_a_notebook() -> None:
    """Without one there is nowhere to paint."""
    with pytest.raises(BlockrunError):
        blockrun_magic.paint_mask(Image.new("L", (4, 4)))


def paint_in_kernel(kernel: Kernel, name: str, content: bytes) -> None:
    """Send ink to the pad that a variable holds, over the kernel's own sockets."""
    update = {"method": "update", "state": {}, "buffer_paths": [["_mask_bits"]]}
    told = {"comm_id": kernel.value(f"{name}.model_id").strip("'"), "data": update}
    sent = kernel._client.session.msg("comm_msg", told)
    kernel._client.shell_channel.send(sent | {"buffers": [content]})


def test_a_notebook_paints_and_edits(kernel: Kernel, gateway: PracticeServer) -> None:
    """An empty pad pays for nothing; what is then painted is what the edit changes."""
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
    """Beside the widget is the mask as an image, and one text; the image under it is not stored."""
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
    """A cell whose value is a closed pad has no widget that would be missing."""
    made(kernel, "from PIL import Image\nfrom blockrun_magic import paint_mask")
    made(kernel, "shut = paint_mask(Image.new('RGB', (64, 64)))\nshut.close()")
    [shown] = made(kernel, "shut").outputs

    assert {"image/png", "text/plain"} == set(shown["data"])
