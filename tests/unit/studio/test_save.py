"""Saving: existing files are not changed, and invalid paths are refused before a payment."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image

from blockrun_magic.errors import SourceError
from blockrun_magic.images.formats import decode
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.records import StoredImage
from blockrun_magic.studio.results.result import ImageResult, Receipt, check_save_path
from fakes.gateway import picture_for


def result(folder: Path, name: str, n: int = 1) -> ImageResult:
    """Return a result whose images are in a store in `folder`."""
    store = Store(folder / "store")
    pictures = [picture_for(f"{name} {index}") for index in range(n)]
    digests = [store.put(data, "image/png") for data in pictures]
    files = [store.path(digest, "image/png") for digest in digests]
    images = [decode(data, SourceError, "The image", "") for data in pictures]
    receipt = Receipt(1, "practice", "practice", None, None, None, 1.8e9, "sha256:1", 1, "abc", settled=True)
    stored = [StoredImage(digest, "image/png", 24, 16) for digest in digests]
    return ImageResult({"model": "m", "prompt": "p", "n": n}, receipt, stored, files, 1.0, images)


def test_an_existing_file_stays_as_it_is(tmp_path: Path) -> None:
    """A different image gets a numbered name; the same image is not written again."""
    path = tmp_path / "fox.png"
    path.write_bytes(b"somebody's own")
    first, second = result(tmp_path, "first"), result(tmp_path, "second")

    assert [tmp_path / "fox-2.png"] == first.save(path) == first.save(path)
    assert [tmp_path / "fox-3.png"] == second.save(path)
    assert b"somebody's own" == path.read_bytes()
    assert first.files[0].read_bytes() == (tmp_path / "fox-2.png").read_bytes()


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.webp", "out.tiff", "out.pdf", "out"])
def test_every_format_is_written_whole(tmp_path: Path, name: str) -> None:
    """Every format is written, several images are numbered, and image files open."""
    written = result(tmp_path, "x", n=2).save(tmp_path / "new" / name)

    assert 2 == len(written) == len({*written})
    for path in written:
        assert path.stat().st_size
        if path.suffix != ".pdf":
            with Image.open(path) as image:
                assert (24, 16) == image.size


@pytest.mark.parametrize("name", ["fox.png", "fox.jpg"])
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, name: str) -> None:
    """A full disk raises SourceError, and the old file is unchanged."""
    fox = result(tmp_path, "x")
    path = tmp_path / "out" / name
    path.parent.mkdir()
    path.write_bytes(b"old")
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        mock.patch.object(os, "link", side_effect=full),
        mock.patch.object(Path, "replace", side_effect=full),
        pytest.raises(SourceError),
    ):
        fox.save(path)

    assert b"old" == path.read_bytes()


def test_an_image_that_could_not_be_stored_can_be_saved(tmp_path: Path) -> None:
    """Without its file in the store, the image in memory is saved."""
    fox = result(tmp_path, "x")
    fox.files[0].unlink()

    with Image.open(*fox.save(tmp_path / "fox.png")) as image:
        assert (24, 16) == image.size


@pytest.mark.parametrize(
    "path", ["x" * 300 + ".png", "fox.exe", "~nobody-of-this-name/fox.png", "a\0b.png", "\ud800.png"]
)
def test_a_path_that_cannot_be_is_refused_before_anything_is_paid(path: str) -> None:
    """Long names, unknown suffixes, unknown users, NUL and lone surrogates are refused."""
    with pytest.raises(SourceError):
        check_save_path(path)
