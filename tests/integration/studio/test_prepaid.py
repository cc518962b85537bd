"""Payments through a ClawRouter or an account: one request, one entry in the ledger, and no second purchase unasked."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.errors import (
    BlockrunError,
    BudgetError,
    ClockError,
    ContentPolicyViolation,
    GatewayUnreachable,
    InsufficientCredit,
    InvalidResponse,
    JobFailed,
    Money,
    PaymentOutcomeUnknown,
    PaymentRejected,
    RateLimited,
    RequestError,
    RequestRejected,
    UpstreamFailed,
    UsageError,
    WalletError,
    WalletMissing,
)
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.catalog.snapshot import PriceRule
from blockrun_magic.gateway.clawrouter import Health, clawrouter_health
from blockrun_magic.gateway.client import Timeouts
from blockrun_magic.gateway.gateways import Gateway, gateway_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.images.provenance import read
from blockrun_magic.payments.ledger.reports import spending_summary
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.wallets.api_key import find_api_key
from blockrun_magic.studio import Options, Progress, Studio, make_all, running
from blockrun_magic.studio.batch import BatchProgress, quote_all
from blockrun_magic.studio.payment import signers
from blockrun_magic.studio.payment.pricing import list_price
from fakes.account_api import KEY, Account
from fakes.clawrouter import WALLET, ClawRouter
from fakes.gateway import QUICK, Clock, studio_over
from fakes.silence import gives_up
from harness.uploads import upload

_LISTED = 52_500
_SIGNED = 53_500
"""The amount that ClawRouter pays for an image with the list price above."""
_REQUEST = ImageRequest("generate", "a heron in the reeds", "google/nano-banana")


_EDIT = ImageRequest("edit", "add a moon", "openai/gpt-image-1", images=(upload("navy"),), mask=upload("white"))


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[ClawRouter]:
    """Yield a ClawRouter that drops a slow connection soon."""
    with ClawRouter(tmp_path / "logs", drop_after=0.05) as proxy:
        yield proxy


@pytest.fixture
def account() -> Iterator[Account]:
    """Yield an account with five dollars of credit."""
    with Account() as account:
        yield account


def _in_studio(folder: Path, work: Callable[[Studio], Awaitable[Any]], session: str = "first", **more: Any) -> Any:
    """Run `work` in a new kernel over `folder` and return its result."""
    parts = {"api_key": lambda: find_api_key({"BLOCKRUN_API_KEY": KEY}), "usage_logs": folder / "logs"} | more

    async def kernel() -> Any:
        async with studio_over(folder, session=session, **parts) as studio:
            return await work(studio)

    return asyncio.run(kernel())


def _make(folder: Path, gateway: Gateway, request: ImageRequest = _REQUEST, **options: Any) -> Any:
    """Return the result of `request` in a new kernel."""

    async def work(studio: Studio) -> Any:
        return await studio.make(request, gateway, Options(**options))

    return _in_studio(folder, work)


def _payments(folder: Path) -> list[tuple[str, int, bool]]:
    """Return state, amount and `estimated` of every payment."""

    async def work(studio: Studio) -> Any:
        spending_summary = studio.ledger.open_payments(tuple(State))
        assert all(payment.prepaid and payment.nonce is None for payment in spending_summary)
        return [(str(payment.state), payment.amount, payment.estimated) for payment in spending_summary]

    return list(_in_studio(folder, work))


@pytest.fixture(autouse=True)
def chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the chain's clock to this machine's clock, so that no server of a chain is asked."""

    async def block_time(*_: object) -> float:
        return time.time()

    monkeypatch.setattr(signers, "block_time", block_time)
    monkeypatch.setattr(signers, "_compared", {})


# -- an image through ClawRouter


@pytest.mark.parametrize("request_", [_REQUEST, _EDIT], ids=["generate", "edit"])
def test_a_picture_comes_through_clawrouter(tmp_path: Path, proxy: ClawRouter, request_: ImageRequest) -> None:
    """There is one POST with the full model name and data URIs, but no quote; the image keeps its real format."""
    result = _make(tmp_path, proxy.gateway, request_)

    [body] = proxy.bodies
    assert request_.body() == body
    assert ["POST", "GET"] == [method for method, _, _ in proxy.seen]
    assert f"http://127.0.0.1:{proxy.port}{request_.endpoint}" == proxy.seen[0][1]
    assert ("image/jpeg", (48, 32)) == (result.stored[0].media_type, result.image.size)
    assert ".jpg" == result.files[0].suffix
    assert not {"payment-signature", "x-payment", "authorization"} & {
        name for _, _, seen in proxy.seen for name in seen
    }


def test_the_list_price_is_booked_and_marked(tmp_path: Path, proxy: ClawRouter) -> None:
    """If no answer contains a price, ledger, receipt and image mark the price as estimated."""
    result = _make(tmp_path, proxy.gateway)

    assert (_LISTED, True, True) == (result.receipt.amount, result.receipt.estimated, result.receipt.settled)
    assert [("settled", _LISTED, True)] == _payments(tmp_path)
    found = read(result.files[0])
    assert found is not None
    assert found["price_estimated"] is True


