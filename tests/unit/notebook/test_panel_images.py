"""Images in the panel: the gallery of all sessions, dropped files, enlarged canvases, button presses."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from blockrun_magic.errors import BlockrunError, BudgetError, Money, SourceError, WalletMissing
from blockrun_magic.images.store import Store
from blockrun_magic.notebook.background import BackgroundJob
from blockrun_magic.notebook.loop import LoopThread
from blockrun_magic.notebook.panel.form.canvas import new_canvas
from blockrun_magic.notebook.panel.form.variables import find_image, image_names
from blockrun_magic.notebook.panel.hints import panel_lines
from blockrun_magic.notebook.panel.images.dropped import settings_of
from blockrun_magic.notebook.panel.press import GoButton, Press
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import ImageFilter, StoredImage
from blockrun_magic.studio.gallery import ImageIndex
from harness import PATIENCE


def png(color: str = "red", size: tuple[int, int] = (64, 48), **texts: str) -> bytes:
    """Return a PNG of one color with these text entries."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "png", pnginfo=info)
    return file.getvalue()


class Shop:
    """A ledger and a store that take images without a payment."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_700_000_000.0
        self.ledger = Ledger(folder / "ledger.sqlite", "a session", lambda: self.now)
        self.store = Store(folder / "images")
        self.index = ImageIndex(self.ledger, self.store, folder / "own")

    def add(self, prompt: str, *colors: str, realm: str = "practice", source: str | None = None) -> list[str]:
        """Record a finished purchase with images of these colors, a minute after the last one; return their files."""
        self.now += 60
        uploads = [] if source is None else [{"file": source, "media_type": "image/png"}]
        request = {"prompt": prompt, "model": "google/nano-banana", "size": "64x48", "n": 1, "uploads": uploads}
        purchase = self.ledger.create_purchase(
            realm, realm, f"sha256:{self.now}", 1, {**request, "mask": None}, private=False
        )
        files = [self.store.put(png(color), "image/png") for color in colors]
        self.ledger.finish(purchase.id, [StoredImage(file, "image/png", 64, 48) for file in files], 1.0)
        return files


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    """Return an empty ledger and store."""
    made = Shop(tmp_path)
    yield made
    made.ledger.close()


def test_pages_are_newest_first_and_counted(shop: Shop) -> None:
    """A page has the requested number of images, newest first; the total counts all pages."""
    for color in ("red", "green", "blue"):
        shop.add(f"a {color} fox", color)
    entries, total = shop.index.page(ImageFilter(), 2)
    rest, _ = shop.index.page(ImageFilter(), 2, 2)

    assert ["a blue fox", "a green fox"] == [entry.prompt for entry in entries]
    assert ["a red fox"] == [entry.prompt for entry in rest]
    assert 3 == total


def test_filters_select_words_money_days_and_stars(shop: Shop) -> None:
    """Filters select by prompt, kind of money, date, model and star; the prompt filter ignores case."""
    shop.add("Ein FUCHS im Schnee", "red")
    shop.add("a crane", "green", realm="real")
    [crane], _ = shop.index.page(ImageFilter(practice=False), 9)
    [fox], _ = shop.index.page(ImageFilter(words="fuchs"), 9)
    shop.index.star(crane.key, starred=True)

    assert ["a crane"] == [entry.prompt for entry in shop.index.page(ImageFilter(), 9, starred=True)[0]]
    assert "Ein FUCHS im Schnee" == fox.prompt
    assert 1 == shop.index.page(ImageFilter(since=fox.purchase.purchased_at + 1), 9)[1]
    assert 0 == shop.index.page(ImageFilter(model="black-forest/flux"), 9)[1]


def test_a_hidden_image_is_gone_from_the_gallery_only(shop: Shop) -> None:
    """A hidden image leaves the gallery; its file stays, and its key still finds it."""
    [file] = shop.add("a fox", "red")
    [entry], _ = shop.index.page(ImageFilter(), 9)
    shop.index.hide(entry.key)

    assert ([], 0) == shop.index.page(ImageFilter(), 9)
    assert shop.store.path(file, "image/png").exists()
    assert shop.index.find(entry.key) is not None


def test_a_chain_has_its_branches(shop: Shop) -> None:
    """A chain includes the first image and every later step, each with its parent."""
    [first] = shop.add("a lighthouse", "red")
    [night] = shop.add("make it night", "blue", source=first)
    shop.add("make it winter", "white", source=first)
    shop.add("add a ship", "black", source=night)
    [ship], _ = shop.index.page(ImageFilter(words="ship"), 1)
    shop.add("make it dusk", "gray", source="0" * 64)
    [dusk], _ = shop.index.page(ImageFilter(words="dusk"), 1)
    shop.index.link(dusk.purchase.id, ship.key)
    steps = shop.index.chain(ship)
    keys = {step.entry.key: step.entry.prompt for step in steps}

    assert {
        ("a lighthouse", None),
        ("make it night", "a lighthouse"),
        ("make it winter", "a lighthouse"),
        ("add a ship", "make it night"),
        ("make it dusk", "add a ship"),
    } == {(step.entry.prompt, keys.get(step.parent or "")) for step in steps}
    before = shop.index.source(ship)
    assert before is not None
    assert "make it night" == before.prompt


def test_an_uploaded_source_is_found_again(shop: Shop) -> None:
    """The uploaded source of an edit is found, although it was never bought."""
    file = shop.store.put(png("navy", (30, 20)), "image/png")
    shop.add("replace the sky", "red", source=file)
    [entry], _ = shop.index.page(ImageFilter(), 1)
    source = shop.index.source(entry)

    assert source is not None
    assert (30, 20) == (source.image.width, source.image.height)
    assert source == shop.index.find(source.key)


def test_a_thumbnail_is_made_once(shop: Shop) -> None:
    """A thumbnail is made once, then read from its file even if the original is missing."""
    [file] = shop.add("a fox", "red")
    [entry], _ = shop.index.page(ImageFilter(), 1)
    small = shop.index.thumbnail(entry)
    shop.store.path(file, "image/png").unlink()

    assert small == shop.index.thumbnail(entry)
    assert small.startswith(b"\xff\xd8")


A1111 = "a red fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768"
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 5, "positive": ["6", 0]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640, "height": 448, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a blue crane", "clip": ["4", 1]}},
}


def test_other_programs_settings_are_read() -> None:
    """The prompt and the size are read from the PNG entries of AUTOMATIC1111 and ComfyUI."""
    theirs = settings_of(png(parameters=A1111))
    comfy = settings_of(png(prompt=json.dumps(COMFY)))

    assert theirs is not None
    assert ("AUTOMATIC1111", "a red fox", "512x768") == (theirs.program, theirs.prompt, theirs.size)
    assert comfy is not None
    assert ("ComfyUI", "a blue crane", "640x448") == (comfy.program, comfy.prompt, comfy.size)


@pytest.mark.parametrize(
    "data",
    [b"", b"not an image", png(), png()[:60], png(prompt="[" * 5000), png(prompt="7"), png(prompt='{"1": null}')],
    ids=["empty", "text", "plain", "cut", "deep", "number", "null"],
)
def test_a_file_that_says_nothing_says_nothing(data: bytes) -> None:
    """A file without readable settings gives None and no error."""
    assert settings_of(data) is None


def test_settings_are_escaped() -> None:
    """HTML in a file's settings is escaped."""
    found = settings_of(png(parameters="<img src=x onerror=alert(1)>\nSteps: 1, Size: 64x64, <b>"))

    assert found is not None
    assert "<img" not in found.html
    assert "<b>x" not in found.html


