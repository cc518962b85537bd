"""Images of results: opened on use, identical while referenced, and limited in memory."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import pytest
from PIL import Image

from blockrun_magic.errors import StoreError
from blockrun_magic.studio.results import images as module
from blockrun_magic.studio.results.grid import GridCell, axes_of, grid_html, small_image, varying
from blockrun_magic.studio.results.images import ChainedImages, StoredImages


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of twenty files, each in a different color."""
    folder = tmp_path_factory.mktemp("painted")
    for number in range(20):
        Image.new("RGB", (1024, 1024), (number, 0, 0)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def files(painted: Path, tmp_path: Path) -> list[Path]:
    """Return copies of the twenty files that a test may change."""
    folder = shutil.copytree(painted, tmp_path / "images")
    return [folder / f"{number}.png" for number in range(20)]


def test_an_image_is_opened_when_it_is_used(files: list[Path]) -> None:
    """Indexes, slices and iteration give the pixels of the files."""
    stored = StoredImages(files)

    assert 20 == len(stored)
    assert (3, 0, 0) == stored[3].getpixel((0, 0))
    assert (19, 0, 0) == stored[-1].getpixel((0, 0))
    assert [4, 5] == [image.getpixel((0, 0))[0] for image in stored[4:6]]
    assert list(range(20)) == [image.getpixel((0, 0))[0] for image in stored]


def test_a_held_image_stays_the_same_object(files: list[Path]) -> None:
    """A changed image keeps its change while it is referenced."""
    stored = StoredImages(files)
    first = stored[0]
    first.putpixel((0, 0), (9, 9, 9))
    for image in stored:
        image.load()

    assert first is stored[0]
    assert (9, 9, 9) == stored[0].getpixel((0, 0))
    assert (0, 0, 0) == stored.fresh()[0].getpixel((0, 0))


def test_few_images_are_held(files: list[Path]) -> None:
    """Images in memory stay within the budget, and none remains after the sequence is deleted."""
    before = set(module._held)
    stored = StoredImages(files)
    for image in stored:
        image.load()
    ours = [image for key, image in module._held.items() if key not in before]

    assert 0 < sum(image.width * image.height * 3 for image in ours) <= module._MAX_HELD
    del stored, image, ours
    gc.collect()
    assert set(module._held) <= before


def test_a_missing_file_is_an_error_of_ours(files: list[Path]) -> None:
    """The error for a missing file names the file."""
    stored = StoredImages(files)
    files[2].unlink()

    with pytest.raises(StoreError, match=r"2\.png"):
        stored[2]


def test_several_sequences_are_one(files: list[Path]) -> None:
    """Several sequences are indexed as one."""
    chained = ChainedImages([StoredImages(files[:2]), StoredImages(files[2:5])])

    assert [0, 1, 2, 3, 4] == [image.getpixel((0, 0))[0] for image in chained]
    assert [3, 4] == [image.getpixel((0, 0))[0] for image in chained[-2:]]
    assert [0, 1, 2, 3, 4] == [image.getpixel((0, 0))[0] for image in chained.fresh()]


def noise(side: int) -> Image.Image:
    """Return an image that compresses badly."""
    return Image.effect_noise((side, side), 120).convert("RGB")


@pytest.mark.parametrize("count", [1, 4, 12])
def test_an_image_of_a_grid_has_at_most_60_kilobytes(count: int) -> None:
    """Even noise is compressed to the limit, and every image is a separate element."""
    cells = [GridCell((noise(1024),), str(number), {"n": str(number)}, (), "noise") for number in range(count)]
    html = grid_html(cells, 768)

    assert count == html.count("<img ")
    assert len(html) < count * 60_000


def test_two_names_that_vary_are_axes() -> None:
    """Two varying parameters are axes only if every combination exists once."""
    facets = [{"model": model, "size": size, "n": "1"} for model in "ab" for size in "xyz"]

    assert ["model", "size"] == varying(facets)
    assert ("model", "size") == axes_of(facets)
    assert None is axes_of(facets[:-1])
    assert None is axes_of([{"model": "a"}, {"model": "b"}])


def test_a_grid_shows_no_html_of_a_prompt() -> None:
    """Text from a prompt or an error is escaped."""
    cell = GridCell((), "0", {"prompt": "<b>x</b>"}, ("$1 and $2",), '"><script>', failed="<i>no</i>")
    html = grid_html([cell, GridCell((noise(64),), "1", {"prompt": "y"}, (), '"><script>')], 128)

    assert "<script" not in html
    assert "<b>x" not in html
    assert "<i>" not in html


def test_a_preview_is_drawn_once(tmp_path: Path) -> None:
    """A drawn preview is reused even if its file is missing."""
    file = tmp_path / "image.png"
    noise(64).save(file)
    images = StoredImages([file])
    drawn = small_image(images, 0, 32, "jpeg")
    file.unlink()

    assert drawn is small_image(images, 0, 32, "jpeg") is small_image(images.single(0), 0, 32, "jpeg")
    with pytest.raises(StoreError):
        small_image(images.single(0), 0, 16, "jpeg")
