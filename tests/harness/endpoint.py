"""The local endpoint in a thread of its own, over a practice gateway."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from blockrun_magic.gateway.gateways import practice_at
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.proxy.server import LocalEndpoint
from blockrun_magic.wiring import open_studio
from harness import PATIENCE

__all__ = ["KEY", "Endpoint", "running_endpoint"]

KEY = "brm_test"


@dataclass
class Endpoint:
    """A running local endpoint, and the practice gateway where it buys."""

    url: str
    origin: str
    gateway: PracticeServer

    def post(self, path: str, **body: Any) -> httpx.Response:
        """Post JSON to `path` with the key, and return the response."""
        return httpx.post(f"{self.url}{path}", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE)

    def generate(self, prompt: str, **body: Any) -> httpx.Response:
        """Return the response to a request for an image of `prompt`."""
        return self.post("/images/generations", prompt=prompt, **body)

    @property
    def settlements(self) -> list[dict[str, Any]]:
        """Payments to the practice gateway, oldest first."""
        books = httpx.get(f"{self.gateway.url}/practice/ledger", timeout=PATIENCE).json()
        return list(books["settlements"])


@contextmanager
def running_endpoint(home: Path, gateway: PracticeServer, **options: Any) -> Iterator[Endpoint]:
    """Yield an endpoint with its files below `home`; `options` are the arguments of LocalEndpoint."""
    ready, stop = threading.Event(), threading.Event()
    box: list[LocalEndpoint] = []

    async def serve() -> None:
        studio = open_studio({"BLOCKRUN_HOME": str(home)})
        try:
            endpoint = LocalEndpoint(
                studio, practice_at(gateway.url), **{"port": 0, "key": KEY, "stop": stop} | options
            )
            box.append(endpoint)
            ready.set()
            await endpoint.serve()
        finally:
            await studio.close()
            ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield Endpoint(box[0].url, box[0].origin, gateway)
    finally:
        stop.set()
        thread.join(PATIENCE)