def test_a_canvas_grows_and_its_new_part_is_masked() -> None:
    """On an enlarged canvas the old pixels are unmasked and everything around them is white in the mask."""
    data, mask = new_canvas(Image.new("RGB", (40, 30), "red"), 10, 0, 20, 5)
    with Image.open(io.BytesIO(data)) as image:
        assert (70, 35) == image.size
        assert (255, 0, 0) == image.convert("RGB").getpixel((10, 0))
    assert mask is not None
    assert [0, 0, 255, 255, 255] == [mask.getpixel(at) for at in [(10, 0), (49, 29), (9, 0), (50, 0), (10, 30)]]


def test_a_canvas_can_be_cropped_and_never_to_nothing() -> None:
    """A crop alone has no mask; a canvas without pixels is refused."""
    data, mask = new_canvas(Image.new("RGB", (40, 30), "red"), -10, -5, 0, 0)
    with Image.open(io.BytesIO(data)) as image:
        assert (30, 25) == image.size
    assert mask is None
    with pytest.raises(SourceError):
        new_canvas(Image.new("RGB", (40, 30)), -40, 0, 0, 0)


def test_a_press_counts_once_and_carries_its_price() -> None:
    """A repeated message counts as one press; malformed messages are ignored."""
    go, presses = GoButton("Generate", ""), list[Press]()
    go.on_press(presses.append)
    message = {"type": "press", "id": "one", "at": 1000.0, "agreed": 21_000, "prompt": "a fox"}
    other = {**message, "id": "two", "agreed": True, "changed": True}
    for content in (message, message, other, {"type": "other"}, "press", None):
        go._handle_custom_msg(content, [])
    go.close()

    assert [Press("one", 1.0, False, 21_000, "a fox"), Press("two", 1.0, True, None, "a fox")] == presses


@pytest.mark.parametrize("kind", [WalletMissing, BudgetError])
def test_the_panel_speaks_of_buttons_and_keeps_the_money(kind: type[BlockrunError]) -> None:
    """The panel replaces the hint for cells and still reports the fate of the money."""
    error = kind("It failed.", "Run `%blockrun limits`.").with_money(Money.nothing_signed())
    message, advice = panel_lines(error)

    assert "It failed." == message
    assert advice.startswith(str(Money.nothing_signed()))
    assert "%" not in advice


def test_an_image_on_its_way_blocks_nothing() -> None:
    """A wait for a background image does not block the loop; its name is already offered."""
    loop_thread, come = LoopThread(), asyncio.Event()

    class Result:
        image = "the image"

    async def make() -> Any:
        await come.wait()
        return Result()

    async def look() -> object:
        namespace = {"pic": BackgroundJob(loop_thread, make(), "a fox", lambda: False)}

        assert ["pic"] == image_names(namespace)
        looking = asyncio.ensure_future(find_image("pic", namespace))
        for _ in range(20):
            await asyncio.sleep(0)

        assert not looking.done()
        come.set()
        return await looking

    try:
        # On the loop that also makes the image, as in the panel.
        assert "the image" == loop_thread.submit(look()).result(PATIENCE)
    finally:
        loop_thread.close()
