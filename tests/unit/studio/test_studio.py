"""The order of steps from a request to its image, and the effect of each option."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from PIL import Image

from blockrun_magic.errors import BlockrunError, BudgetError, PaymentOutcomeUnknown, RequestError, StoreError
from blockrun_magic.gateway.gateways import PRESETS, Gateway, practice_at
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.images.provenance import read
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio import Options, Studio
from fakes.gateway import Exchange, Merchant, Reply, payer, reset, studio_over
from harness.crash import practice_gateway
from harness.kernel import paid_to
from harness.uploads import upload

_PRICE = 52_500
_REQUEST = ImageRequest("generate", "a heron in the reeds", "google/nano-banana")


_EDIT = ImageRequest("edit", "add a moon", "openai/gpt-image-1", images=(upload("navy"),), mask=upload("white"))


@pytest.fixture
def merchant() -> Iterator[Merchant]:
    """Return a merchant without faults."""
    with Merchant(time.time) as merchant:
        yield merchant


def _in_studio(folder: Path, work: Callable[[Studio], Awaitable[Any]], session: str = "first") -> Any:
    """Return the result of `work` in a new studio over `folder`."""

    async def kernel() -> Any:
        async with studio_over(folder, session=session) as studio:
            return await work(studio)

    return asyncio.run(kernel())


# -- the order


def _watched(studio: Studio, stack: ExitStack) -> list[str]:
    """Return a list that records each step of `studio` at its start."""
    steps: list[str] = []

    def step(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def take(*args: Any, **kwargs: Any) -> Any:
            steps.append(name)
            return real(*args, **kwargs)

        return take

    ledger = (
        "create_purchase",
        "authorize",
        "submit",
        "poll",
        "settle",
        "release",
        "mark_unknown",
        "save_image_urls",
        "finish",
    )
    for owner, names in (
        (studio.ledger, ledger),
        (studio.client, ("post", "post_files", "get")),
        (studio.store, ("put",)),
    ):
        for name in names:
            stack.enter_context(mock.patch.object(owner, name, step(name, getattr(owner, name))))
    return steps


def _steps_of(folder: Path, request: ImageRequest, merchant: Merchant) -> list[str]:
    async def watch(studio: Studio) -> list[str]:
        with ExitStack() as stack:
            steps = _watched(studio, stack)
            await studio.make(request, merchant.gateway)
        return steps

    return list(_in_studio(folder, watch))


def test_every_step_is_on_record_before_it_is_taken(tmp_path: Path, merchant: Merchant) -> None:
    """The ledger records the purchase, the signed payment and its sending before each step, and finishes last.

    This image comes inside the response, so the ledger records no URL.
    """
    steps = _steps_of(tmp_path, _REQUEST, merchant)

    assert ["create_purchase", "post", "authorize", "submit", "post"] == steps[:5]
    assert {"get", "settle", "put"} == set(steps[5:-1])  # the witness is looked up while the image is decoded
    assert "finish" == steps[-1]


def test_what_is_edited_is_kept_before_it_is_sent(tmp_path: Path, merchant: Merchant) -> None:
    """The source and the mask are stored before the request, so that another kernel can continue the edit."""
    assert ["put", "put", "create_purchase", "post_files"] == _steps_of(tmp_path, _EDIT, merchant)[:4]


def test_a_slow_job_is_on_record_before_it_is_polled(tmp_path: Path, merchant: Merchant) -> None:
    """The ledger records the job's URL before the first poll."""
    merchant.slow = True
    steps = _steps_of(tmp_path, _REQUEST, merchant)

    assert ["create_purchase", "post", "authorize", "submit", "post", "poll"] == steps[:6]
    assert steps.index("poll") < steps.index("get") < steps.index("settle")


# -- bought once


@pytest.mark.parametrize("request_", [_REQUEST, _EDIT], ids=["generate", "edit"])
def test_a_kept_picture_is_free_and_unheard_of(tmp_path: Path, merchant: Merchant, request_: ImageRequest) -> None:
    """The same request in another session costs nothing and sends no request."""

    async def make(studio: Studio) -> Any:
        return await studio.make(request_, merchant.gateway)

    bought = _in_studio(tmp_path, make)
    requests = merchant.requests
    kept = _in_studio(tmp_path, make, "second")

    assert requests == merchant.requests
    assert 0 == kept.cost_micros
    assert bought.cost_micros == merchant.chain.total
    assert (False, True) == (bought.receipt.cached, kept.receipt.cached)
    assert bought.receipt.purchased_at == kept.receipt.purchased_at
    assert bought.image.tobytes() == kept.image.tobytes()


