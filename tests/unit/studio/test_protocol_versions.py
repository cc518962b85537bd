"""Gateways that change their x402 version while their price is known."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.x402.networks import BASE
from blockrun_magic.studio import Studio
from fakes.gateway import PAYEE, picture_for, studio_over, to_header
from fakes.raw_socket import json_http, raw_server

_ENTRY = {
    "scheme": "exact",
    "network": BASE.id,
    "amount": "42000",
    "asset": BASE.asset,
    "payTo": PAYEE,
    "maxTimeoutSeconds": 300,
    "extra": {"name": "USD Coin", "version": "2"},
}
_V1 = {name: value for name, value in _ENTRY.items() if name != "amount"} | {
    "network": "base",
    "maxAmountRequired": "42000",
    "resource": "/v1/images/generations",
}
_IMAGE = "data:image/png;base64," + base64.b64encode(picture_for("a fox")).decode()


def _in_studio(folder: Path, work: Callable[[Studio], Awaitable[Any]]) -> Any:
    async def kernel() -> Any:
        async with studio_over(folder) as studio:
            return await work(studio)

    return asyncio.run(kernel())


def _paid(version: int) -> bytes:
    receipt = to_header({"success": True, "transaction": "0x" + "ab" * 32, "network": BASE.id})
    name = "payment_response" if version == 2 else "x_payment_response"
    return json_http({"created": 1, "data": [{"url": _IMAGE}]}, **{name: receipt})


def test_a_gateway_that_goes_back_to_v1_is_paid_in_v1(tmp_path: Path) -> None:
    """A v2 payment at a known price is refused with v1 terms; the second payment is v1 with the same nonce."""
    answers = (
        json_http({"error": "Not found"}, 404),  # no health page, so the gateway is not a ClawRouter
        json_http({"error": "Not found"}, 404),  # no response to GET
        json_http({}, 402, payment_required=to_header({"x402Version": 2, "accepts": [_ENTRY]})),
        _paid(2),
        json_http({"x402Version": 1, "accepts": [_V1], "error": "X-PAYMENT header is required"}, 402),
        _paid(1),
    )
    with raw_server(*answers) as server:
        gateway = Gateway("base", f"{server.url}/api", (BASE,))

        async def buy(studio: Studio) -> list[State]:
            for prompt in ("a fox", "two foxes"):
                await studio.make(ImageRequest("generate", prompt, "black-forest/flux-1.1-pro"), gateway)
            return [payment.state for payment in studio.ledger.open_payments(tuple(State))]

        states = _in_studio(tmp_path, buy)
        posts = [seen for seen in server.seen if seen.method == "POST"]

    ahead, again = (_payment(posts[2].headers["payment-signature"]), _payment(posts[3].headers["x-payment"]))
    assert [State.UNKNOWN, State.UNKNOWN] == states  # the gateway's transaction hash is unconfirmed
    assert (2, 1, "base") == (ahead["x402Version"], again["x402Version"], again["network"])
    assert ahead["payload"]["authorization"]["nonce"] == again["payload"]["authorization"]["nonce"]


def test_a_gateway_that_changes_its_version_between_price_and_payment_is_paid(tmp_path: Path) -> None:
    """A gateway that quotes in v2 and then requests v1 is paid in v1."""
    answers = (
        json_http({"error": "Not found"}, 404),
        json_http({"error": "Not found"}, 404),
        json_http({}, 402, payment_required=to_header({"x402Version": 2, "accepts": [_ENTRY]})),
        json_http({"x402Version": 1, "accepts": [_V1]}, 402),
        _paid(1),
    )
    with raw_server(*answers) as server:
        gateway = Gateway("base", f"{server.url}/api", (BASE,))

        async def buy(studio: Studio) -> Any:
            return await studio.make(ImageRequest("generate", "a fox", "black-forest/flux-1.1-pro"), gateway)

        result = _in_studio(tmp_path, buy)
        sent = [set(seen.headers) & {"payment-signature", "x-payment"} for seen in server.seen if seen.method == "POST"]

    assert (42_000, False) == (result.receipt.amount, result.receipt.settled)  # the transaction is unconfirmed
    assert [set(), {"payment-signature"}, {"x-payment"}] == sent


def _payment(header: str) -> Any:
    return json.loads(base64.b64decode(header, validate=True))
