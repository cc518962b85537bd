"""The painter: the same prompt gives the same image, providers differ in style, and edits respect their mask."""

from __future__ import annotations

from itertools import combinations

import pytest
from PIL import Image, ImageChops, ImageStat

from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.practice.painter.canvas import Canvas
from blockrun_magic.practice.painter.editor import edit
from blockrun_magic.practice.painter.painter import encode_png, paint
from blockrun_magic.practice.painter.scenes import read_scene
from blockrun_magic.practice.painter.subjects import paint_subjects

SMALL = (256, 256)


def difference(first: Image.Image, second: Image.Image) -> float:
    """Return the mean difference of two images, from 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(first, second)).mean) / 3


def test_the_same_words_give_the_same_image() -> None:
    """Prompt, model and index determine every pixel."""
    first = paint("a city at sunset", "black-forest/flux-1.1-pro", SMALL)
    second = paint("a city at sunset", "black-forest/flux-1.1-pro", SMALL)

    assert first.tobytes() == second.tobytes()


def test_another_index_is_another_take() -> None:
    """Each index gives a different image of the same prompt."""
    takes = {paint("a city at sunset", "zai/cogview-4", SMALL, index).tobytes() for index in range(4)}

    assert 4 == len(takes)


def test_other_words_give_another_image() -> None:
    """The words matter: night is darker than day."""
    night = paint("a forest at night", "google/nano-banana", SMALL)
    day = paint("a forest on a sunny day", "google/nano-banana", SMALL)

    assert ImageStat.Stat(night.convert("L")).mean[0] + 15 < ImageStat.Stat(day.convert("L")).mean[0]


def test_each_provider_has_its_own_hand() -> None:
    """The same prompt looks different for the first model of each provider."""
    providers = {model.id.partition("/")[0]: model.id for model in reversed(SNAPSHOT.models)}
    images = {name: paint("a castle by a lake", model, SMALL) for name, model in providers.items()}
    apart = {pair: difference(images[pair[0]], images[pair[1]]) for pair in combinations(images, 2)}

    assert min(apart.values()) > 8, apart


def test_a_image_is_stamped() -> None:
    """The lower right corner has the strong contrast of the PRACTICE stamp."""
    image = paint("a calm sea under a clear sky", "google/nano-banana", (512, 512)).convert("L")
    corner = image.crop((400, 480, 512, 512))
    low, high = corner.getextrema()

    assert high - low > 90


@pytest.mark.parametrize("size", [(256, 256), (1024, 1792), (2048, 2048), (513, 77), (4096, 4096)])
def test_every_size_is_painted(size: tuple[int, int]) -> None:
    """Every size, also a large or odd one, is exact."""
    assert size == paint("a meadow", "bytedance/seedream-5-pro", size).size


def test_the_nouns_of_the_first_pages_are_drawn() -> None:
    """The kite of the README is drawn."""
    scene = read_scene("a magenta kite", 1)
    sky = Canvas(SMALL, 1)
    before = sky.image.copy()
    paint_subjects(sky, scene, 0.6)
    changed = ImageChops.difference(before, sky.image).convert("L").point(lambda level: 255 * (level > 0))

    assert ("kite",) == scene.subjects
    assert changed.histogram()[255] > 1000


@pytest.mark.parametrize("prompt", ["", "\0\ud800", "夜の街", "🦊" * 500, "practice:script <b>"])
def test_any_words_make_a_image(prompt: str) -> None:
    """Any prompt gives an image."""
    assert SMALL == paint(prompt, "somebody/unknown", SMALL).size


def test_a_png_of_it_is_whole() -> None:
    """The encoded PNG decodes to the same pixels."""
    import io

    image = paint("a fox", "xai/grok-imagine-image", SMALL)

    assert image.tobytes() == Image.open(io.BytesIO(encode_png(image))).tobytes()


def test_an_edit_keeps_to_the_white_of_its_mask() -> None:
    """Only pixels in the white area of the mask change."""
    source = paint("a harbor", "google/nano-banana", SMALL)
    mask = Image.new("L", SMALL, 0)
    mask.paste(255, (40, 40, 200, 160))
    edited = edit("fireworks at night", "openai/gpt-image-1", [source], mask, SMALL, 0)
    changed = ImageChops.difference(source, edited.convert("RGB")).getbbox()

    assert changed is not None
    assert (changed[0] >= 40, changed[1] >= 40, changed[2] <= 200, changed[3] <= 160) == (True, True, True, True)
    assert difference(source.crop((40, 40, 200, 160)), edited.convert("RGB").crop((40, 40, 200, 160))) > 5


def test_an_edit_without_a_mask_is_visible() -> None:
    """Without a mask the prompt changes the image visibly."""
    source = paint("a harbor", "google/nano-banana", SMALL)
    edited = edit("make it winter", "google/nano-banana", [source], None, SMALL, 0)

    assert difference(source, edited.convert("RGB")) > 5


def test_several_sources_are_fused() -> None:
    """A fusion differs from each of its sources."""
    first, second = Image.new("RGB", SMALL, "navy"), Image.new("RGB", SMALL, "gold")
    fused = edit("together", "google/nano-banana", [first, second], None, SMALL, 0).convert("RGB")

    assert difference(first, fused) > 10
    assert difference(second, fused) > 10
