"""Locks of purchases: without usable file locks, nothing is bought."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from blockrun_magic.errors import LedgerError
from blockrun_magic.gateway.request import ImageRequest
from fakes.gateway import Merchant, studio_over

REQUEST = ImageRequest("generate", "a cat", "google/nano-banana")


SPOILED: dict[str, Callable[[Path], object]] = {
    "a file in its place": lambda folder: folder.write_text(""),
    "a link to nowhere": lambda folder: folder.symlink_to("/nowhere/at/all"),
    "no locks": lambda folder: folder.mkdir(),
}


@pytest.mark.skipif(os.name != "posix", reason="flock is POSIX's")
@pytest.mark.parametrize("kind", SPOILED)
def test_a_locks_folder_that_cannot_be_used_is_two_lines(tmp_path: Path, kind: str) -> None:
    """An unusable locks folder is an error before anything is signed; after the repair, the purchase works."""
    SPOILED[kind](tmp_path / "locks")

    async def run(merchant: Merchant) -> None:
        async with studio_over(tmp_path) as studio:
            await studio.make(REQUEST, merchant.gateway)

    failing = mock.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "No locks available"))
    with Merchant(time.time) as merchant:
        if kind == "no locks":
            failing.start()
        try:
            with pytest.raises(LedgerError):
                asyncio.run(run(merchant))
        finally:
            if kind == "no locks":
                failing.stop()
        assert [] == merchant.shown
        if kind != "no locks":
            (tmp_path / "locks").unlink()
        asyncio.run(run(merchant))

    assert 1 == len(merchant.chain.moved)
