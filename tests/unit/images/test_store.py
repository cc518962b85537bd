"""The store of bought images: files are complete or absent, and verified when read."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from operator import attrgetter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import Money, StoreError
from blockrun_magic.images.store import Store

PICTURE = b"\x89PNG\r\n\x1a\n and its pixels"
DIGEST = hashlib.sha256(PICTURE).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store whose folder does not exist yet."""
    return Store(tmp_path / "magic" / "pictures")


def files(store: Store) -> list[Path]:
    """Return every file in the store, including hidden ones."""
    return sorted(path for path in store.root.rglob("*") if path.is_file())


def full_disk(descriptor: int) -> None:
    """Fail like a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("media_type", "suffix"), [("image/png", ".png"), ("image/jpeg", ".jpg"), ("image/webp", ".webp")]
)
def test_what_is_put_is_got(store: Store, media_type: str, suffix: str) -> None:
    """An image is stored under its SHA-256 in one file, and read back byte for byte."""
    digest = store.put(PICTURE, media_type)

    assert DIGEST == digest
    assert PICTURE == store.get(digest, media_type)
    assert [store.root / DIGEST[:2] / (DIGEST + suffix)] == files(store)
    assert files(store) == [store.path(digest, media_type)]


def test_the_same_bytes_are_kept_once(store: Store) -> None:
    """Storing an image again does not write to its file."""
    store.put(PICTURE, "image/png")
    [path] = files(store)
    before = path.stat().st_ino, path.stat().st_mtime_ns

    store.put(PICTURE, "image/png")

    assert [path] == files(store)
    assert before == (path.stat().st_ino, path.stat().st_mtime_ns)


@pytest.mark.parametrize("damage", [b"", PICTURE[:-1], PICTURE + b"x", PICTURE.replace(b"pixels", b"pixelz")])
def test_a_damaged_picture_is_never_shown(store: Store, damage: bytes) -> None:
    """A file with another hash causes an error that names it and suggests `--fresh`."""
    store.put(PICTURE, "image/png")
    [path] = files(store)
    path.write_bytes(damage)

    with pytest.raises(StoreError, match="damaged") as caught:
        store.get(DIGEST, "image/png")

    assert str(path) in caught.value.message
    assert "--fresh" in caught.value.hint


def test_a_damaged_picture_is_mended_by_the_right_one(store: Store) -> None:
    """Storing the image again repairs a damaged file."""
    store.put(PICTURE, "image/png")
    files(store)[0].write_bytes(b"something else")

    store.put(PICTURE, "image/png")

    assert PICTURE == store.get(DIGEST, "image/png")


def test_a_missing_picture_is_said_so(store: Store) -> None:
    """A missing file causes an error that names it."""
    store.put(PICTURE, "image/png")
    [path] = files(store)
    path.unlink()

    with pytest.raises(StoreError) as caught:
        store.get(DIGEST, "image/png")

    assert str(path) in caught.value.message


def test_something_else_in_the_place_of_a_file_is_said_so(store: Store) -> None:
    """A folder in place of the file causes a StoreError for reading and writing."""
    store.path(DIGEST, "image/png").mkdir(parents=True)

    with pytest.raises(StoreError):
        store.get(DIGEST, "image/png")
    with pytest.raises(StoreError):
        store.put(PICTURE, "image/png")


def test_a_full_disk_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk causes a StoreError and leaves no file; the next attempt succeeds."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(StoreError):
            store.put(PICTURE, "image/png")

    assert [] == files(store)
    assert DIGEST == store.put(PICTURE, "image/png")


def test_a_full_disk_spares_what_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed write over a damaged file leaves that file unchanged."""
    store.put(PICTURE, "image/png")
    [path] = files(store)
    path.write_bytes(b"damaged")
    monkeypatch.setattr(os, "fsync", full_disk)

    with pytest.raises(StoreError):
        store.put(PICTURE, "image/png")

    assert [path] == files(store)
    assert b"damaged" == path.read_bytes()


def test_a_folder_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    """A file in place of the folder causes a StoreError."""
    (tmp_path / "magic").write_text("a file")
    store = Store(tmp_path / "magic" / "pictures")

    with pytest.raises(StoreError):
        store.put(PICTURE, "image/png")
    with pytest.raises(StoreError):
        store.quarantine(PICTURE)
    with pytest.raises(StoreError):
        store.get(DIGEST, "image/png")


def test_a_write_is_whole_or_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file gets its final name only after its bytes are synced."""
    seen: list[list[Path]] = []
    real = os.fsync

    def watch(descriptor: int) -> None:
        seen.append(files(store))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)

    store.put(PICTURE, "image/png")

    assert seen
    assert store.path(DIGEST, "image/png") not in seen[0]
    assert [store.path(DIGEST, "image/png")] == files(store)


def test_what_is_no_picture_is_set_aside(store: Store) -> None:
    """Paid bytes that are not an image are stored separately from the images."""
    path = store.quarantine(b"<html>sorry</html>")

    assert b"<html>sorry</html>" == path.read_bytes()
    assert path == store.quarantine(b"<html>sorry</html>")
    assert [path] == files(store)
    assert [] == store.files()


def test_a_full_disk_sets_nothing_aside(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk causes a StoreError, and no file is left."""
    monkeypatch.setattr(os, "fsync", full_disk)

    with pytest.raises(StoreError):
        store.quarantine(b"<html>")

    assert [] == files(store)


def test_the_files_are_listed(store: Store) -> None:
    """Each stored image is listed with its hash, its size and its time."""
    digests = [store.put(data, "image/png") for data in (b"first", b"second", b"third")]
    for age, digest in enumerate(digests):
        os.utime(store.path(digest, "image/png"), (1000 - age, 1000 - age))

    listed = sorted(store.files(), key=attrgetter("written_at"))

    assert list(reversed(digests)) == [file.digest for file in listed]
    assert [5, 6, 5] == [file.size for file in listed]
    assert [998.0, 999.0, 1000.0] == [file.written_at for file in listed]


def test_an_empty_store_lists_nothing(store: Store) -> None:
    """A new store has no files, and listing it does not create its folder."""
    assert [] == store.files()
    assert not store.root.exists()


@given(data=st.binary(max_size=200))
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """The store accepts any bytes and returns them unchanged."""
    store = Store(tmp_path_factory.getbasetemp() / "any")

    assert data == store.get(store.put(data, "image/webp"), "image/webp")


def test_the_folder_is_synced_after_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New folders are synced, then the file, then its folder, so that a power cut cannot lose the name."""
    synced: list[bool] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    Store(tmp_path / "pictures").put(b"\x89PNG\r\n\x1a\n", "image/png")

    assert ([True, True, False, True] if os.name == "posix" else [False]) == synced


def test_what_cannot_be_written_is_known_before_anything_is_signed(tmp_path: Path) -> None:
    """A file in place of the store or one of its folders causes an error before anything is signed."""
    (tmp_path / "magic").write_text("a file")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "ab").write_text("a file")

    for folder in (tmp_path / "magic", tmp_path / "magic" / "pictures", tmp_path / "store"):
        with pytest.raises(StoreError) as caught:
            Store(folder).check_writable()
        assert Money.nothing_signed() == caught.value.money
    Store(tmp_path / "new").check_writable()


def test_a_full_disk_is_known_before_anything_is_signed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is signed if the disk has no room for the expected images."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=60_000_000))

    store.check_writable(3)
    with pytest.raises(StoreError):
        store.check_writable(4)