def test_a_price_in_the_body_is_booked_as_it_is(tmp_path: Path, proxy: ClawRouter) -> None:
    """The price in the answer is recorded to the micro-dollar and equals the gateway's own record."""
    proxy.names_price = True
    result = _make(tmp_path, proxy.gateway)

    assert (_SIGNED, False) == (result.receipt.amount, result.receipt.estimated)
    assert [("settled", proxy.total, False)] == _payments(tmp_path)


def test_our_caps_stand_in_front(tmp_path: Path, proxy: ClawRouter) -> None:
    """The limits are checked with the list price before anything is sent; one micro-dollar too much is refused."""

    async def work(studio: Studio) -> None:
        for cap in ({"image": _LISTED - 1}, {"image": _LISTED, "session": _LISTED - 1}):
            studio.ledger.set_caps(**cap)
            with pytest.raises(BudgetError):
                await studio.make(_REQUEST, proxy.gateway)
        with pytest.raises(BudgetError):
            await studio.make(_REQUEST, proxy.gateway, Options(max_price=_LISTED - 1))

    _in_studio(tmp_path, work)

    assert [] == proxy.seen


def test_a_model_without_a_price_needs_the_users_word(tmp_path: Path, proxy: ClawRouter) -> None:
    """An unlisted model needs --max-price, which is reserved; the price in the answer is recorded."""
    new = replace(_REQUEST, model="acme/brush-9")
    with pytest.raises(RequestError, match="--max-price"):
        _make(tmp_path, proxy.gateway, new)

    assert [] == proxy.bodies

    proxy.fail((200, {"data": [{"url": _data_uri()}], "price": {"amount": 0.07, "currency": "USD"}}))
    proxy.served.append(new.model)
    _make(tmp_path, proxy.gateway, new, max_price=100_000)

    assert [("settled", 70_000, False)] == _payments(tmp_path)


@pytest.mark.parametrize(
    ("stated", "booked"),
    [
        (0.05, (50_000, False)),
        (0.07, (70_000, False)),
        (0.09, (_LISTED, True)),
        (0.000001, (_LISTED, True)),
        ("0.02", (_LISTED, True)),
        ("1e-5", (_LISTED, True)),
        ("1e999999999", (_LISTED, True)),
        (-1, (_LISTED, True)),
    ],
)
def test_a_price_in_the_answer_is_believed_near_the_list_price(
    tmp_path: Path, proxy: ClawRouter, stated: Any, booked: tuple[int, bool]
) -> None:
    """A much higher or much lower price in the answer is ignored."""
    proxy.fail((200, {"data": [{"url": _data_uri()}], "price": {"amount": stated, "currency": "USD"}}))
    _make(tmp_path, proxy.gateway)

    assert [("settled", *booked)] == _payments(tmp_path)


@pytest.mark.parametrize("listed", [1, 60_000])
def test_the_higher_of_two_list_prices_is_reserved(proxy: ClawRouter, listed: int) -> None:
    """A gateway's own list can raise the reserved amount above our snapshot's price, but not lower it."""
    live = replace(SNAPSHOT, models=tuple(replace(model, prices=(PriceRule(listed),)) for model in SNAPSHOT.models))

    assert max(_LISTED, listed) == list_price(proxy.gateway, _REQUEST, live, None).amount


def test_a_second_run_is_free(tmp_path: Path, proxy: ClawRouter) -> None:
    """A stored image sends no request to ClawRouter, which would pay again."""
    _make(tmp_path, proxy.gateway)
    kept = _make(tmp_path, proxy.gateway)

    assert kept.receipt.cached
    assert 1 == len(proxy.charges)


def test_a_batch_is_priced_without_asking(tmp_path: Path, proxy: ClawRouter) -> None:
    """Several requests are estimated, held together and sent once each."""
    requests = [replace(_REQUEST, prompt=f"a heron, {number}") for number in range(3)]

    async def work(studio: Studio) -> Any:
        quotes = await quote_all(studio, requests, proxy.gateway, Options())
        assert [] == proxy.seen
        return quotes, await make_all(studio, requests, proxy.gateway, Options(), BatchProgress(3))

    quotes, results = _in_studio(tmp_path, work)

    assert [(_LISTED, True)] * 3 == [(quote.total, quote.estimated) for quote in quotes]
    assert 3 == len(results) == len(proxy.charges)


def _data_uri() -> str:
    return upload("green").data_uri


# -- at most once


@pytest.mark.parametrize(
    "fault", ["drop", "unpaid", "page", (500, {"error": "boom"}), (503, {"error": {"message": "x"}})]
)
def test_what_may_have_been_charged_is_not_asked_again(tmp_path: Path, proxy: ClawRouter, fault: Any) -> None:
    """A dropped connection, a 5xx or an unreadable 200 is unknown: it stays at risk and only --fresh sends it again."""
    proxy.fail(fault)
    proxy.logs = tmp_path / "elsewhere"
    for _ in range(3):
        with pytest.raises(PaymentOutcomeUnknown, match="--fresh"):
            _make(tmp_path, proxy.gateway)

    assert 1 == len(proxy.bodies)
    assert [("unknown", _LISTED, True)] == _payments(tmp_path)

    fresh = _make(tmp_path, proxy.gateway, fresh=True)

    assert 2 == fresh.receipt.take
    assert 2 == len(proxy.bodies)
    assert 2 == _make(tmp_path, proxy.gateway).receipt.take


