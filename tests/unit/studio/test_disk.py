"""A broken home folder or disk: the error has two lines, nothing is paid, and nothing is lost."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from filelock import FileLock

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.unexpected import BugError, await_guarded
from fakes import signer
from fakes.gateway import studio_over


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Return a practice gateway for this module."""
    with PracticeServer() as server:
        yield practice_at(server.url)


def settled(gateway: Gateway) -> int:
    """Return how many payments the gateway has settled."""
    return len(signer.ledger(gateway.base_url)["settlements"])


def buy(folder: Path, gateway: Gateway, prompt: str) -> Any:
    """Return the result of one purchase by a new studio over `folder`."""

    async def work() -> Any:
        async with studio_over(folder) as studio:
            return await studio.make(ImageRequest("generate", prompt, "zai/cogview-4", "512x512"), gateway)

    return asyncio.run(await_guarded(work()))


def newer(folder: Path) -> None:
    """Give the ledger a newer version than this package knows."""
    with sqlite3.connect(folder / "ledger.sqlite") as ledger:
        ledger.execute("PRAGMA user_version = 99")
    ledger.close()


def replaced_by(content: bytes) -> Callable[[Path], object]:
    """Return a function that replaces the ledger with `content`."""

    def replace(folder: Path) -> None:
        for path in folder.glob("ledger.sqlite*"):
            path.unlink()
        (folder / "ledger.sqlite").write_bytes(content)

    return replace


def folder_in_its_place(folder: Path) -> None:
    """Replace the ledger with a folder."""
    for path in folder.glob("ledger.sqlite*"):
        path.unlink()
    (folder / "ledger.sqlite").mkdir()


def file_in_place_of(name: str) -> Callable[[Path], object]:
    """Return a function that replaces a folder with a file."""

    def replace(folder: Path) -> None:
        for path in sorted((folder / name).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        if (folder / name).exists():
            (folder / name).rmdir()
        (folder / name).write_text("a file")

    return replace


STATES: dict[str, Callable[[Path], object]] = {
    "a newer ledger": newer,
    "random bytes": replaced_by(os.urandom(9000)),
    "a text": replaced_by(b"this is not a ledger" * 300),
    "a folder in its place": folder_in_its_place,
    "a file in place of the locks": file_in_place_of("locks"),
    "a file in place of the store": file_in_place_of("pictures"),
}


@pytest.mark.parametrize("state", STATES)
def test_a_home_in_a_bad_state_pays_nothing(tmp_path: Path, gateway: Gateway, state: str) -> None:
    """With a broken home folder, a purchase is refused in two lines and nothing is paid."""
    buy(tmp_path, gateway, f"before {state}")
    STATES[state](tmp_path)
    paid = settled(gateway)

    with pytest.raises(BlockrunError) as caught:
        buy(tmp_path, gateway, f"after {state}")

    assert not isinstance(caught.value, BugError)
    assert 2 == len(str(caught.value).splitlines())
    assert paid == settled(gateway)


FAULTS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.ENOLCK, errno.EDQUOT)


@pytest.mark.parametrize("number", FAULTS, ids=[errno.errorcode[number] for number in FAULTS])
@pytest.mark.parametrize("what", ["locks", "store"])
def test_a_disk_that_refuses_pays_nothing(tmp_path: Path, gateway: Gateway, number: int, what: str) -> None:
    """With a full or read-only disk, or without file locks, a purchase is refused in two lines and nothing is paid."""
    buy(tmp_path, gateway, f"before {what} {number}")
    paid = settled(gateway)
    fault = mock.Mock(side_effect=OSError(number, os.strerror(number)))
    target: tuple[Any, str] = (FileLock, "_acquire") if what == "locks" else (tempfile, "TemporaryFile")

    with mock.patch.object(*target, fault), pytest.raises(BlockrunError) as caught:
        buy(tmp_path, gateway, f"after {what} {number}")

    assert not isinstance(caught.value, BugError)
    assert 2 == len(str(caught.value).splitlines())
    assert paid == settled(gateway)


def test_nothing_is_lost_when_the_disk_is_well_again(tmp_path: Path, gateway: Gateway) -> None:
    """After the disk is repaired, an earlier purchase is still available at no cost."""
    buy(tmp_path, gateway, "kept through it all")
    fault = mock.Mock(side_effect=OSError(errno.ENOLCK, "No locks available"))
    with mock.patch.object(FileLock, "_acquire", fault), pytest.raises(BlockrunError):
        buy(tmp_path, gateway, "kept through it all")
    paid = settled(gateway)

    assert buy(tmp_path, gateway, "kept through it all").receipt.cached
    assert paid == settled(gateway)
