"""Delivery: a bad image does not affect the others, and paid images are never lost."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import struct
import time
import zlib
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from PIL import Image

from blockrun_magic.errors import InvalidResponse, Money, StoreError
from blockrun_magic.gateway.gateways import practice_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.images.store import Store
from blockrun_magic.notebook.commands.jobs import jobs
from blockrun_magic.studio import BatchProgress, ImageResult, ImageResults, Options, make_all
from blockrun_magic.studio.results import delivery
from fakes.gateway import Act, Merchant, change, picture_for, reset, studio_over

GATEWAY = practice_at("http://127.0.0.1:9/api")
FOUR = ImageRequest("generate", "a cat", "google/nano-banana", n=4)
ONE = ImageRequest("generate", "a dog", "google/nano-banana")


def entry(data: bytes) -> dict[str, str]:
    """Return an entry for an image in a gateway's response."""
    return {"b64_json": base64.b64encode(data).decode()}


def png_without_pixels() -> bytes:
    """Return a PNG with correct checksums and undecodable pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"not zlib" * 9) + chunk(b"IEND", b"")


GOOD = [entry(picture_for(str(index))) for index in range(4)]
BAD = [
    {"b64_json": "AAA"},
    {"url": 1},
    None,
    entry(b"<html>"),
    entry(picture_for("x")[:60]),
    entry(png_without_pixels()),
]


def make(folder: Path, merchant: Merchant, request: ImageRequest = FOUR, options: Options | None = None) -> ImageResult:
    """Return the result of `request` in a new studio."""

    async def run() -> ImageResult:
        async with studio_over(folder) as studio:
            return await studio.make(request, merchant.gateway, options)

    return asyncio.run(run())


def sends(*data: Any) -> dict[str, Act]:
    """Return acts of a merchant that responds with these images."""
    return {"settled": change(data=list(data))}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad)[:20])
def test_three_good_images_of_four_are_delivered(tmp_path: Path, bad: Any) -> None:
    """Of four images with a bad one, three are delivered; a later run collects the fourth without a second payment."""
    with Merchant(time.time, sends(*GOOD[:3], bad)) as merchant:
        first = make(tmp_path, merchant)
        again = make(tmp_path, merchant)
        asked = merchant.requests
        listed = job_ids(tmp_path)
        merchant.heal()
        healed = asyncio.run(resume(tmp_path, merchant))
        stored = make(tmp_path, merchant)

    assert (3, 3) == (len(first.images), len(again.images))
    assert [first.receipt.purchase_id] == listed
    assert [] == job_ids(tmp_path)
    assert first.notes
    assert again.receipt.cached
    assert again.notes
    assert 4 == len(healed.images) == len(stored.images)
    assert 0 == len(stored.notes)
    assert merchant.requests == asked + 1
    assert 1 == len(merchant.chain.moved)


def many_pixels(word: str) -> bytes:
    """Return a PNG of a few kilobytes with 49 megapixels."""
    image = Image.new("1", (7000, 7000))
    image.putpixel((len(word), 0), 1)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_the_images_of_a_cell_share_a_pixel_budget(tmp_path: Path) -> None:
    """Images above the pixel budget are set aside undecoded; a second run delivers them for the same payment."""
    one = replace(ONE, model="zai/cogview-4")
    two = [replace(one, prompt=prompt) for prompt in ("a dog", "a horse")]
    data = [entry(many_pixels(word)) for word in ("a", "bb")]
    check = mock.patch.object(delivery, "size_of_png", wraps=delivery.size_of_png)

    async def batch(merchant: Merchant) -> ImageResults:
        async with studio_over(tmp_path / "batch") as studio:
            return await make_all(studio, two, merchant.gateway, Options(), BatchProgress(2), 1)

    with Merchant(time.time, sends(data[0], *GOOD[:2], data[1])) as merchant:
        with check as decoded:
            result = make(tmp_path / "one", merchant)
        assert 3 == len(result.images) == decoded.call_count
        assert 1 == len(list((tmp_path / "one").rglob("not-pictures/*")))
    with Merchant(time.time, sends(data[0])) as merchant:
        with check as decoded:
            first = asyncio.run(batch(merchant))
        again = asyncio.run(batch(merchant))

    assert 1 == len(first) == len(first.failures) == decoded.call_count
    assert isinstance(first.failures[0].error, InvalidResponse)
    assert (2, 0) == (len(again), len(again.failures))
    assert 2 == len(merchant.chain.moved)


def job_ids(folder: Path) -> list[str]:
    """Return the ids that `%blockrun jobs` lists."""

    async def run() -> list[str]:
        async with studio_over(folder) as studio:
            session = SimpleNamespace(studio_and_gateway=lambda: (studio, GATEWAY), backgrounds=[], run=decided_none)
            card = jobs(SimpleNamespace(session=session), {})  # type: ignore[arg-type]
            return re.findall(r"^\s*([0-9a-f]{10})\b", card.text, re.MULTILINE)

    def decided_none(work: Coroutine[Any, Any, int]) -> int:
        work.close()
        return 0

    return asyncio.run(run())


async def resume(folder: Path, merchant: Merchant) -> ImageResult:
    """Resume the purchase and return its result."""
    async with studio_over(folder) as studio:
        purchase = studio.ledger.purchase("practice", FOUR.digest, 1)
        assert purchase is not None
        return await studio.resume(purchase, merchant.gateway)


def test_no_good_image_is_an_error_and_the_bytes_stay(tmp_path: Path) -> None:
    """Without a readable image the purchase stays open, its bytes are stored, and a later run collects the images."""
    with Merchant(time.time, sends(entry(b"<html>"), entry(b"{}"))) as merchant:
        with pytest.raises(InvalidResponse) as caught:
            make(tmp_path, merchant)
        merchant.heal()
        result = make(tmp_path, merchant)

    assert caught.value.money is not None
    assert [b"<html>", b"{}"] == sorted(
        (path.read_bytes() for path in (tmp_path / "pictures" / "not-pictures").iterdir()), reverse=False
    )
    assert 4 == len(result.images)
    assert 1 == len(merchant.chain.moved)


@pytest.mark.parametrize("count", [1, 3, 5, 40])
def test_the_count_is_compared(tmp_path: Path, count: int) -> None:
    """Too few images are delivered with a note; of too many, the first four are used."""
    with Merchant(time.time, sends(*(entry(picture_for(str(index))) for index in range(count)))) as merchant:
        result = make(tmp_path, merchant)
        again = make(tmp_path, merchant)

    assert min(count, 4) == len(result.images) == len(again.images)
    assert 1 == len(result.notes)
    assert (count < 4) == bool(again.notes)


def test_a_stored_file_that_is_gone_or_damaged_is_fetched_again(tmp_path: Path) -> None:
    """A missing or damaged file is downloaded again from its URL without a payment."""
    with Merchant(time.time, form="url") as merchant:
        for spoil in (Path.unlink, lambda path: path.write_bytes(b"no"), lambda path: path.write_bytes(b"")):
            result = make(tmp_path, merchant, ONE)
            spoil(result.files[0])
            again = make(tmp_path, merchant, ONE)
            assert again.files[0].exists()

    assert 1 == len(merchant.chain.moved)


def test_a_lost_file_without_an_address_is_never_bought_again(tmp_path: Path) -> None:
    """A missing file without a URL is an error; only `fresh` buys another image."""
    with Merchant(time.time) as merchant:
        make(tmp_path, merchant, ONE).files[0].unlink()
        assert not asyncio.run(stored(tmp_path, merchant))
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                make(tmp_path, merchant, ONE)
        fresh = make(tmp_path, merchant, ONE, Options(fresh=True))

    assert caught.value.money is not None
    assert 2 == fresh.receipt.take
    assert 2 == len(merchant.chain.moved)


async def stored(folder: Path, merchant: Merchant) -> bool:
    """Return `is_stored` for the one request."""
    async with studio_over(folder) as studio:
        return studio.is_stored(ONE, merchant.gateway, Options())


def test_bytes_are_bound_although_the_store_fails(tmp_path: Path) -> None:
    """If the store fails, the result uses a temporary folder; the next run stores the image without a request."""
    with Merchant(time.time) as merchant:
        with mock.patch.object(Store, "put", side_effect=StoreError("No room.", "")):
            result = make(tmp_path, merchant, ONE)
        merchant.acts["connect"] = reset
        again = make(tmp_path, merchant, ONE)

    assert (24, 16) == result.image.size == again.image.size
    assert result.notes
    assert result.files[0].read_bytes() == again.files[0].read_bytes()
    assert tmp_path in again.files[0].parents
    assert 1 == len(merchant.chain.moved)


def test_the_store_is_asked_before_anything_is_signed(tmp_path: Path) -> None:
    """An unwritable store is an error before anything is signed."""
    (tmp_path / "pictures").write_text("a file")
    with Merchant(time.time) as merchant, pytest.raises(StoreError) as caught:
        make(tmp_path, merchant, ONE)

    assert Money.nothing_signed() == caught.value.money
    assert [] == merchant.shown