def test_a_silent_proxy_is_waited_for_and_then_unknown(tmp_path: Path, proxy: ClawRouter) -> None:
    """A connection without an answer until our timeout is also unknown."""
    proxy.drop_after = 60
    proxy.fail("drop")

    async def work(studio: Studio) -> None:
        with pytest.raises(PaymentOutcomeUnknown):
            await studio.make(_REQUEST, proxy.gateway)

    with gives_up(proxy.silent):
        _in_studio(tmp_path, work)

    assert 1 == len(proxy.bodies)


def test_the_answer_is_waited_for_longer_than_clawrouter_waits() -> None:
    """ClawRouter hangs up after 300 s, so we read for 310 to 330 s."""
    assert 310 <= Timeouts().answer <= 330


def test_a_slow_edit_is_an_error_of_unknown_outcome(tmp_path: Path, proxy: ClawRouter) -> None:
    """A 200 with a poll_url but no images cannot be collected through ClawRouter: it is not polled or paid again."""
    proxy.fail("queued")
    for _ in range(2):
        with pytest.raises(PaymentOutcomeUnknown):
            _make(tmp_path, proxy.gateway, _EDIT)

    assert ["POST"] == [method for method, _, _ in proxy.seen]
    assert [("unknown", 21_000, True)] == _payments(tmp_path)


def test_the_log_line_of_a_slow_edit_proves_nothing(tmp_path: Path, proxy: ClawRouter) -> None:
    """ClawRouter logs the quote of a slow edit although nothing settles, so the payment stays unknown."""
    proxy.fail("queued")
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, proxy.gateway, _EDIT)

    async def reconcile(studio: Studio) -> Any:
        return await studio.reconcile(proxy.gateway), studio.reconciler.compare(0)

    decided, found = _in_studio(tmp_path, reconcile)

    assert (0, 0) == (decided, proxy.total)
    assert [("unknown", 21_000, True)] == _payments(tmp_path)
    assert (0, 1, 1) == (len(found.agreed), len(found.only_ours), len(found.only_theirs))


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ((400, {"error": "Bad prompt", "message": "too long"}), RequestRejected, "Bad prompt — too long"),
        ((402, {"error": {"message": "Insufficient balance"}}), PaymentRejected, "Insufficient balance"),
        ((403, {"error": {"message": "Unsafe", "code": "policy"}}), ContentPolicyViolation, "Unsafe"),
        ((404, {"error": "No such model"}), RequestRejected, "No such model"),
        (
            (502, {"error": "Image generation failed", "details": "Payment creation aborted: daily limit"}),
            UpstreamFailed,
            "daily limit",
        ),
        ((200, {"status": "failed", "payment_status": "not_charged", "error": "No paint"}), JobFailed, "No paint"),
    ],
)
def test_a_refusal_leaves_the_sum_at_risk_and_is_not_sent_again(
    tmp_path: Path, proxy: ClawRouter, fault: Any, kind: type[BlockrunError], words: str
) -> None:
    """A refusal shows the gateway's message but proves nothing, because ClawRouter may have paid before it."""
    proxy.fail(fault)
    with pytest.raises(kind) as caught:
        _make(tmp_path, proxy.gateway)

    assert words in caught.value.message
    assert Money.unknown(_LISTED, estimated=True) == caught.value.money
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, proxy.gateway)

    assert 1 == len(proxy.bodies)
    assert [("unknown", _LISTED, True)] == _payments(tmp_path)


def test_a_used_authorization_may_have_been_charged(tmp_path: Path, proxy: ClawRouter) -> None:
    """A 402 about a used payment is unknown, because that payment may have been charged."""
    proxy.fail((402, {"error": "Payment verification failed", "code": "PAYMENT_REPLAY"}))
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, proxy.gateway)


def test_a_rate_limit_is_not_asked_again(tmp_path: Path, proxy: ClawRouter) -> None:
    """ClawRouter signs for each POST, even for one that its upstream limits, so a request is sent only once."""
    proxy.fail((429, {"error": "Rate limit exceeded", "retry_after_seconds": 0.01}))
    with pytest.raises(RateLimited):
        _make(tmp_path, proxy.gateway)
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, proxy.gateway)

    assert 1 == len(proxy.bodies)
    assert [("unknown", _LISTED, True)] == _payments(tmp_path)


def test_a_proxy_that_does_not_run_is_said_at_once(tmp_path: Path) -> None:
    """If no server listens, the error comes at once, and nothing was sent."""
    with ClawRouter(tmp_path / "logs") as gone:
        gateway = gone.gateway
    with pytest.raises(GatewayUnreachable, match="BLOCKRUN_PROXY_PORT") as caught:
        _make(tmp_path, gateway)

    assert Money.nothing_sent() == caught.value.money
    assert [] == _payments(tmp_path)


def test_a_kernel_that_died_while_waiting_leaves_an_unknown(tmp_path: Path, proxy: ClawRouter) -> None:
    """The request was sent without an answer, so the next kernel does not send it again."""

    async def die(studio: Studio) -> None:
        purchase = studio.ledger.create_purchase(
            "real", "clawrouter", _REQUEST.digest, 1, {**_REQUEST.to_record(), "uploads": []}, private=False
        )
        studio.ledger.submit(studio.ledger.reserve(purchase, _LISTED, prepaid=True).id)

    _in_studio(tmp_path, die)
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, proxy.gateway)

    assert [] == proxy.bodies


