"""The practice gateway's x402 protocol, tested by a payer that shares no code with the package."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.payments.x402.networks import PRACTICE
from blockrun_magic.practice.server.server import PracticeServer
from fakes.signer import PLAIN, Payer, ledger, unpack
from harness import PATIENCE

BODY = {"model": "zai/cogview-4", "prompt": "a fox", "size": "512x512", "n": 1}
PRICE = 15_750


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Return the base URL of a practice gateway."""
    with PracticeServer() as server:
        yield server.url


@pytest.fixture
def payer(url: str, request: pytest.FixtureRequest) -> Iterator[Payer]:
    """Return a payer with a separate wallet for each test."""
    payer = Payer(url, request.node.name)
    yield payer
    payer.http.close()


def nonce(number: int) -> bytes:
    """Return `number` as 32 bytes."""
    return number.to_bytes(32, "big")


def data_uri(image: Image.Image) -> str:
    """Return an image as a PNG data URI."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def test_an_unpaid_request_is_told_the_price(url: str, payer: Payer) -> None:
    """The 402 response has x402 v2 terms for the practice network and the requested URL."""
    challenge = payer.ask(BODY)
    [terms] = challenge["accepts"]

    assert 2 == challenge["x402Version"]
    assert ("exact", PRACTICE.id, PRACTICE.asset, str(PRICE)) == (
        terms["scheme"],
        terms["network"],
        terms["asset"],
        terms["amount"],
    )
    assert challenge["resource"]["url"].startswith(url)


def test_every_model_and_size_has_its_price(payer: Payer) -> None:
    """The challenge requests the catalog price times n."""
    for model in SNAPSHOT.models:
        for size in model.sizes:
            challenge = payer.ask({"model": model.id, "prompt": "x", "size": size, "n": 2})

            assert str(2 * (model.price(size, None) or 0)) == challenge["accepts"][0]["amount"], (model.id, size)


def test_a_paid_request_brings_the_image_and_the_receipt(url: str, payer: Payer) -> None:
    """The response has the image's URL, the price and the transaction, which matches the gateway's ledger."""
    answer = payer.pay(BODY, payer.sign(payer.ask(BODY), nonce(1)))
    body, receipt = answer.json(), unpack(answer.headers["PAYMENT-RESPONSE"])
    image = Image.open(io.BytesIO(payer.http.get(body["data"][0]["url"]).content))
    [line] = [line for line in ledger(url)["settlements"] if line["payer"] == payer.account.address]

    assert (200, (512, 512)) == (answer.status_code, image.size)
    assert receipt["success"] is True
    assert {receipt["transaction"], body["payment"]["tx_hash"], answer.headers["X-Payment-Receipt"]} == {
        line["transaction"]
    }
    assert str(PRICE) == line["amount"]
    assert "0.01575" == str(float(body["price"]["amount"]))


def test_the_same_payment_sent_again_is_delivered_again(url: str, payer: Payer) -> None:
    """A repeated payment returns the same image and settles once."""
    header = payer.sign(payer.ask(BODY), nonce(1))
    first, second = payer.pay(BODY, header), payer.pay(BODY, header)
    lines = [line for line in ledger(url)["settlements"] if line["payer"] == payer.account.address]

    assert (200, 200) == (first.status_code, second.status_code)
    assert first.json()["data"] == second.json()["data"]
    assert 1 == len(lines)


def test_a_payment_for_something_else_is_a_replay(payer: Payer) -> None:
    """A payment used for another request is refused as PAYMENT_REPLAY."""
    header = payer.sign(payer.ask(BODY), nonce(1))
    payer.pay(BODY, header)
    answer = payer.pay({**BODY, "prompt": "a cat"}, header)

    assert (402, "PAYMENT_REPLAY") == (answer.status_code, answer.json()["code"])


def test_many_at_once_settle_once(url: str, payer: Payer) -> None:
    """Eight threads with the same payment settle it once."""
    header = payer.sign(payer.ask(BODY), nonce(1))
    statuses: list[int] = []

    def send() -> None:
        statuses.append(
            httpx.post(
                f"{url}/v1/images/generations", json=BODY, headers=header, timeout=PATIENCE, verify=PLAIN
            ).status_code
        )

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [line for line in ledger(url)["settlements"] if line["payer"] == payer.account.address]

    assert [200] * 8 == statuses
    assert 1 == len(lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"value": PRICE - 1},
        {"value": PRICE + 1},
        {"to": "0x000000000000000000000000000000000000dEaD"},
        {"validAfter": 2**40},
        {"validBefore": 1},
        {"domain": {"chainId": 8453}},
        {"domain": {"name": "USD Coin"}},
        {"domain": {"verifyingContract": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"}},
        {"accepted": {"amount": "1"}},
        {"accepted": {"maxTimeoutSeconds": 1}},
        {"accepted": {"payTo": "0x5052414354494345204d45524348414e54203a29"}},
    ],
    ids=str,
)
def test_what_is_not_exactly_the_terms_is_refused(url: str, payer: Payer, changes: dict[str, Any]) -> None:
    """A payment that differs from the terms gets a 402 with a new challenge, and no money moves."""
    answer = payer.pay(BODY, payer.sign(payer.ask(BODY), nonce(1), **changes))

    assert 402 == answer.status_code
    assert "PAYMENT-REQUIRED" in answer.headers
    assert payer.account.address not in {line["payer"] for line in ledger(url)["settlements"]}


@pytest.mark.parametrize("header", ["", "%%%", "bm90IGpzb24=", "e30=", "W10=", "bnVsbA=="])
def test_a_header_that_cannot_be_read_is_refused(payer: Payer, header: str) -> None:
    """An unreadable payment header gets a 402."""
    assert 402 == payer.pay(BODY, {"PAYMENT-SIGNATURE": header}).status_code


def test_another_wallets_signature_is_refused(payer: Payer, url: str) -> None:
    """A signature by a wallet other than the named payer is refused."""
    stranger = Payer(url, "a stranger")
    header = stranger.sign(payer.ask(BODY), nonce(1), **{"from": payer.account.address})
    answer = payer.pay(BODY, header)
    stranger.http.close()

    assert 402 == answer.status_code


def test_the_older_version_puts_its_terms_into_the_body() -> None:
    """x402 v1: challenge in the body, payment in `X-PAYMENT`, receipt in `X-PAYMENT-RESPONSE`."""
    with PracticeServer(x402_version=1) as server:
        payer = Payer(server.url)
        challenge = payer.ask(BODY)
        answer = payer.pay(BODY, payer.sign(challenge, nonce(1)))
        payer.http.close()

    assert (1, "blockrun-practice") == (challenge["x402Version"], challenge["accepts"][0]["network"])
    assert 200 == answer.status_code
    assert unpack(answer.headers["X-PAYMENT-RESPONSE"])["success"] is True


def test_an_empty_wallet_is_refused_and_the_faucet_fills_it() -> None:
    """A play wallet without enough balance is refused until the faucet refills it."""
    with PracticeServer(start_balance=PRICE) as server:
        payer = Payer(server.url)
        address = {"address": payer.account.address}
        payer.pay(BODY, payer.sign(payer.ask(BODY), nonce(1)))
        empty = payer.http.get(f"{server.url}/v1/balance", params=address).json()
        refused = payer.pay({**BODY, "prompt": "a cat"}, payer.sign(payer.ask(BODY), nonce(2)))
        payer.http.post(f"{server.url}/practice/faucet", json=address)
        full = payer.http.get(f"{server.url}/v1/balance", params=address).json()
        payer.http.close()

    assert 0 == float(empty["balance"])
    assert (402, "INSUFFICIENT_FUNDS") == (refused.status_code, refused.json()["code"])
    assert 0.01575 == float(full["balance"])


@pytest.mark.parametrize(
    "body",
    [
        {**BODY, "model": "nobody/nothing"},
        {**BODY, "size": "1x1"},
        {**BODY, "n": 0},
        {**BODY, "n": "many"},
        {**BODY, "prompt": ""},
        {**BODY, "prompt": "practice:nonsense"},
        [],
        {**BODY, "model": "openai/dall-e-3", "size": "1024x1024", "quality": "ultra"},
    ],
    ids=str,
)
def test_a_bad_request_is_told_what_is_wrong(payer: Payer, body: Any) -> None:
    """An invalid request gets a 400 with an error message, before any price."""
    answer = payer.http.post(f"{payer.url}/v1/images/generations", json=body)

    assert 400 == answer.status_code
    assert answer.json()["error"]


def test_an_edit_changes_only_where_the_mask_is_white(payer: Payer) -> None:
    """JSON edits take data URIs; pixels outside the white area of the mask do not change."""
    source = Image.linear_gradient("L").resize((1024, 1024)).convert("RGB")
    mask = Image.new("L", source.size, 0)
    mask.paste(255, (0, 0, 1024, 400))
    body = {
        "model": "openai/gpt-image-1",
        "prompt": "an aurora",
        "image": data_uri(source),
        "mask": data_uri(mask),
        "size": "1024x1024",
        "n": 1,
    }
    path = "/v1/images/image2image"
    answer = payer.pay(body, payer.sign(payer.ask(body, path), nonce(1)), path)
    image = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["url"].partition(",")[2])))

    assert source.crop((0, 401, 1024, 1024)).tobytes() == image.convert("RGB").crop((0, 401, 1024, 1024)).tobytes()
    assert source.crop((0, 0, 1024, 400)).tobytes() != image.convert("RGB").crop((0, 0, 1024, 400)).tobytes()


def test_an_edit_may_come_as_a_form(payer: Payer) -> None:
    """An edit as multipart/form-data with `image[]` is accepted at its list price."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(file, "PNG")
    form = {"model": "google/nano-banana", "prompt": "brighter", "size": "1024x1024", "n": "1"}
    files = {"image[]": ("a.png", file.getvalue(), "image/png")}
    path = f"{payer.url}/v1/images/image2image"
    challenge = unpack(payer.http.post(path, data=form, files=files).headers["PAYMENT-REQUIRED"])
    answer = payer.http.post(path, data=form, files=files, headers=payer.sign(challenge, nonce(1)))

    assert "52500" == challenge["accepts"][0]["amount"]
    assert 200 == answer.status_code


