"""The newest x402 servers and SDKs from npm; `make peers` installs them into build/peers and runs these tests."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blockrun_magic.gateway.gateways import gateway_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.wallets.keystore import address_of
from blockrun_magic.payments.wallets.registry import WalletRegistry, new_key
from blockrun_magic.payments.x402.networks import BASE
from blockrun_magic.practice.server.server import PracticeServer
from fakes.facilitator import PAYEE, Facilitator
from fakes.gateway import studio_over
from fakes.x402_servers import IMAGE, PRICE, SHAPES
from harness.endpoint import KEY, running_endpoint

PEERS = Path(__file__).parents[2] / "build" / "peers"
_PIXELS = Image.open(io.BytesIO(IMAGE)).tobytes()


@pytest.fixture(scope="module")
def facilitator() -> Iterator[Facilitator]:
    """Return a facilitator for both servers."""
    with Facilitator() as facilitator:
        yield facilitator


@pytest.fixture(scope="module", params=["express", "hono"])
def server(request: pytest.FixtureRequest, facilitator: Facilitator) -> Iterator[str]:
    """Return the URL of an official server."""
    about = {
        "network": BASE.id,
        "payTo": PAYEE,
        "price": f"${PRICE / 1e6}",
        "image": base64.b64encode(IMAGE).decode(),
        "shapes": SHAPES,
    }
    command = ["node", "server.mjs", request.param, facilitator.url]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PEERS, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(about))
        process.stdin.close()
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.mark.parametrize("path", ["", "#/draw"], ids=["usual path", "another path"])
def test_an_official_server_is_paid_once_and_delivers(
    tmp_path: Path, facilitator: Facilitator, server: str, path: str
) -> None:
    """Every form of response gives its image, paid for once at its price."""
    gateway = replace(gateway_at(f"{server}{path}"), networks=(replace(BASE, rpc_urls=()),))
    before = len(facilitator.settled)

    async def buy() -> list[Any]:
        async with studio_over(tmp_path) as studio:
            models = [f"acme/{shape}" for shape in (*SHAPES, "raw")]
            requests = [ImageRequest("generate", f"a heron{path} of {model}", model) for model in models]
            return [await studio.make(request, gateway) for request in requests]

    results = asyncio.run(buy())

    assert [PRICE] * len(results) == list(facilitator.settled.values())[before:]
    assert [_PIXELS] * len(results) == [result.image.tobytes() for result in results]


@pytest.mark.parametrize("moved", [False, True], ids=["home", "BLOCKRUN_HOME"])
def test_the_typescript_sdk_pays_with_the_wallet_that_we_create(tmp_path: Path, moved: bool) -> None:
    """The SDK uses our default wallet, in the home folder or in BLOCKRUN_HOME, and creates no other."""
    key = new_key()
    environ = {"BLOCKRUN_HOME": str(tmp_path / "moved")} if moved else {}
    WalletRegistry.of(environ, tmp_path).save_key("default", key)
    log = tmp_path / ".blockrun" / "cost_log.jsonl"
    log.parent.mkdir(exist_ok=True)
    log.write_text(json.dumps({"ts": 1.0, "endpoint": "/v1/images/generations", "cost_usd": 0.042}) + "\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BLOCKRUN_", "BASE_CHAIN"))}
    run = subprocess.run(
        ["node", "wallet.mjs"],
        cwd=PEERS,
        env=inherited | environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    said = json.loads(run.stdout.splitlines()[-1])
    assert (address_of(key, ""), False, 0.042) == (said["address"], said["isNew"], said["total"])


def test_openais_sdk_uses_the_local_endpoint(tmp_path: Path) -> None:
    """OpenAI's JavaScript SDK generates, edits and lists through the endpoint; its automatic retry pays once."""
    (tmp_path / "photo.png").write_bytes(IMAGE)
    with PracticeServer() as gateway, running_endpoint(tmp_path / "home", gateway) as endpoint:
        done = subprocess.run(
            ["node", "openai.mjs", endpoint.url, KEY, str(tmp_path / "photo.png")],
            cwd=PEERS,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        settled = len(endpoint.settlements)

    report = json.loads(done.stdout)
    assert report["generated"].startswith("http://127.0.0.1:")
    assert [True, True, True] == [report["edited"], report["listed"], report["refused"] == 402]
    assert 3 == settled  # the image, the edit, and one take despite the retry