@pytest.mark.parametrize("url", ["http://localhost:{port}/images/gone.png", "http://127.0.0.1:1/x.png", "https://[bad"])
def test_a_paid_picture_that_cannot_be_fetched_is_not_bought_again(tmp_path: Path, proxy: ClawRouter, url: str) -> None:
    """The image was charged, but its URL fails: another run tries the URL and does not buy again."""
    proxy.fail((200, {"data": [{"url": url.format(port=proxy.port)}]}))
    for _ in range(2):
        with pytest.raises((InvalidResponse, GatewayUnreachable)):
            _make(tmp_path, proxy.gateway)

    assert 1 == len(proxy.bodies)
    assert [("settled", _LISTED, True)] == _payments(tmp_path)


def test_bytes_that_are_no_picture_are_paid_for_and_kept(tmp_path: Path, proxy: ClawRouter) -> None:
    """The bytes in place of an image are stored, and the payment stays settled."""
    proxy.fail((200, {"data": [{"b64_json": "PGh0bWw+"}]}))
    with pytest.raises(InvalidResponse):
        _make(tmp_path, proxy.gateway)
    with pytest.raises(InvalidResponse):
        _make(tmp_path, proxy.gateway)

    assert 1 == len(proxy.bodies)
    assert 2 == _make(tmp_path, proxy.gateway, fresh=True).receipt.take


def test_an_open_payment_stays_with_its_gateway(tmp_path: Path, proxy: ClawRouter, account: Account) -> None:
    """A purchase with an open payment at one gateway is not bought at another one without --fresh."""
    proxy.fail("drop")
    proxy.logs = tmp_path / "elsewhere"
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, proxy.gateway)
    with pytest.raises(PaymentOutcomeUnknown, match="clawrouter"):
        _make(tmp_path, account.gateway)

    assert 0 == account.posts

    _make(tmp_path, account.gateway, fresh=True)

    assert 1 == account.posts


def test_a_released_purchase_is_free_to_go_elsewhere(tmp_path: Path, proxy: ClawRouter, account: Account) -> None:
    """After the user reports that one gateway charged nothing, the next one makes the image, as the receipt shows."""
    proxy.fail((403, {"error": "policy"}))
    with pytest.raises(ContentPolicyViolation):
        _make(tmp_path, proxy.gateway)

    async def resolve(studio: Studio) -> None:
        [purchase] = studio.ledger.open_purchases()
        await studio.reconciler.resolve(purchase, charged=False)

    _in_studio(tmp_path, resolve)

    assert "account" == _make(tmp_path, account.gateway).receipt.gateway


def test_kernels_side_by_side_ask_once(tmp_path: Path, proxy: ClawRouter) -> None:
    """Two studios want the same image at the same moment: one sends the request, the other uses the result."""

    async def both() -> Any:
        async with studio_over(tmp_path) as one, studio_over(tmp_path, session="second") as two:
            return await asyncio.gather(*(studio.make(_REQUEST, proxy.gateway) for studio in (one, two)))

    results = asyncio.run(both())

    assert 1 == len(proxy.bodies)
    assert [False, True] == sorted(result.receipt.cached for result in results)


def test_a_stopped_cell_does_not_stop_what_has_left(tmp_path: Path, proxy: ClawRouter) -> None:
    """After Stop, the image of a sent request still arrives, and the next run finds it."""
    proxy.fail("held")

    async def stop(studio: Studio) -> None:
        progress = Progress()
        cell = asyncio.ensure_future(studio.make(_REQUEST, proxy.gateway, None, progress))
        while not proxy.bodies:  # noqa: ASYNC110  the server is in another thread
            await asyncio.sleep(0.005)
        cell.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cell
        assert progress.sent
        proxy.let_go.set()
        await studio.running.wait_idle()

    _in_studio(tmp_path, stop)

    assert _make(tmp_path, proxy.gateway).receipt.cached
    assert 1 == len(proxy.bodies)


# -- evidence of the log and of the user


def test_the_log_decides_what_it_can(tmp_path: Path, proxy: ClawRouter) -> None:
    """A single log line that fits only this payment settles it; the image is still lost."""
    proxy.fail("log")
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, proxy.gateway)

    async def reconcile(studio: Studio) -> int:
        return await studio.reconcile(proxy.gateway)

    assert 1 == _in_studio(tmp_path, reconcile)
    assert [("settled", _LISTED, True)] == _payments(tmp_path)
    with pytest.raises(InvalidResponse, match="--fresh"):
        _make(tmp_path, proxy.gateway)
    assert 1 == len(proxy.bodies)


def test_a_log_that_could_mean_two_decides_neither(tmp_path: Path, proxy: ClawRouter) -> None:
    """Two unknown payments of one model and a single log line stay unknown."""
    proxy.fail("log", "drop")
    for prompt in ("one", "two"):
        with pytest.raises(PaymentOutcomeUnknown):
            _make(tmp_path, proxy.gateway, replace(_REQUEST, prompt=prompt))

    async def reconcile(studio: Studio) -> int:
        return await studio.reconcile(proxy.gateway)

    assert 0 == _in_studio(tmp_path, reconcile)
    assert ["unknown", "unknown"] == [state for state, _, _ in _payments(tmp_path)]


