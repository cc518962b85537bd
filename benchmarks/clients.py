"""The clients in the comparison: ours, two alternatives, and clients that do only the minimum."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from harness.probe import Probe, probed

__all__ = ["CLIENTS", "SIZE", "Client", "Kept", "Limit", "Official", "Ours", "Sdk", "Upload"]

KEY = "0x" + "3d" * 32  # a public throwaway key
MODEL = "black-forest/flux-1.1-pro"
EDIT_MODEL = "openai/gpt-image-1"
SIZE = "1024x1024"


class Client(Protocol):
    """A client that gets images: one per call, or `count` images, `at_once` at a time."""

    name: str

    def generate(self, prompt: str) -> None:
        """Get one image."""

    def many(self, count: int, at_once: int) -> None:
        """Get images for `count` prompts."""

    def edit(self, prompt: str, source: Path) -> None:
        """Change the image in a file."""

    def close(self) -> None:
        """Close the client."""


class Ours:
    """The studio of blockrun-magic, as the magics use it: ledger and store on disk, every image checked and stored."""

    name = "blockrun-magic"

    def __init__(self, url: str, folder: Path) -> None:
        from blockrun_magic.gateway.client import Client
        from blockrun_magic.gateway.gateways import Gateway
        from blockrun_magic.images.store import Store
        from blockrun_magic.payments.ledger.ledger import Ledger
        from blockrun_magic.payments.wallets.evm import Wallet
        from blockrun_magic.payments.x402.networks import BASE
        from blockrun_magic.studio import Studio
        from blockrun_magic.studio.services import Wallets, purchase_services

        self._run = asyncio.Runner().run
        wallet = Wallet.from_key(KEY, "a benchmark")
        # Without RPC servers, nobody asks for the wallet's balance.
        self.gateway = Gateway("base", f"{url}/api", (replace(BASE, rpc_urls=()),))
        folder = folder / secrets.token_hex(4)
        services = purchase_services(
            client=Client(),
            ledger=Ledger(folder / "magic" / "ledger.sqlite", "bench"),
            store=Store(folder / "pictures"),
            wallets=Wallets(lambda _: wallet),
        )
        self.studio = Studio(services, folder / "locks")
        # Hundreds of images exceed the usual limits.
        self.studio.ledger.set_caps(session=10**9, day=10**9)

    def generate(self, prompt: str) -> None:
        """Get one image."""
        from blockrun_magic.gateway.request import ImageRequest

        self._run(self.studio.make(ImageRequest("generate", prompt, MODEL, SIZE), self.gateway))

    def many(self, count: int, at_once: int) -> None:
        """Get images for `count` prompts."""
        self._run(self._many(count, at_once))

    def probed(self, count: int, at_once: int) -> Probe:
        """Get images for `count` prompts; return the pauses of the event loop."""

        async def watched() -> Probe:
            async with probed() as probe:
                await self._many(count, at_once)
            return probe

        return self._run(watched())

    async def _many(self, count: int, at_once: int) -> None:
        from blockrun_magic.gateway.request import ImageRequest
        from blockrun_magic.studio import BatchProgress, Options, make_all

        name = secrets.token_hex(4)
        requests = [ImageRequest("generate", f"{name} {number}", MODEL, SIZE) for number in range(count)]
        results = await make_all(self.studio, requests, self.gateway, Options(), BatchProgress(count), at_once)
        if len(results) != count:
            raise SystemExit(f"only {len(results)} images arrived")

    def edit(self, prompt: str, source: Path) -> None:
        """Change the image in a file."""
        from blockrun_magic.gateway.request import ImageRequest, Upload
        from blockrun_magic.studio import Options

        upload = Upload.from_file_bytes(source.read_bytes(), "image/png")
        request = ImageRequest("edit", prompt, EDIT_MODEL, SIZE, images=(upload,))
        self._run(self.studio.make(request, self.gateway, Options(max_price=10**6)))

    def close(self) -> None:
        """Close the client."""
        self._run(self.studio.close())


class Sdk:
    """blockrun-llm's `ImageClient`."""

    name = "blockrun-llm"

    def __init__(self, url: str, _folder: Path) -> None:
        from blockrun_llm import ImageClient

        self._client = ImageClient(private_key=KEY, api_url=f"{url}/api")

    def generate(self, prompt: str) -> None:
        """Get one image."""
        self._client.generate(prompt, model=MODEL, size=SIZE)

    def many(self, count: int, at_once: int) -> None:
        """Get images for `count` prompts, with `at_once` threads."""
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(self.generate, map(str, range(count))))

    def edit(self, prompt: str, source: Path) -> None:
        """Change the image in a file."""
        uri = "data:image/png;base64," + base64.b64encode(source.read_bytes()).decode()
        self._client.edit(prompt, uri, model=EDIT_MODEL, size=SIZE)

    def close(self) -> None:
        """Close the client."""


