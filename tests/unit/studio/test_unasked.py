"""Unpaid requests with a result: the image is delivered, its price counts, and the gateway gets no further request."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blockrun_magic.errors import BlockrunError, Fate, PaymentOutcomeUnknown
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.x402.networks import BASE
from blockrun_magic.studio import ImageResult
from blockrun_magic.studio.results.result import Quote
from fakes.gateway import Merchant, picture_for, say, studio_over

CAT = ImageRequest("generate", "a cat", "google/nano-banana")
DOG = ImageRequest("generate", "a dog", "google/nano-banana")
IMAGE = {"data": [{"b64_json": base64.b64encode(picture_for("x")).decode()}]}
LISTED = SNAPSHOT.list_price(CAT.price_key)


@pytest.fixture
def merchant() -> Iterator[Merchant]:
    """Return a real-money merchant that answers without a payment."""
    with Merchant(time.time, {"challenge": say(200, IMAGE)}, network=BASE) as merchant:
        yield merchant


def make(folder: Path, merchant: Merchant, request: ImageRequest = CAT) -> ImageResult:
    """Return the result of `request` in a new studio."""

    async def run() -> ImageResult:
        async with studio_over(folder) as studio:
            return await studio.make(request, merchant.gateway)

    return asyncio.run(run())


def booked(folder: Path) -> list[tuple[State, int | None, bool]]:
    """Return the state, the amount and the prepaid flag of each open payment."""

    async def run() -> list[tuple[State, int | None, bool]]:
        async with studio_over(folder) as studio:
            return [(p.state, p.amount, p.prepaid) for p in studio.ledger.open_payments()]

    return asyncio.run(run())


def test_the_image_is_delivered_and_its_price_counts(tmp_path: Path, merchant: Merchant) -> None:
    """The image is delivered, its list price counts as unknown, and another request is refused unsent."""
    first = make(tmp_path, merchant)
    asked = merchant.requests
    again = make(tmp_path, merchant)

    assert 1 == len(first.images)
    assert first.notes
    assert again.receipt.cached
    assert [(State.UNKNOWN, LISTED, True)] == booked(tmp_path)
    with pytest.raises(BlockrunError):
        make(tmp_path, merchant, DOG)
    assert asked == merchant.requests
    assert [] == merchant.shown


@pytest.mark.parametrize("answer", [say(200, {"data": []}), say(202, {"id": "1", "poll_url": "/v1/jobs/1"})])
def test_an_answer_without_an_image_counts_as_well(tmp_path: Path, merchant: Merchant, answer: object) -> None:
    """A result without an image counts as unknown, and the next run is refused unsent."""
    merchant.acts["challenge"] = answer  # type: ignore[assignment]
    with pytest.raises(BlockrunError) as first:
        make(tmp_path, merchant)
    asked = merchant.requests
    with pytest.raises(PaymentOutcomeUnknown):
        make(tmp_path, merchant)

    assert first.value.money is not None
    assert (Fate.UNKNOWN, LISTED) == (first.value.money.fate, first.value.money.amount)
    assert asked == merchant.requests
    assert [(State.UNKNOWN, LISTED, True)] == booked(tmp_path)


def test_a_question_for_the_price_that_bought_is_on_record(tmp_path: Path, merchant: Merchant) -> None:
    """A quote that returned an image counts even above a limit; the image is stored, and a second quote is refused."""

    async def ask() -> tuple[list[BaseException | Quote], int]:
        async with studio_over(tmp_path) as studio:
            studio.ledger.set_caps(session=1)
            kinds = (CAT, replace(CAT, size="1216x832"))
            asked = (studio.quote(request, merchant.gateway) for request in kinds)
            return await asyncio.gather(*asked, return_exceptions=True), studio.ledger.committed("real").session

    outcomes, counted = asyncio.run(ask())
    errors = [outcome for outcome in outcomes if isinstance(outcome, BlockrunError)]
    asked = merchant.requests

    assert [Fate.UNKNOWN, Fate.NOTHING_SIGNED] == [error.money.fate for error in errors if error.money]
    assert LISTED == counted
    assert [(State.UNKNOWN, LISTED, True)] == booked(tmp_path)
    assert make(tmp_path, merchant).receipt.cached
    assert asked == merchant.requests