@pytest.mark.parametrize(
    ("charged", "amount", "expected"),
    [
        (True, None, ("settled", _LISTED, True)),
        (True, 40_000, ("settled", 40_000, False)),
        (False, None, ("released", _LISTED, True)),
    ],
)
def test_the_user_decides(
    tmp_path: Path, proxy: ClawRouter, charged: bool, amount: int | None, expected: tuple[str, int, bool]
) -> None:
    """The user's report decides an unknown payment; if it was not charged, the next run may buy."""
    proxy.fail("unpaid")
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, proxy.gateway)

    async def resolve(studio: Studio) -> Any:
        [purchase] = studio.ledger.open_purchases()
        return await studio.reconciler.resolve(purchase, charged=charged, amount=amount)

    [payment] = _in_studio(tmp_path, resolve)

    assert expected == (str(payment.state), payment.amount, payment.estimated)
    if charged:
        with pytest.raises(InvalidResponse):
            _make(tmp_path, proxy.gateway)
    else:
        assert 1 == _make(tmp_path, proxy.gateway).receipt.take


def test_the_books_are_laid_beside_each_other(tmp_path: Path, proxy: ClawRouter) -> None:
    """The comparison lists different amounts, payments only in our ledger, and payments only in ClawRouter's log."""
    _make(tmp_path, proxy.gateway)
    proxy.fail("drop")
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, proxy.gateway, replace(_EDIT, prompt="lost"))
    proxy._log("openai/dall-e-3", 43_000)

    async def compare(studio: Studio) -> Any:
        return studio.reconciler.compare(0)

    found = _in_studio(tmp_path, compare)

    assert [(_LISTED, _SIGNED)] == [(ours.payment.amount, theirs.micros) for ours, theirs in found.differing]
    assert ["openai/gpt-image-1"] == [ours.model for ours in found.only_ours]
    assert [("openai/dall-e-3", 43_000)] == [(theirs.model, theirs.micros) for theirs in found.only_theirs]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"tier": "IMAGE"}',
        b"[" * 5000,
        json.dumps({"timestamp": "yesterday", "model": "a/b", "tier": "IMAGE", "cost": 1}).encode(),
        json.dumps(
            {"timestamp": "2026-11-21T00:00:00Z", "model": "a/b", "tier": "IMAGE", "cost": float("nan")}
        ).encode(),
        json.dumps({"timestamp": "2026-11-21T00:00:00Z", "model": "a/b", "tier": "IMAGE", "cost": 1e300}).encode(),
        json.dumps({"timestamp": "2026-11-21T00:00:00Z", "model": "a/b", "tier": "SIMPLE", "cost": 1}).encode(),
    ],
)
def test_a_strange_log_is_passed_over(tmp_path: Path, proxy: ClawRouter, line: bytes) -> None:
    """Invalid lines and lines of other requests are ignored, and the next line is still read."""
    _make(tmp_path, proxy.gateway)
    [log] = proxy.logs.iterdir()
    log.write_bytes(line + b"\n" + log.read_bytes())

    async def compare(studio: Studio) -> Any:
        return studio.reconciler.compare(0)

    found = _in_studio(tmp_path, compare)

    assert (1, 0, 0) == (len(found.agreed), len(found.only_ours), len(found.only_theirs))


def test_estimates_are_told_apart_in_the_report(tmp_path: Path, proxy: ClawRouter) -> None:
    """The report shows the estimated part of the amount, and estimates are not in the official log."""
    folder = tmp_path / "home" / "magic"
    _make(folder, proxy.gateway)
    proxy.names_price = True
    _make(folder, proxy.gateway, replace(_REQUEST, prompt="another"))

    async def report(studio: Studio) -> Any:
        return spending_summary(studio.ledger, "real", "all")

    found = _in_studio(folder, report)
    lines = [json.loads(line) for line in (tmp_path / "home" / "cost_log.jsonl").read_text().splitlines()]

    assert (_LISTED + _SIGNED, _LISTED) == (found.settled, found.estimated)
    assert [_SIGNED / 1e6] == [line["cost_usd"] for line in lines]


# -- its health, and its recognition at another address


def test_health_tells_wallet_and_balance(tmp_path: Path, proxy: ClawRouter) -> None:
    """The health has wallet and chain, and with `full` also the balance."""

    async def ask(studio: Studio) -> Any:
        gateway = proxy.gateway
        return (
            await clawrouter_health(studio.client, gateway),
            await clawrouter_health(studio.client, gateway, full=True),
            await studio.balance(gateway),
        )

    short, full, balance = _in_studio(tmp_path, ask)

    assert Health(WALLET, "base", None) == short
    assert Health(WALLET, "base", 5_000_000) == full
    assert balance.micros == 5_000_000
    assert "ClawRouter" in balance.source


def test_an_account_is_no_clawrouter(tmp_path: Path, account: Account) -> None:
    """A server without /health is not taken for a ClawRouter."""

    async def ask(studio: Studio) -> Any:
        return await clawrouter_health(studio.client, account.gateway)

    assert _in_studio(tmp_path, ask) is None


def test_a_clawrouter_under_another_address_is_not_asked_for_a_price(tmp_path: Path, proxy: ClawRouter) -> None:
    """An unpaid request would make a ClawRouter buy, so it is recognized first."""
    gateway = gateway_at(f"http://localhost:{proxy.port}", {})

    assert not gateway.prepaid
    with pytest.raises(UsageError, match="BLOCKRUN_PROXY_PORT"):
        _make(tmp_path, gateway)
    assert [] == proxy.bodies


