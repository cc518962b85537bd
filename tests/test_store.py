"""Kept pictures: whole or not at all, once each, and never shown when they are damaged."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockrun_magic.errors import StoreError
from blockrun_magic.pictures.store import Store, StoredFile

PICTURE = b"\x89PNG\r\n\x1a\n and what follows"
DIGEST = hashlib.sha256(PICTURE).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store, whose folder is not there yet."""
    return Store(tmp_path / "magic" / "pictures")


def files_under(root: Path) -> list[str]:
    """Return every file below `root`, temporary ones too."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def no_room(*_: Any) -> None:
    """Fail like a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(), st.sampled_from([("image/png", ".png"), ("image/jpeg", ".jpg"), ("image/webp", ".webp")]))
def test_what_is_kept_comes_back(store: Store, data: bytes, kind: tuple[str, str]) -> None:
    """Bytes are kept under their own SHA-256, with the suffix of their kind, and come back as they were."""
    media_type, suffix = kind
    digest = store.put(data, media_type)

    assert hashlib.sha256(data).hexdigest() == digest
    assert data == store.get(digest, media_type)
    assert store.root / digest[:2] / f"{digest}{suffix}" == store.path(digest, media_type)


def test_the_same_bytes_are_kept_once(store: Store) -> None:
    """A picture that is there already is not written again."""
    store.put(PICTURE, "image/png")
    written = store.path(DIGEST, "image/png").stat()
    store.put(PICTURE, "image/png")
    again = store.path(DIGEST, "image/png").stat()

    assert [f"{DIGEST[:2]}/{DIGEST}.png"] == files_under(store.root)
    assert (written.st_ino, written.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)


@pytest.mark.parametrize("damage", [b"", PICTURE[:-1], PICTURE + b"\0", PICTURE.replace(b"PNG", b"PNg")], ids=len)
def test_a_damaged_file_is_reported(store: Store, damage: bytes) -> None:
    """Bytes that no longer match their name are never handed out; keeping them anew heals."""
    store.put(PICTURE, "image/png")
    store.path(DIGEST, "image/png").write_bytes(damage)
    with pytest.raises(StoreError, match="damaged") as caught:
        store.get(DIGEST, "image/png")

    assert "--fresh" in caught.value.do

    store.put(PICTURE, "image/png")

    assert PICTURE == store.get(DIGEST, "image/png")


def test_a_missing_file_is_reported(store: Store) -> None:
    """The error says which file is gone, that it was paid for, and what can be done."""
    with pytest.raises(StoreError, match="cannot be read: No such file") as caught:
        store.get(DIGEST, "image/png")

    assert DIGEST in caught.value.what
    assert caught.value.do.startswith("It was paid for")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A picture that finds no room is an error that says how to go on, and no half file stays."""
    with monkeypatch.context() as patch:
        if step == "fsync":
            patch.setattr(os, "fsync", no_room)
        else:
            patch.setattr(Path, "replace", no_room)
        with pytest.raises(StoreError, match="No space left") as caught:
            store.put(PICTURE, "image/png")
        with pytest.raises(StoreError, match="No space left"):
            store.set_aside(b"<html>")

    assert "it collects what was paid for" in caught.value.do
    assert [] == files_under(store.root)

    store.put(PICTURE, "image/png")

    assert PICTURE == store.get(DIGEST, "image/png")


def test_a_damaged_file_survives_a_full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be replaced is left as it was: a failed write destroys nothing."""
    store.put(PICTURE, "image/png")
    store.path(DIGEST, "image/png").write_bytes(b"half a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        with pytest.raises(StoreError):
            store.put(PICTURE, "image/png")

    assert b"half a" == store.path(DIGEST, "image/png").read_bytes()


def test_an_interrupt_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop in the middle of writing leaves no temporary file either."""

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.put(PICTURE, "image/png")

    assert [] == files_under(store.root)


def test_bytes_are_on_the_disk_before_they_have_a_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synchronised first and named afterwards: at every moment it is absent or complete."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (steps.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda one, other: (steps.append("replace"), replace(one, other))[1])
    store.put(PICTURE, "image/png")

    assert ["fsync", "replace"] == steps[:2]


def test_many_may_keep_the_same_at_once(store: Store) -> None:
    """Kernels that finish with the same picture do not get into each other's way."""
    threads = [threading.Thread(target=store.put, args=(PICTURE, "image/png")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [f"{DIGEST[:2]}/{DIGEST}.png"] == files_under(store.root)
    assert PICTURE == store.get(DIGEST, "image/png")


@pytest.mark.parametrize("place", ["the root", "the fan", "the file"])
def test_something_in_the_way_is_an_error_of_ours(store: Store, place: str) -> None:
    """A file where a folder should be, or a folder where the file should be, is told in our words."""
    path = store.path(DIGEST, "image/png")
    if place == "the file":
        (path / "inside").mkdir(parents=True)
    else:
        blocked = store.root if place == "the root" else path.parent
        blocked.parent.mkdir(parents=True)
        blocked.write_text("in the way", "utf-8")
    with pytest.raises(StoreError, match="could not be kept"):
        store.put(PICTURE, "image/png")
    with pytest.raises(StoreError, match="cannot be read"):
        store.get(DIGEST, "image/png")


def test_what_is_no_picture_is_set_aside(store: Store) -> None:
    """Bytes that were paid for are kept apart, and are never listed as pictures."""
    path = store.set_aside(b"<html>")

    assert b"<html>" == path.read_bytes()
    assert path == store.set_aside(b"<html>")
    assert [] == store.files()


def test_files_are_listed_the_oldest_first(store: Store) -> None:
    """Path, hash, size and time of every picture, and nothing else that lies there."""
    assert [] == store.files()

    digests = [store.put(data, "image/webp") for data in (b"first", b"the second", b"3")]
    for age, digest in zip((30, 10, 20), digests, strict=True):
        os.utime(store.path(digest, "image/webp"), (1_000_000 - age, 1_000_000 - age))
    (store.root / digests[0][:2] / ".a-temporary-file").write_bytes(b"half")
    (store.root / "README").write_text("ours", "utf-8")
    first, second, third = digests

    assert [
        StoredFile(store.path(first, "image/webp"), first, 5, 999_970),
        StoredFile(store.path(third, "image/webp"), third, 1, 999_980),
        StoredFile(store.path(second, "image/webp"), second, 10, 999_990),
    ] == store.files()