def test_real_and_practice_never_answer_for_each_other(tmp_path: Path, merchant: Merchant) -> None:
    """An image bought with play money is not used for real money."""

    async def ask(studio: Studio) -> None:
        await studio.make(_REQUEST, merchant.gateway)

        assert studio.is_stored(_REQUEST, merchant.gateway, Options())
        for real in PRESETS.values():
            assert not studio.is_stored(_REQUEST, real, Options())
            with pytest.raises(StoreError):
                await studio.make(_REQUEST, real, Options(cache_only=True))

    _in_studio(tmp_path, ask)


def test_takes_are_bought_with_fresh_and_named_with_take(tmp_path: Path, merchant: Merchant) -> None:
    """`fresh` buys the next take; `take` selects one; without both, the first take is used."""

    async def make(studio: Studio) -> None:
        first, second = [await studio.make(_REQUEST, merchant.gateway, Options(fresh=fresh)) for fresh in (False, True)]
        named = [await studio.make(_REQUEST, merchant.gateway, Options(take=take)) for take in (1, 2)]
        again = await studio.make(_REQUEST, merchant.gateway)

        assert [1, 2, 1, 2, 1] == [result.receipt.take for result in (first, second, *named, again)]
        assert [_PRICE, _PRICE, 0, 0, 0] == [result.cost_micros for result in (first, second, *named, again)]
        assert first.image.tobytes() != second.image.tobytes()

    _in_studio(tmp_path, make)

    assert 2 * _PRICE == merchant.chain.total


def test_cache_only_sends_nothing(tmp_path: Path, merchant: Merchant) -> None:
    """With `cache_only`, a missing image is an error without a request, and a stored one is returned."""

    async def make(studio: Studio) -> None:
        with pytest.raises(StoreError):
            await studio.make(_REQUEST, merchant.gateway, Options(cache_only=True))

        assert 0 == merchant.requests

        await studio.make(_REQUEST, merchant.gateway)
        kept = await studio.make(_REQUEST, merchant.gateway, Options(cache_only=True))

        assert kept.receipt.cached

    _in_studio(tmp_path, make)


@pytest.mark.parametrize("damage", [b"", b"<html>", None], ids=["empty", "another file", "removed"])
def test_a_damaged_picture_is_reported_and_not_bought_again(
    tmp_path: Path, merchant: Merchant, damage: bytes | None
) -> None:
    """A damaged file is an error that suggests --fresh, and nothing is paid."""

    async def make(studio: Studio) -> None:
        [file] = (await studio.make(_REQUEST, merchant.gateway)).files
        file.unlink() if damage is None else file.write_bytes(damage)
        with pytest.raises(StoreError, match="--fresh"):
            await studio.make(_REQUEST, merchant.gateway)

        assert _PRICE == merchant.chain.total

    _in_studio(tmp_path, make)


# -- caps


@pytest.mark.parametrize(
    ("cap", "options"),
    [
        ({"image": _PRICE - 1}, Options()),
        ({"session": _PRICE - 1}, Options()),
        ({"day": _PRICE - 1}, Options()),
        ({}, Options(max_price=_PRICE - 1)),
    ],
    ids=["image", "session", "day", "--max-price"],
)
def test_a_cap_refuses_before_signing(
    tmp_path: Path, merchant: Merchant, cap: dict[str, int], options: Options
) -> None:
    """A limit one micro-dollar too low refuses the purchase without a signature or a reservation."""

    async def make(studio: Studio) -> None:
        studio.ledger.set_caps(**cap)
        with mock.patch("blockrun_magic.studio.payment.signers.sign_payment") as sign:
            with pytest.raises(BudgetError):
                await studio.make(_REQUEST, merchant.gateway, options)
            sign.assert_not_called()

        assert 0 == studio.ledger.committed("practice").day

    _in_studio(tmp_path, make)

    assert [] == merchant.shown