# -- an account


def test_a_picture_comes_from_an_account(tmp_path: Path, account: Account) -> None:
    """The key goes to the account's own host with the order, but not with the image; the answer's price is recorded."""
    result = _make(tmp_path, account.gateway)

    assert [("/v1/images/generations", f"Bearer {KEY}"), ("/media/1", None)] == account.shown[-2:]
    assert (account.total, False) == (result.receipt.amount, result.receipt.estimated)
    assert [("settled", 50_000, False)] == _payments(tmp_path)


def test_a_202_on_the_first_post_is_polled_with_the_key(tmp_path: Path, account: Account) -> None:
    """A job is polled with the same key and charged once, when it is done."""
    account.slow = 3
    _make(tmp_path, account.gateway)

    assert (1, 3, 1) == (account.posts, account.polls, len(account.charges))
    assert {f"Bearer {KEY}"} == {key for path, key in account.shown if not path.startswith("/media")}


def test_a_job_is_resumed_by_the_next_kernel(tmp_path: Path, account: Account) -> None:
    """The next kernel collects a job by polling and does not post the order again."""
    account.slow = 2
    account.fail(None, *[(503, {"error": "busy"})] * QUICK.attempts)
    with pytest.raises(UpstreamFailed):
        _make(tmp_path, account.gateway)

    assert [("polling", _LISTED, True)] == _payments(tmp_path)

    result = _make(tmp_path, account.gateway)

    assert (1, 1) == (account.posts, len(account.charges))
    assert account.total == result.receipt.amount


def test_passing_faults_of_a_poll_pass(tmp_path: Path, account: Account) -> None:
    """A poll is repeated after a reset or a 504; the next poll finds a charge whose answer was lost."""
    account.slow = 2
    account.fail(None, "reset", (504, {}), None, "charged")
    _make(tmp_path, account.gateway)

    assert (1, 1) == (account.posts, len(account.charges))


@pytest.mark.parametrize("gone", [404, 410])
def test_a_job_that_is_gone_is_unknown(tmp_path: Path, account: Account, gone: int) -> None:
    """A job that the account does not know may have been charged, so the order is not sent again."""
    account.slow = 2
    account.fail(None, (gone, {"error": "Not found"}))
    for _ in range(2):
        with pytest.raises(PaymentOutcomeUnknown):
            _make(tmp_path, account.gateway)

    assert 1 == account.posts


def test_a_failed_job_that_says_not_charged_stays_at_risk(tmp_path: Path, account: Account) -> None:
    """The gateway's report about the money proves nothing: the amount stays at risk, and the order is not repeated."""
    account.slow = 2
    account.fail(None, (200, {"status": "failed", "payment_status": "not_charged", "error": "No paint"}))
    with pytest.raises(JobFailed):
        _make(tmp_path, account.gateway)
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, account.gateway)

    assert 1 == account.posts
    assert ["unknown"] == [state for state, _, _ in _payments(tmp_path)]


def test_a_failed_job_that_says_nothing_of_money_is_unknown(tmp_path: Path, account: Account) -> None:
    """An account has no witness of a charge, so a report without a payment status proves nothing."""
    account.slow = 2
    account.fail(None, (200, {"status": "failed", "error": "No paint"}))
    with pytest.raises(JobFailed) as caught:
        _make(tmp_path, account.gateway)

    assert Money.unknown(_LISTED, estimated=True) == caught.value.money


def test_a_402_is_out_of_credit(tmp_path: Path, account: Account) -> None:
    """The error names the missing credit, and the payment stays unknown."""
    account.credit = 1
    with pytest.raises(InsufficientCredit) as caught:
        _make(tmp_path, account.gateway)

    assert "Insufficient credit" in caught.value.message
    assert [("unknown", _LISTED, True)] == _payments(tmp_path)


def test_credit_that_ends_while_a_job_runs_loses_nothing(tmp_path: Path, account: Account) -> None:
    """A poll with a 402 leaves the job open; with new credit, the job is collected."""
    account.slow = 1
    account.fail(None, (402, {"error": "Insufficient credit"}))
    with pytest.raises(InsufficientCredit):
        _make(tmp_path, account.gateway)
    _make(tmp_path, account.gateway)

    assert (1, 1) == (account.posts, len(account.charges))


@pytest.mark.parametrize("absolute", [False, True])
def test_a_jobs_api_address_is_asked_where_the_account_serves_it(
    tmp_path: Path, account: Account, absolute: bool
) -> None:
    """The /api of the x402 gateway is removed, even from a full URL; the job is collected and not ordered twice."""
    account.slow = 2
    if absolute:
        account.poll_url = f"{account.url}/api/v1/images/generations/job0"
    _make(tmp_path, account.gateway)

    assert (1, 2, 1) == (account.posts, account.polls, len(account.charges))
    assert {"/v1/images/generations", "/v1/images/generations/job0"} == {
        path for path, _ in account.shown if not path.startswith(("/media", "/v1/credits"))
    }


