"""How close 64 prompts at 8 a time come to the ideal, on a practice gateway with 200 ms a picture.

    python benchmarks/many.py

The gateway is a process of its own. Its painting takes CPU time that a real model would not take from
us, so it is measured without latency first, and added to the ideal.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.presets import practice_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger import Ledger
from blockrun_magic.payments.wallet import practice_wallet
from blockrun_magic.pictures.store import Store
from blockrun_magic.studio import BatchProgress, Options, Studio, make_all

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT, JOBS, LATENCY = 64, 8, 0.2


def main() -> None:
    """Print the seconds of both runs and their ratio to the ideal."""
    painting = seconds(0.0)
    whole = seconds(LATENCY)
    ideal = COUNT / JOBS * LATENCY
    print(f"{COUNT} pictures, {JOBS} at a time")
    print(f"without latency (painting, and all that is ours): {painting:.2f} s")
    print(f"with {LATENCY * 1000:.0f} ms a picture:                        {whole:.2f} s")
    print(f"the ideal of waiting alone:                       {ideal:.2f} s")
    print(f"ratio to waiting plus painting:                   {whole / (ideal + painting):.2f}")


def seconds(latency: float) -> float:
    """Return how long the batch takes at a gateway with `latency` seconds a picture."""
    with gateway(latency) as url, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(batch(url, Path(folder)))


async def batch(url: str, folder: Path) -> float:
    """Return the seconds of one batch; the first picture, which imports everything, is not counted."""
    async with Client() as client:
        studio = Studio(
            client=client,
            ledger=Ledger(folder / "magic" / "ledger.sqlite", "bench"),
            store=Store(folder / "pictures"),
            wallet_for=lambda _: practice_wallet(),
            locks=folder / "locks",
        )
        place = practice_at(url)
        await studio.make(request("the first"), place)
        requests = [request(f"number {number}") for number in range(COUNT)]
        begun = time.perf_counter()
        results = await make_all(studio, requests, place, Options(), BatchProgress(COUNT), JOBS)
        taken = time.perf_counter() - begun
        studio.ledger.close()
    if len(results) != COUNT:
        raise SystemExit(f"only {len(results)} pictures came")
    return taken


def request(prompt: str) -> ImageRequest:
    """Return a request for one small picture."""
    return ImageRequest("generate", prompt, "zai/cogview-4", "512x512")


@contextmanager
def gateway(latency: float) -> Iterator[str]:
    """Yield the URL of a practice gateway in a process of its own."""
    command = [sys.executable, "-m", "blockrun_magic.practice", "--port", "0", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        match = re.search(r"http://\S+/api", line)
        if match is None:
            raise SystemExit("the practice gateway did not start")
        try:
            yield match[0]
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
