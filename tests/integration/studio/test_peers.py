"""The official x402 servers as gateways: each image is paid once, verified by the facilitator, and delivered."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blockrun_magic.gateway.gateways import Gateway, gateway_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.x402.networks import BASE
from fakes.facilitator import Facilitator
from fakes.gateway import studio_over
from fakes.x402_servers import IMAGE, PRICE, SHAPES, served

_PIXELS = Image.open(io.BytesIO(IMAGE)).tobytes()


@pytest.fixture(scope="module")
def facilitator() -> Iterator[Facilitator]:
    """Yield a facilitator for all servers."""
    with Facilitator() as facilitator:
        yield facilitator


@pytest.fixture(scope="module", params=["fastapi", "flask"])
def server(request: pytest.FixtureRequest, facilitator: Facilitator) -> Iterator[str]:
    """Yield the URL of an official server."""
    with served(request.param, facilitator) as url:
        yield url


def _gateway(url: str) -> Gateway:
    """Return the endpoint at `url` without RPC servers, to avoid requests over the network."""
    return replace(gateway_at(url), networks=(replace(BASE, rpc_urls=()),))


def _bought(folder: Path, gateway: Gateway, *models: str) -> list[Any]:
    async def buy() -> list[Any]:
        async with studio_over(folder) as studio:
            requests = [ImageRequest("generate", f"a heron of {model}", model) for model in models]
            return [await studio.make(request, gateway) for request in requests]

    return asyncio.run(buy())


@pytest.mark.parametrize("shape", [*SHAPES, "raw"])
def test_an_official_server_is_paid_once_and_delivers(
    tmp_path: Path, facilitator: Facilitator, server: str, shape: str
) -> None:
    """The official verifier accepts the payment, the amount is the price, and the image is the server's."""
    before = len(facilitator.settled)
    [result] = _bought(tmp_path, _gateway(server), f"acme/{shape}")

    assert [PRICE] == list(facilitator.settled.values())[before:]
    assert (PRICE, _PIXELS) == (result.receipt.amount, result.image.tobytes())


def test_an_endpoint_of_another_path_is_paid(tmp_path: Path, facilitator: Facilitator, server: str) -> None:
    """An endpoint with the path /draw is paid; the second image is signed at once, with the price of the first one."""
    before = len(facilitator.settled)
    results = _bought(tmp_path, _gateway(f"{server}#/draw"), "acme/url", "acme/url", "acme/raw")

    assert [PRICE, PRICE] == list(facilitator.settled.values())[before:]
    assert [_PIXELS] * 3 == [result.image.tobytes() for result in results]