def test_an_account_reports_its_credit(tmp_path: Path, account: Account) -> None:
    """`/v1/credits` is the balance; a blocked account shows the reason, and an unreachable one has no balance."""

    async def ask(studio: Studio) -> Any:
        first = await studio.balance(account.gateway)
        account.blocked = "overdue\x1b[31m"
        blocked = await studio.balance(account.gateway)
        away = await studio.balance(replace(account.gateway, base_url="http://127.0.0.1:9"))
        return first, blocked, away

    first, blocked, away = _in_studio(tmp_path, ask)

    assert (5_000_000, 5_000_000, None) == (first.micros, blocked.micros, away)
    assert "overdue" in blocked.source
    assert blocked.source.isprintable()


async def _reconciled(studio: Studio, gateway: Gateway) -> int:
    return await studio.reconcile(gateway)


def test_the_accounts_usage_settles_a_lost_order(tmp_path: Path, account: Account) -> None:
    """A charged order is found in the list of usage with its price, even over several pages."""
    account.usage = [
        account._usage_entry("openai/gpt-5.2", 10) | {"timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        for _ in range(5)
    ]
    account.fail("charged")
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, account.gateway)

    assert 1 == _in_studio(tmp_path, lambda studio: _reconciled(studio, account.gateway))
    assert [("settled", 50_000, False)] == _payments(tmp_path)
    with pytest.raises(InvalidResponse):
        _make(tmp_path, account.gateway)
    assert 1 == account.posts


@pytest.mark.parametrize("state", ["pending", "free"])
def test_the_accounts_usage_says_what_it_cost(tmp_path: Path, account: Account, state: str) -> None:
    """A pending price decides nothing; a free request was not charged."""
    account.cost_state = state
    account.fail("charged")
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, account.gateway)

    _in_studio(tmp_path, lambda studio: _reconciled(studio, account.gateway))

    assert ["unknown" if state == "pending" else "released"] == [found for found, _, _ in _payments(tmp_path)]


@pytest.mark.parametrize(
    ("ahead", "missing", "expected"),
    [(0, [], "unknown"), (3700, [], "released"), (3700, ["2026-11-26"], "unknown")],
)
def test_an_order_that_the_account_does_not_list_was_not_charged(
    tmp_path: Path, account: Account, ahead: float, missing: list[str], expected: str
) -> None:
    """This is decided after an hour, and only if the list contains every day."""
    account.fail("reset")
    account.unavailable_days = missing
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, account.gateway)

    clock = Clock()
    clock.ahead = account.ahead = ahead
    _in_studio(tmp_path, lambda studio: _reconciled(studio, account.gateway), clock=clock)

    assert [expected] == [state for state, _, _ in _payments(tmp_path)]


def test_our_clock_does_not_say_that_an_hour_is_over(tmp_path: Path, account: Account) -> None:
    """Only the account's own clock counts: an order that is not listed yet stays unknown."""
    account.fail("reset")
    with pytest.raises(PaymentOutcomeUnknown):
        _make(tmp_path, account.gateway)

    clock = Clock()
    clock.ahead = 86_400
    _in_studio(tmp_path, lambda studio: _reconciled(studio, account.gateway), clock=clock)

    assert ["unknown"] == [state for state, _, _ in _payments(tmp_path)]


@pytest.mark.parametrize("ahead", [3600.0, -7200.0])
def test_an_order_is_not_sent_while_our_clock_is_wrong(tmp_path: Path, account: Account, ahead: float) -> None:
    """The list of usage is searched by time, so a wrong clock would hide a charge."""
    account.ahead = ahead
    with pytest.raises(ClockError) as caught:
        _make(tmp_path, account.gateway)

    assert caught.value.money is not None
    assert 0 == account.posts
    assert [] == _payments(tmp_path)


@pytest.mark.parametrize("ahead", [None, 0.0, 20.0, 3600.0, -7200.0])
def test_the_chain_witnesses_clawrouter_only_if_our_clock_is_right(
    tmp_path: Path, proxy: ClawRouter, monkeypatch: pytest.MonkeyPatch, ahead: float | None
) -> None:
    """Transfers are searched by time: with a wrong clock, nothing is sent; with an unknown one, there is no witness."""
    asked = []

    async def block_time(*_: object) -> float | None:
        asked.append(1)
        return None if ahead is None else time.time() + ahead

    monkeypatch.setattr(signers, "block_time", block_time)
    monkeypatch.setattr(signers, "_compared", {})
    proxy.fail("drop", "drop")

    async def twice(studio: Studio) -> list[str | None]:
        for prompt in ("one", "two"):
            with pytest.raises(ClockError if abs(ahead or 0) > 1000 else PaymentOutcomeUnknown):
                await studio.make(replace(_REQUEST, prompt=prompt), proxy.gateway)
        return [payment.payer for payment in studio.ledger.open_payments()]

    payers = _in_studio(tmp_path, twice)

    if ahead is None:
        assert [None, None] == payers
    elif abs(ahead) < 1000:
        assert ([WALLET, WALLET], [1]) == (payers, asked)
    else:
        assert ([], []) == (payers, proxy.bodies)


def test_two_lost_orders_and_one_line_decide_neither(tmp_path: Path, account: Account) -> None:
    """One line of usage fits both orders, so both stay unknown."""
    account.fail("charged", "reset")
    for prompt in ("one", "two"):
        with pytest.raises(PaymentOutcomeUnknown):
            _make(tmp_path, account.gateway, replace(_REQUEST, prompt=prompt))

    clock = Clock()
    clock.ahead = account.ahead = 3700
    _in_studio(tmp_path, lambda studio: _reconciled(studio, account.gateway), clock=clock)

    assert ["unknown", "unknown"] == [state for state, _, _ in _payments(tmp_path)]


