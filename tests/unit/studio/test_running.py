"""A cell that asks for what its own kernel is already buying joins that purchase."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from blockrun_magic.gateway.gateways import practice_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.running import RunningPurchases
from fakes.gateway import studio_over
from harness import PATIENCE

KEY = ("practice", "sha256:0", None)


@dataclass(frozen=True)
class Receipt:
    """As much of a receipt as joining needs."""

    cached: bool = False


@dataclass(frozen=True)
class Result:
    """As much of a result as joining needs."""

    receipt: Receipt


class Purchase:
    """A purchase that waits until it is allowed to end."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.count = 0

    async def make(self) -> Any:
        """Wait, and return a result."""
        self.count += 1
        self.begun.set()
        await self.may_end.wait()
        return Result(Receipt())


def test_the_same_request_joins() -> None:
    """One purchase, two results: the second costs nothing, and shows how far the first is."""

    async def main() -> None:
        running, progress, other = RunningPurchases(), Progress(), Progress()
        purchase = Purchase(progress)
        first = asyncio.create_task(running.run(KEY, purchase.make, progress))
        await purchase.begun.wait()
        second = asyncio.create_task(running.run(KEY, purchase.make, other))
        progress.stage, progress.sent = "waiting for the image", True
        async with asyncio.timeout(PATIENCE):
            while other.stage != progress.stage:  # noqa: ASYNC110  there is no event of it
                await asyncio.sleep(0.01)
        purchase.may_end.set()
        results = await asyncio.gather(first, second)

        assert [False, True] == [result.receipt.cached for result in results]
        assert 1 == purchase.count

    asyncio.run(main())


@pytest.mark.parametrize("key", [None, ("practice", "sha256:1", None), ("practice", "sha256:0", 2)])
def test_another_request_does_not(key: Any) -> None:
    """Another request, another take and a fresh image are purchases of their own."""

    async def main() -> int:
        running, progress = RunningPurchases(), Progress()
        purchase = Purchase(progress)
        first = asyncio.create_task(running.run(KEY, purchase.make, progress))
        await purchase.begun.wait()
        purchase.may_end.set()
        await asyncio.gather(first, running.run(key, purchase.make, Progress()))
        return purchase.count

    assert 2 == asyncio.run(main())


@pytest.mark.parametrize("sent", [False, True])
def test_stop_ends_a_purchase_that_nobody_waits_for(sent: bool) -> None:
    """Before a payment was sent the last cell that is stopped ends it; afterwards it goes on to its end."""

    async def main() -> tuple[bool, bool]:
        running, progress = RunningPurchases(), Progress()
        purchase = Purchase(progress)
        first = asyncio.create_task(running.run(KEY, purchase.make, progress))
        await purchase.begun.wait()
        second = asyncio.create_task(running.run(KEY, purchase.make, Progress()))
        await asyncio.sleep(0)  # the second has joined
        progress.sent = sent
        first.cancel()
        await asyncio.wait([first])
        alive = bool(await running.wait_idle(0.01))
        second.cancel()
        await asyncio.wait([second])
        goes_on = bool(await running.wait_idle(0.01 if sent else PATIENCE))
        purchase.may_end.set()
        await running.close()
        return alive, goes_on

    assert (True, sent) == asyncio.run(main())


def test_a_cell_that_was_stopped_is_joined_by_the_next(tmp_path: Path) -> None:
    """A stopped cell's purchase is at work on its image: running the cell again waits for it and pays nothing more."""
    with PracticeServer() as server:
        gateway = practice_at(server.url)
        request = ImageRequest("generate", "a fox practice:slow=1", "zai/cogview-4", "512x512")

        async def main() -> Any:
            async with studio_over(tmp_path) as studio:
                progress = Progress()
                stopped = asyncio.create_task(studio.make(request, gateway, progress=progress))
                async with asyncio.timeout(PATIENCE):
                    while not progress.sent:  # noqa: ASYNC110  there is no event of it
                        await asyncio.sleep(0.01)
                stopped.cancel()
                await asyncio.wait([stopped])
                return await studio.make(request, gateway)

        result = asyncio.run(main())
        settlements = httpx.get(f"{gateway.base_url}/practice/ledger", timeout=PATIENCE).json()["settlements"]

    assert result.receipt.cached
    assert 1 == len(settlements)
