"""Time that the local endpoint adds to an image: one hop on this machine, compared with direct use of the studio."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from clients import KEY, MODEL, SIZE, Ours
from measures import Figures, clients, gateway, painted, row

__all__ = ["hop"]

TURNS = 30


@contextmanager
def served(url: str) -> Iterator[dict[str, Any]]:
    """Run a local endpoint that buys at `url`, and yield its ready line."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "blockrun_magic", "serve", "--gateway", f"{url}/api", "--port", "0"]
        environ = os.environ | {"HOME": home, "BLOCKRUN_WALLET_KEY": KEY}
        with subprocess.Popen(
            [*command, "--home", home, "--log", os.devnull], env=environ, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None  # noqa: S101  stdout is a pipe
            try:
                yield json.loads(process.stdout.readline())
            finally:
                process.terminate()


def hop() -> Figures:
    """Milliseconds per image, directly and through the endpoint, and the number of requests that reach the gateway.

    The session's limit allows a hundred images of the benchmark's price; the turns stay below it.
    """
    found: Figures = {}
    with gateway() as place, served(place.url) as ready, clients(place, (Ours,)) as [ours]:
        place.show(painted(256))
        http = httpx.Client(base_url=ready["url"], headers={"Authorization": f"Bearer {ready['api_key']}"}, timeout=60)

        def through() -> None:
            body = {"model": MODEL, "prompt": secrets.token_hex(6), "size": SIZE, "response_format": "url"}
            http.post("/images/generations", json=body).raise_for_status()

        def directly() -> None:
            ours.generate(secrets.token_hex(6))

        ways = {"directly": directly, "through the endpoint": through}
        through()
        asked: dict[str, list[float]] = {name: [] for name in ways}
        for wait in (0.0, 0.05):
            place.wait(wait)
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for _, (name, work) in itertools.product(range(TURNS), ways.items()):
                before, begun = place.counts()[0], time.perf_counter()
                work()
                taken[name].append(time.perf_counter() - begun - wait)
                asked[name].append(place.counts()[0] - before)
            found |= row(
                f"ms an image beyond one round trip of {wait * 1000:.0f} ms, by the local endpoint", taken, 1000
            )
        found |= row("requests at the gateway for an image (ClawRouter sends two)", asked)
    return found
