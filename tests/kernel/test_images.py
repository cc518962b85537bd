"""Users' images and masks in cells of a real kernel; ambiguous masks cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness.corpus import card, encoded, exif_of, turned
from harness.kernel import Kernel, made, paid_to, running_kernel

SETUP = """
import io, numpy as np
from PIL import Image
from IPython.display import Image as Shown
%load_ext blockrun_magic
top = np.zeros((64, 48), bool)
top[:32] = True
photo = Image.open("photo.jpg")
values = np.asarray(Image.open("photo.jpg"))
"""
EDIT = "%img2img --model gpt-image --size 1024x1024 --image {} --mask {} --fresh at night"
UNTOUCHED = (
    "(np.abs(np.asarray(img.resize((48, 64)).convert('RGB')).astype(int) - np.asarray(upright)).mean((1, 2)) < 24)"
)


@pytest.fixture(scope="module")
def gateway() -> Iterator[PracticeServer]:
    """Return a practice gateway."""
    with PracticeServer() as server:
        yield server


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory, gateway: PracticeServer) -> Iterator[Kernel]:
    """Return a kernel whose folder has a photo that is stored sideways."""
    folder = tmp_path_factory.mktemp("images")
    photo = encoded(turned(card(), 6), "JPEG", quality=95, exif=exif_of(6, place=True))
    with running_kernel(folder, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as running:
        place = Path(running.value("__import__('os').getcwd()").strip("'"))
        (place / "photo.jpg").write_bytes(photo)
        made(running, f"{SETUP}\n%blockrun use practice")
        made(running, "from PIL import ImageOps\nupright = ImageOps.exif_transpose(photo).convert('RGB')")
        yield running
        (place / "photo.jpg").unlink()


@pytest.mark.parametrize(
    "mask",
    [
        "top",
        "top.astype('uint8')",
        "Image.fromarray(top.astype('uint8'))",
        "Image.fromarray(np.dstack([np.asarray(upright), ~top * np.uint8(255)]))",
        "Image.fromarray(top).resize((24, 32))",
    ],
)
def test_only_the_masked_half_of_a_phone_photo_changes(kernel: Kernel, mask: str) -> None:
    """The photo is rotated upright, and only the masked half changes."""
    made(kernel, f"mask = {mask}")
    made(kernel, EDIT.format("photo.jpg", "mask"))

    assert "True" == kernel.value(f"bool({UNTOUCHED}[34:].all() and not {UNTOUCHED}[:30].all())")


@pytest.mark.parametrize(
    "mask",
    [
        "Image.new('RGB', (48, 64), 'red')",
        "photo",
        "np.zeros((64, 48))",
        "top.T",
        "np.arange(3072).reshape(64, 48) % 3",
    ],
)
def test_a_mask_that_cannot_be_meant_costs_nothing(kernel: Kernel, gateway: PracticeServer, mask: str) -> None:
    """An ambiguous mask is refused, and no money moves."""
    before = paid_to(gateway.url)
    made(kernel, f"mask = {mask}")
    refused = kernel.run(EDIT.format("photo", "mask"))

    assert "SourceError" == refused.error_name
    assert before == paid_to(gateway.url)


@pytest.mark.parametrize(
    "source", ["io.BytesIO(open('photo.jpg', 'rb').read())", "Shown('photo.jpg')", "open('photo.jpg', 'rb')", "photo"]
)
def test_what_holds_an_image_is_a_source(kernel: Kernel, source: str) -> None:
    """Streams, displayable objects, open files and PIL images work, also as items of a variable."""
    made(kernel, f'held = {{"left": [{source}]}}')
    made(kernel, EDIT.format('held["left"][0]', "top"))

    assert "True" == kernel.value(f"bool({UNTOUCHED}[34:].all())")


def test_shrinking_is_said(kernel: Kernel) -> None:
    """A large source is refused without --shrink; with it, or with the setting, the output reports the resizing."""
    made(kernel, "large = Image.new('RGB', (5000, 4000), 'navy')")
    edit = "%img2img --model gpt-image --image large{} at night"
    refused = kernel.run(edit.format(""))
    shrunk = made(kernel, edit.format(" --shrink"))
    set_for_all = made(kernel, "%config BlockrunMagics.shrink = True\n" + edit.format(""))

    assert "SourceError" == refused.error_name
    assert all("5000 x 4000" in cell.html + cell.text for cell in (shrunk, set_for_all))


def test_settings_of_pillow_change_nothing(kernel: Kernel) -> None:
    """Pillow's global settings do not change edits or the check of broken files."""
    made(kernel, "from PIL import ImageFile\nImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = True, 10")
    made(kernel, "mask = top")
    made(kernel, EDIT.format("photo.jpg", "mask"))
    half = kernel.run(
        "broken = open('photo.jpg', 'rb').read()[:-300]\n%img2img --model gpt-image --image broken at night"
    )
    made(kernel, "ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, 89_478_485")

    assert "SourceError" == half.error_name
