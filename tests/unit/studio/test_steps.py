"""The steps of a purchase: statements, thread calls, and reads of its source."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic import threads
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.images import store
from fakes.gateway import Merchant, studio_over

_EDIT = "openai/gpt-image-1"
_SOURCE = b"\x89PNG\r\n\x1a\n" + bytes(100_000)


def _requests(source: Upload | None) -> list[ImageRequest]:
    """Return two requests with the same price."""
    if source is None:
        return [ImageRequest("generate", prompt, "google/nano-banana") for prompt in ("a cat", "a dog")]
    return [ImageRequest("edit", prompt, _EDIT, images=(source,)) for prompt in ("a cat", "a dog")]


def _second(folder: Path, requests: list[ImageRequest], watch: Callable[[Any], object]) -> None:
    """Buy both images, and start `watch` before the second one."""

    async def buy(merchant: Merchant) -> None:
        async with studio_over(folder) as studio:
            await studio.make(requests[0], merchant.gateway)
            watch(studio)
            await studio.make(requests[1], merchant.gateway)

    with Merchant(time.time) as merchant:
        asyncio.run(buy(merchant))


def test_an_image_at_a_known_price_takes_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a known price, an image takes at most 7 thread calls and 52 statements."""
    calls: list[str] = []
    statements: list[str] = []
    submit = threads._submit

    def counted(name: str, *rest: Any) -> Any:
        calls.append(name)
        return submit(name, *rest)

    def watch(studio: Any) -> None:
        studio.ledger.database._connection.set_trace_callback(statements.append)
        monkeypatch.setattr(threads, "_submit", counted)

    _second(tmp_path, _requests(None), watch)

    assert 7 >= len(calls)
    assert 52 >= len(statements)


def test_a_source_that_was_stored_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored, unchanged source is neither read nor hashed again."""
    source = Upload.from_file_bytes(_SOURCE, "image/png")
    read: list[Path] = []
    hashed: list[int] = []
    sha256, read_file = store.hashlib.sha256, store.read_file

    def watch(_: Any) -> None:
        monkeypatch.setattr(store, "read_file", lambda path, limit: (read.append(path), read_file(path, limit))[1])
        monkeypatch.setattr(store.hashlib, "sha256", lambda data=b"": (hashed.append(len(data)), sha256(data))[1])

    _second(tmp_path, _requests(source), watch)

    assert [] == [path for path in read if source.digest.removeprefix("sha256:") in path.name]
    assert len(_SOURCE) not in hashed


def test_a_stored_file_that_was_changed_is_written_again(tmp_path: Path) -> None:
    """A stored file with wrong contents is written again."""
    folder = store.Store(tmp_path / "pictures")
    digest = folder.put(_SOURCE, "image/png")
    folder.path(digest, "image/png").write_bytes(b"damaged")

    assert digest == folder.put(_SOURCE, "image/png")
    assert folder.get(digest, "image/png") == _SOURCE