class Official:
    """The official x402 package's httpx client."""

    name = "x402 (httpx)"

    def __init__(self, url: str, _folder: Path) -> None:
        from eth_account import Account
        from x402 import x402Client
        from x402.http.clients.httpx import wrapHttpxWithPayment
        from x402.mechanisms.evm.exact.register import register_exact_evm_client
        from x402.mechanisms.evm.signers import EthAccountSigner

        self._run = asyncio.Runner().run
        paying = x402Client()
        register_exact_evm_client(paying, EthAccountSigner(Account.from_key(KEY)))
        self._http = wrapHttpxWithPayment(paying, timeout=60)
        self._url = f"{url}/api/v1/images"

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        answer = await self._http.post(self._url + path, json={"size": SIZE, "n": 1, **body})
        answer.raise_for_status()
        if not answer.json()["data"][0]["url"]:
            raise SystemExit("no image arrived")

    def generate(self, prompt: str) -> None:
        """Get one image."""
        self._run(self._post("/generations", {"model": MODEL, "prompt": prompt}))

    def many(self, count: int, at_once: int) -> None:
        """Get images for `count` prompts."""

        async def all_of_them() -> None:
            gate = asyncio.Semaphore(at_once)

            async def one(number: int) -> None:
                async with gate:
                    await self._post("/generations", {"model": MODEL, "prompt": str(number)})

            await asyncio.gather(*map(one, range(count)))

        self._run(all_of_them())

    def edit(self, prompt: str, source: Path) -> None:
        """Change the image in a file."""
        uri = "data:image/png;base64," + base64.b64encode(source.read_bytes()).decode()
        self._run(self._post("/image2image", {"model": EDIT_MODEL, "prompt": prompt, "image": uri}))

    def close(self) -> None:
        """Close the client."""
        self._run(self._http.aclose())


class Limit:
    """The minimum for an image: a signature, one POST by httpx, and the decoded bytes; nothing is stored."""

    name = "one raw POST"

    def __init__(self, url: str, _folder: Path) -> None:
        import httpx
        from eth_account import Account

        self._account = Account.from_key(KEY)
        self._http = httpx.Client(timeout=60)
        self._url = f"{url}/api/v1/images/generations"
        asked = self._http.post(self._url, json={}).headers["payment-required"]
        self._terms = json.loads(base64.b64decode(asked))

    def _header(self) -> str:
        [entry] = self._terms["accepts"]
        now = int(time.time())
        message = {
            "from": self._account.address,
            "to": entry["payTo"],
            "value": int(entry["amount"]),
            "validAfter": now - 600,
            "validBefore": now + 300,
            "nonce": secrets.token_bytes(32),
        }
        kinds = [("from", "address"), ("to", "address"), ("value", "uint256")]
        kinds += [("validAfter", "uint256"), ("validBefore", "uint256"), ("nonce", "bytes32")]
        domain = {"name": "USD Coin", "version": "2", "chainId": 8453, "verifyingContract": entry["asset"]}
        types = {"TransferWithAuthorization": [{"name": name, "type": kind} for name, kind in kinds]}
        signed = self._account.sign_typed_data(domain, types, message)
        texts = {name: value if isinstance(value, str) else str(value) for name, value in message.items()}
        payload = {"signature": "0x" + signed.signature.hex(), "authorization": texts}
        content = {"x402Version": 2, "accepted": entry, "resource": self._terms["resource"], "payload": payload}
        return base64.b64encode(json.dumps(content).encode()).decode()

    def generate(self, prompt: str) -> None:
        """Get one image."""
        body = {"model": MODEL, "prompt": prompt, "size": SIZE, "n": 1}
        answer = self._http.post(self._url, json=body, headers={"PAYMENT-SIGNATURE": self._header()})
        if not base64.b64decode(answer.json()["data"][0]["url"].partition(",")[2]):
            raise SystemExit("no image arrived")

    def close(self) -> None:
        """Close the client."""
        self._http.close()


class Upload(Limit):
    """The minimum for an edit: a signature, its source in a multipart form, and the decoded bytes of the image."""

    name = "one bare upload"

    def edit(self, prompt: str, source: Path) -> None:
        """Change the image in a file."""
        fields = {"model": EDIT_MODEL, "prompt": prompt, "size": SIZE, "n": "1"}
        files = {"image[]": ("source.png", source.read_bytes(), "image/png")}
        url = self._url.replace("generations", "image2image")
        answer = self._http.post(url, data=fields, files=files, headers={"PAYMENT-SIGNATURE": self._header()})
        if not base64.b64decode(answer.json()["data"][0]["url"].partition(",")[2]):
            raise SystemExit("no image arrived")


class Kept(Limit):
    """The minimum with durable records: one before the payment is sent, the image, and two more records afterwards."""

    name = "the same, kept on disk"

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self._folder = folder
        self._books = sqlite3.connect(folder / "books.sqlite", isolation_level=None)
        self._books.execute("PRAGMA journal_mode = WAL")
        self._books.execute("PRAGMA synchronous = FULL")
        self._books.execute("CREATE TABLE books (prompt TEXT, state TEXT)")

    def generate(self, prompt: str) -> None:
        """Get one image and store it."""
        body = {"model": MODEL, "prompt": prompt, "size": SIZE, "n": 1}
        header = self._header()
        self._books.execute("INSERT INTO books VALUES (?, ?)", (prompt, header))
        answer = self._http.post(self._url, json=body, headers={"PAYMENT-SIGNATURE": header})
        data = base64.b64decode(answer.json()["data"][0]["url"].partition(",")[2])
        self._books.execute("UPDATE books SET state = 'settled' WHERE prompt = ?", (prompt,))
        with (self._folder / f"{prompt}.png").open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._books.execute("UPDATE books SET state = 'kept' WHERE prompt = ?", (prompt,))

    def close(self) -> None:
        """Close the client."""
        self._books.close()
        super().close()


CLIENTS: tuple[type, ...] = (Ours, Sdk, Official)