def test_caps_that_just_suffice_are_no_obstacle(tmp_path: Path, merchant: Merchant) -> None:
    """An image at exactly the limit is bought, and the next one is refused."""

    async def make(studio: Studio) -> None:
        studio.ledger.set_caps(image=_PRICE, session=_PRICE, day=_PRICE)
        await studio.make(_REQUEST, merchant.gateway)
        with pytest.raises(BudgetError, match="session"):
            await studio.make(_REQUEST, merchant.gateway, Options(fresh=True))

    _in_studio(tmp_path, make)

    assert _PRICE == merchant.chain.total


def test_what_is_at_risk_counts_against_the_caps(tmp_path: Path, merchant: Merchant) -> None:
    """A payment with an unknown outcome counts against the limits, also in another session."""
    merchant.acts["paid"] = reset

    async def lose(studio: Studio) -> None:
        studio.ledger.set_caps(day=_PRICE)
        with pytest.raises(PaymentOutcomeUnknown):
            await studio.make(_REQUEST, merchant.gateway)

    async def want_another(studio: Studio) -> None:
        with pytest.raises(BudgetError):
            await studio.make(replace(_REQUEST, prompt="another"), merchant.gateway)

    _in_studio(tmp_path, lose)
    _in_studio(tmp_path, want_another, "second")


def test_a_bad_request_is_refused_before_anything_is_sent(tmp_path: Path, merchant: Merchant) -> None:
    """A size that the model does not sell is refused without a request."""

    async def make(studio: Studio) -> None:
        with pytest.raises(RequestError):
            await studio.make(replace(_REQUEST, size="7x7"), merchant.gateway)

    _in_studio(tmp_path, make)

    assert 0 == merchant.requests