def test_the_catalog_has_every_image_model(payer: Payer) -> None:
    """Both catalog endpoints list all our models as image models."""
    listed = payer.http.get(f"{payer.url}/v1/models").json()["data"]
    older = payer.http.get(f"{payer.url}/v1/images/models").json()["models"]
    images = {entry["id"] for entry in listed if "image" in entry["categories"]}

    assert {model.id for model in SNAPSHOT.models} == images
    assert images == {entry["id"] for entry in older}


def test_a_witness_tells_what_was_cashed(payer: Payer) -> None:
    """The lookup of an authorization reports its use, its transaction and its amount in micro-USDC."""
    place = f"{payer.url}/practice/authorization/{payer.account.address}/0x{nonce(7).hex()}"
    before = payer.http.get(place).json()
    answer = payer.pay(BODY, payer.sign(payer.ask(BODY), nonce(7)))
    after = payer.http.get(place).json()

    assert {"used": False, "transaction": None} == before
    assert {"used": True, "transaction": answer.headers["X-Payment-Receipt"], "value": 15_750} == after


def test_the_books_survive_a_restart(tmp_path: Path) -> None:
    """A new server over the same database file knows the payment and returns the same image."""
    with PracticeServer(db=tmp_path / "practice.sqlite") as server:
        first = Payer(server.url)
        header = first.sign(first.ask(BODY), nonce(1))
        image = first.http.get(first.pay(BODY, header).json()["data"][0]["url"]).content
        first.http.close()
    with PracticeServer(db=tmp_path / "practice.sqlite") as server:
        second = Payer(server.url)
        again = second.pay(BODY, header)
        same = second.http.get(again.json()["data"][0]["url"]).content
        total = ledger(server.url)["total"]
        second.http.close()

    assert 200 == again.status_code
    assert image == same
    assert str(PRICE) == total
