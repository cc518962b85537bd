"""Purchases with one request: a price of the last hour is signed without a new quote."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blockrun_magic.errors import BlockrunError, BudgetError, Fate, PaymentRejected
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.payments.ledger.reports import spending_summary
from blockrun_magic.studio import Options, Studio
from blockrun_magic.studio.payment.retry import Entry, RateGate
from fakes.gateway import Clock, Exchange, InvalidPayment, Merchant, Reply, say, studio_over


@pytest.fixture
def clock() -> Clock:
    """Return a clock that the test can move."""
    return Clock()


@pytest.fixture
def merchant(clock: Clock) -> Iterator[Merchant]:
    """Return a merchant without faults."""
    with Merchant(clock) as merchant:
        yield merchant


def in_studio(
    folder: Path,
    work: Callable[[Studio], Awaitable[Any]],
    session: str = "first",
    clock: Callable[[], float] = time.time,
) -> Any:
    """Return the result of `work` in a new studio over `folder`."""

    async def kernel() -> Any:
        async with studio_over(folder, session=session, clock=clock) as studio:
            return await work(studio)

    return asyncio.run(kernel())


def fox(number: int) -> ImageRequest:
    """Return a numbered request; all have the same price."""
    return ImageRequest("generate", f"a fox, number {number}", "black-forest/flux-1.1-pro")


def edit(prompt: str) -> ImageRequest:
    """Return a request for an edit."""
    file = io.BytesIO()
    Image.effect_noise((100, 100), 80).save(file, "PNG")
    source = Upload.from_file_bytes(file.getvalue(), "image/png")
    return ImageRequest("edit", prompt, "openai/gpt-image-1", images=(source,))


# -- the price


def test_after_the_first_quote_a_picture_is_one_request(tmp_path: Path, merchant: Merchant) -> None:
    """Within an hour, the same kind of request needs no new quote, also in another session."""
    counts = []
    for number, session in enumerate(("first", "first", "second")):
        before = merchant.requests
        in_studio(tmp_path, lambda studio, number=number: studio.make(fox(number), merchant.gateway), session)
        counts.append(merchant.requests - before)

    assert [2, 1, 1] == counts
    assert 3 * 42_000 == merchant.chain.total


def test_asking_for_a_price_is_enough_to_sign_ahead(tmp_path: Path, merchant: Merchant) -> None:
    """After a quote, the image needs one request."""
    in_studio(tmp_path, lambda studio: studio.quote(fox(1), merchant.gateway))
    before = merchant.requests
    in_studio(tmp_path, lambda studio: studio.make(fox(2), merchant.gateway))

    assert 1 == merchant.requests - before


def test_after_an_hour_the_price_is_asked_again(tmp_path: Path, clock: Clock, merchant: Merchant) -> None:
    """A quote is used only within an hour of an unchanged clock."""
    in_studio(tmp_path, lambda studio: studio.quote(fox(1), merchant.gateway), clock=clock)
    counts = []
    for ahead in (3590.0, 7300.0, -4000.0):
        clock.ahead = ahead
        before = merchant.requests
        in_studio(tmp_path, lambda studio, ahead=ahead: studio.make(fox(int(ahead)), merchant.gateway), clock=clock)
        counts.append(merchant.requests - before)

    assert [2, 2, 2] == counts


@pytest.mark.parametrize("surcharge", [1_000, -1_000])
def test_a_price_that_changed_is_signed_with_the_same_nonce(tmp_path: Path, merchant: Merchant, surcharge: int) -> None:
    """After a price change, the new payload has the same nonce; the ledger records the new price, which is cached."""
    in_studio(tmp_path, lambda studio: studio.make(fox(1), merchant.gateway))
    merchant.surcharge = surcharge
    before = merchant.requests

    async def buy(studio: Studio) -> tuple[int, int]:
        result = await studio.make(fox(2), merchant.gateway)
        return result.receipt.amount, spending_summary(studio.ledger, "practice", "all").settled

    amount, spent = in_studio(tmp_path, buy)
    first, second = (shown.payload for shown in merchant.shown[1:])

    assert 2 == merchant.requests - before
    assert (42_000, 42_000 + surcharge) == (first.value, second.value)
    assert first.nonce == second.nonce
    assert 42_000 + surcharge == amount
    assert merchant.chain.total == spent == 84_000 + surcharge
    before = merchant.requests
    in_studio(tmp_path, lambda studio: studio.make(fox(3), merchant.gateway))

    assert 1 == merchant.requests - before


def test_a_new_price_is_signed_for_as_long_as_the_first_one(tmp_path: Path, clock: Clock, merchant: Merchant) -> None:
    """The new payload expires no earlier than the first one, and the next run does not wait for the first to expire."""
    merchant.window = 3600
    in_studio(tmp_path, lambda studio: studio.make(fox(1), merchant.gateway), clock=clock)
    merchant.window, merchant.surcharge = 300, -1_000
    merchant.acts["paid"] = say(500)

    async def buy(studio: Studio) -> Any:
        return await asyncio.wait_for(studio.make(fox(2), merchant.gateway), 60)

    with pytest.raises(BlockrunError):
        in_studio(tmp_path, buy, clock=clock)
    clock.ahead = 1_000
    merchant.heal()
    result = in_studio(tmp_path, buy, "second", clock)
    first, *_, last = (shown.payload for shown in merchant.shown[1:])

    assert (first.nonce, 41_000, 41_000) == (last.nonce, last.value, result.receipt.amount)
    assert first.valid_before <= last.valid_before <= first.valid_before + 1
    assert 83_000 == merchant.chain.total


def test_a_price_that_rose_above_what_was_allowed_is_not_signed(tmp_path: Path, merchant: Merchant) -> None:
    """A new price above --max-price is not signed; the refused payload stays reserved until it expires."""
    in_studio(tmp_path, lambda studio: studio.make(fox(1), merchant.gateway))
    merchant.surcharge = 30_000

    async def buy(studio: Studio) -> tuple[BaseException, int]:
        with pytest.raises(BudgetError, match=r"\$0\.072") as caught:
            await studio.make(fox(2), merchant.gateway, Options(max_price=50_000))
        return caught.value, spending_summary(studio.ledger, "practice", "all").at_risk

    error, at_risk = in_studio(tmp_path, buy)

    assert isinstance(error, BudgetError)
    assert error.money is not None
    assert (Fate.RESERVED, 42_000) == (error.money.fate, error.money.amount)
    assert 42_000 == at_risk
    assert 2 == len(merchant.shown)
    assert 42_000 == merchant.chain.total


def test_a_payment_that_is_refused_at_its_price_is_not_signed_again(tmp_path: Path, merchant: Merchant) -> None:
    """A payment refused without a price change is not signed again."""
    in_studio(tmp_path, lambda studio: studio.make(fox(1), merchant.gateway))

    async def broke(exchange: Exchange) -> Reply | None:
        raise InvalidPayment("insufficient balance")

    merchant.acts["paid"] = broke

    async def buy(studio: Studio) -> None:
        with pytest.raises(PaymentRejected):
            await studio.make(fox(2), merchant.gateway)

    in_studio(tmp_path, buy)

    assert 2 == len(merchant.shown)


def test_a_batch_asks_each_price_once(tmp_path: Path, merchant: Merchant) -> None:
    """Concurrent requests of one kind share one quote."""
    before = merchant.requests

    async def buy(studio: Studio) -> None:
        await asyncio.gather(*(studio.make(fox(number), merchant.gateway) for number in range(6)))

    in_studio(tmp_path, buy)

    assert 7 == merchant.requests - before


def test_a_signature_that_expires_while_it_waits_its_turn_is_never_sent(
    tmp_path: Path, clock: Clock, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a signature expires while it waits for a rate limit, it is released and another one is sent."""
    enter = RateGate.enter

    async def wait(gate: RateGate) -> Entry:
        clock.ahead += 400
        return await enter(gate)

    monkeypatch.setattr(RateGate, "enter", wait)

    async def buy(studio: Studio) -> list[str]:
        result = await studio.make(fox(1), merchant.gateway)
        return [payment.state for payment in studio.ledger.payments(result.receipt.purchase_id)]

    assert ["released", "settled"] == in_studio(tmp_path, buy, clock=clock)
    assert 1 == len(merchant.shown)
    assert 42_000 == merchant.chain.total


# -- the files


def test_a_gateway_that_takes_no_files_gets_json_and_is_remembered(tmp_path: Path, merchant: Merchant) -> None:
    """A quote refused for its form is sent as JSON; later requests are JSON from the start, also in other sessions."""
    merchant.takes_files = False
    forms: list[bool] = []

    async def look(exchange: Exchange) -> None:
        forms.append(exchange.form is not None)

    merchant.acts |= {"challenge": look, "paid": look}
    for number, session in enumerate(("first", "second")):
        request = edit(f"at night {number}")
        before = merchant.requests
        in_studio(tmp_path, lambda studio, request=request: studio.make(request, merchant.gateway), session)

        assert (3, 1)[number] == merchant.requests - before
    assert [False, False, False] == forms


def test_a_form_that_is_refused_with_the_payment_is_sent_as_json_with_the_same_payment(
    tmp_path: Path, merchant: Merchant
) -> None:
    """If the form is refused with the payment, the JSON request has the same payment."""
    merchant.takes_files = merchant.looks_before_paid = False
    in_studio(tmp_path, lambda studio: studio.make(edit("at night"), merchant.gateway))

    assert 1 == len(merchant.shown) == len(merchant.chain.moved)
    assert 3 == merchant.requests