@pytest.mark.parametrize("fault", ["reset", (500, {"error": "boom"}), (502, {"error": "bad"})])
def test_an_order_whose_answer_is_lost_is_unknown(tmp_path: Path, account: Account, fault: Any) -> None:
    """The account may repeat an order as a second purchase, so a lost order is never sent twice."""
    account.fail(fault)
    for _ in range(2):
        with pytest.raises(PaymentOutcomeUnknown):
            _make(tmp_path, account.gateway)

    assert 1 == account.posts
    assert [("unknown", _LISTED, True)] == _payments(tmp_path)


def test_the_key_stays_at_home(tmp_path: Path, account: Account) -> None:
    """The key is not sent to a poll_url elsewhere, with an image, or along a redirect."""
    with Account() as elsewhere:
        account.slow = 1
        account.poll_url = f"{elsewhere.url}/v1/images/jobs/job0"
        with pytest.raises(PaymentOutcomeUnknown):
            _make(tmp_path, account.gateway)
        account.slow = 0
        account.pictures_at = f"{account.url}/moved"
        _make(tmp_path, account.gateway, replace(_REQUEST, prompt="moved"))
        account.fail((307, {"error": "moved"}))
        with pytest.raises(PaymentOutcomeUnknown):
            _make(tmp_path, account.gateway, replace(_REQUEST, prompt="redirected"))

        assert [] == elsewhere.shown
    assert {None} == {key for path, key in account.shown if path.startswith(("/media", "/moved"))}


def test_a_wrong_key_is_told_without_saying_it(tmp_path: Path, account: Account) -> None:
    """The error hides a key that the account's answer repeats, and the order is not sent again."""
    wrong = "brk_live_wrongWRONGwrong"

    async def work(studio: Studio) -> None:
        with pytest.raises(RequestRejected, match="BLOCKRUN_API_KEY") as caught:
            await studio.make(_REQUEST, account.gateway)
        assert wrong not in str(caught.value)

    _in_studio(tmp_path, work, api_key=lambda: find_api_key({"BLOCKRUN_API_KEY": wrong}))

    assert account.posts <= 1
    assert _payments(tmp_path) in ([], [("unknown", _LISTED, True)])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("", WalletMissing),
        ("  ", WalletMissing),
        ("sk-123456789", WalletError),
        ("brk_a b", WalletError),
    ],
)
def test_a_value_that_is_no_key_is_refused_before_anything_is_sent(
    tmp_path: Path, account: Account, value: str, kind: type[WalletError]
) -> None:
    """The error names the variable, but never its value."""

    async def work(studio: Studio) -> None:
        with pytest.raises(kind, match="BLOCKRUN_API_KEY") as caught:
            await studio.make(_REQUEST, account.gateway)
        assert not value.strip() or value not in str(caught.value)
        assert [] == studio.ledger.open_payments(tuple(State))

    _in_studio(tmp_path, work, api_key=lambda: find_api_key({"BLOCKRUN_API_KEY": value}))

    assert 0 == account.posts


def test_the_key_is_nowhere_to_be_read(tmp_path: Path, account: Account) -> None:
    """The key is not in a repr, in the ledger's files or in stored files, and it cannot be pickled."""
    key = find_api_key({"BLOCKRUN_API_KEY": f" {KEY}\n"})
    account.slow = 1
    _make(tmp_path, account.gateway)

    assert KEY not in repr(key) + repr(key.headers()) + repr(vars(ImageRequest))
    for refused in (key, key.headers()):
        with pytest.raises(TypeError):
            refused.__reduce_ex__(2)
    assert [] == [file for file in tmp_path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


def test_no_wallet_is_needed_where_somebody_else_pays(tmp_path: Path, proxy: ClawRouter, account: Account) -> None:
    """Neither gateway asks for a key to sign with."""

    class Nobody:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} of a wallet was asked for")

    async def work(studio: Studio) -> None:
        await studio.make(_REQUEST, proxy.gateway)
        await studio.make(replace(_REQUEST, prompt="another"), account.gateway)

    _in_studio(tmp_path, work, wallet=Nobody())

    assert (1, 1) == (len(proxy.charges), len(account.charges))


def test_a_session_that_ends_waits_for_an_image_that_comes_only_once(
    tmp_path: Path, proxy: ClawRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller may give up (a timeout, `%reload_ext`), but an image that ClawRouter has paid for is stored."""
    monkeypatch.setattr(running, "_SHUTDOWN_TIMEOUT", 0.01)
    proxy.fail("held")
    progress = Progress()

    async def give_up(studio: Studio) -> float:
        making = asyncio.ensure_future(studio.make(_REQUEST, proxy.gateway, progress=progress))
        while not proxy.charges:  # noqa: ASYNC110  the proxy is in another thread
            await asyncio.sleep(0.01)
        making.cancel()
        asyncio.get_running_loop().call_later(0.3, proxy.let_go.set)
        return studio.running.max_wait

    retry = _in_studio(tmp_path, give_up, timeouts=Timeouts(answer=20))
    again = _make(tmp_path, proxy.gateway)

    assert 60 <= retry
    assert again.receipt.cached
    assert 1 == len(proxy.charges) == len(proxy.bodies)
    assert [("settled", 52_500, True)] == _payments(tmp_path)