# -- the practice gateway in another process


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a practice gateway in another process."""
    with practice_gateway(tmp_path_factory.mktemp("practice")) as url:
        yield practice_at(url)


def test_a_suspicious_price_needs_the_users_word(tmp_path: Path, practice: Gateway) -> None:
    """A price of ten times the list price is refused before signing; `max_price` allows it."""
    request = ImageRequest("generate", "a mountain practice:price-up", "openai/dall-e-2", "256x256")

    async def make(studio: Studio) -> None:
        with pytest.raises(BudgetError):
            await studio.make(request, practice)

        assert [] == studio.ledger.open_payments(tuple(State))

        agreed = await studio.make(request, practice, Options(max_price=210_000))

        assert 210_000 == agreed.cost_micros

    _in_studio(tmp_path, make)


def test_the_receipt_is_in_the_picture(tmp_path: Path, practice: Gateway) -> None:
    """The stored PNG and the image in memory include the receipt."""
    request = ImageRequest(
        "edit", "add a moon practice:data", "openai/gpt-image-1", images=_EDIT.images, mask=_EDIT.mask
    )

    async def make(studio: Studio) -> Any:
        return await studio.make(request, practice)

    result = _in_studio(tmp_path, make)
    [file] = result.files
    assert request.mask is not None
    expected = {
        "prompt": request.prompt,
        "endpoint": "/v1/images/image2image",
        "model": request.model,
        "size": request.size,
        "n": 1,
        "index": 0,
        "take": 1,
        "price_usd": "0.021000",
        "money": "practice",
        "gateway": "practice",
        "network": practice.networks[0].id,
        "transaction": result.receipt.transaction,
        "request": request.digest,
        "parents": [request.images[0].digest, request.mask.digest],
    }
    found = read(file)
    assert found is not None

    assert expected == {name: found.get(name) for name in expected}
    assert found == read(result.image)
    with Image.open(file) as image:
        assert "add a moon" in image.info["parameters"]
    assert payer().address == result.receipt.payer


def test_a_private_picture_says_nothing(tmp_path: Path, practice: Gateway) -> None:
    """With `private`, neither the file nor the image includes a receipt; the result does."""
    request = ImageRequest("generate", "a secret garden", "openai/dall-e-2", "256x256")

    async def make(studio: Studio) -> None:
        result = await studio.make(request, practice, Options(private=True))

        assert read(result.files[0]) is None
        assert read(result.image) is None
        assert b"secret garden" not in result.files[0].read_bytes()
        assert result.receipt.transaction is not None

    _in_studio(tmp_path, make)


# -- resume


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "a job"])
@pytest.mark.parametrize("request_", [_REQUEST, _EDIT], ids=["generate", "edit"])
def test_another_kernel_goes_on_from_the_record_alone(
    tmp_path: Path, merchant: Merchant, request_: ImageRequest, *, slow: bool
) -> None:
    """Another session finishes an open purchase from the ledger, with the same request and the same payment."""
    merchant.slow = slow
    merchant.acts["polled" if slow else "settled"] = reset

    async def lose(studio: Studio) -> None:
        with pytest.raises(BlockrunError):
            await studio.make(request_, merchant.gateway, Options(private=True))

    async def resume(studio: Studio) -> Any:
        [purchase] = studio.ledger.open_purchases()
        return await studio.resume(purchase, merchant.gateway)

    _in_studio(tmp_path, lose)
    merchant.heal()
    result = _in_studio(tmp_path, resume, "second")

    assert request_.digest == result.receipt.request_digest
    assert 1 == len({shown.header for shown in merchant.shown})
    assert 1 == len({shown.order for shown in merchant.shown})
    assert 1 == len(merchant.chain.moved)
    assert read(result.files[0]) is None


def test_a_kernel_reconciles_what_another_left(tmp_path: Path, merchant: Merchant) -> None:
    """A lost payment that was cashed is settled without a payment request."""
    merchant.acts["settled"] = merchant.acts["witness"] = reset

    async def lose(studio: Studio) -> None:
        with pytest.raises(PaymentOutcomeUnknown):
            await studio.make(_REQUEST, merchant.gateway)

    async def reconcile(studio: Studio) -> tuple[int, int]:
        return await studio.reconcile(merchant.gateway), await studio.reconcile(merchant.gateway)

    _in_studio(tmp_path, lose)
    merchant.heal()
    shown = len(merchant.shown)

    assert (1, 0) == _in_studio(tmp_path, reconcile, "second")
    assert shown == len(merchant.shown)


def test_a_job_is_collected_when_its_gateway_has_moved_to_another_port(tmp_path: Path) -> None:
    """A job continues after a restart of the practice gateway on another port."""
    request = replace(_REQUEST, prompt="a snail practice:slow=1")
    books = tmp_path / "practice.sqlite"

    async def begin(studio: Studio, gateway: Gateway) -> None:
        on_record, poll = asyncio.Event(), studio.ledger.poll

        def noted(*about: Any) -> None:
            poll(*about)
            on_record.set()

        with mock.patch.object(studio.ledger, "poll", noted):
            making = asyncio.create_task(studio.make(request, gateway))
            await on_record.wait()
        making.cancel()

    async def collect(studio: Studio, gateway: Gateway) -> None:
        await studio.make(request, gateway)

    with PracticeServer(db=books) as first:
        before = first.url
        _in_studio(tmp_path, lambda studio: begin(studio, practice_at(before)))
    with PracticeServer(db=books) as second:
        after = second.url
        _in_studio(tmp_path, lambda studio: collect(studio, practice_at(after)), "second")
        paid = paid_to(after)

    assert before != after
    assert 52_500 == paid


@pytest.mark.parametrize("refusal", [None, 400, 413, 415, 422])
def test_the_price_of_an_edit_is_asked_without_its_pictures(
    tmp_path: Path, merchant: Merchant, refusal: int | None
) -> None:
    """The quote for an edit uses tiny images; a gateway that refuses these gets the full images."""
    file = io.BytesIO()
    Image.effect_noise((400, 400), 80).save(file, "PNG")
    source = Upload.from_file_bytes(file.getvalue(), "image/png")
    request = ImageRequest("edit", "at night", "openai/gpt-image-1", images=(source,), mask=source)
    asked: list[int] = []

    async def weigh(exchange: Exchange) -> Reply | None:
        asked.append(len(exchange.body))
        small = len(exchange.body) < len(source.data)
        return Reply.of(refusal, {"error": "The image is too small."}) if refusal and small else None

    async def paid(exchange: Exchange) -> None:
        asked.append(-len(exchange.body))

    merchant.acts |= {"challenge": weigh, "paid": paid}
    _in_studio(tmp_path, lambda studio: studio.make(request, merchant.gateway))
    *unpaid, whole = asked

    assert -2.05 * len(source.data) < whole < -2 * len(source.data)
    assert all(size < 1500 for size in unpaid[: 1 if refusal is None else 2])
    assert [-whole] * (refusal is not None) == [size for size in unpaid if size > 1500]
