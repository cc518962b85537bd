"""A cell with the request of a running purchase joins that purchase."""

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
    """The part of a receipt that joining needs."""

    cached: bool = False


@dataclass(frozen=True)
class Result:
    """The part of a result that joining needs."""

    receipt: Receipt


class Purchase:
    """A purchase that ends when the test allows it."""

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
    """Two equal requests share one purchase; the second costs nothing and shows the progress of the first."""

    async def main() -> None:
        running, progress, other = RunningPurchases(), Progress(), Progress()
        purchase = Purchase(progress)
        first = asyncio.create_task(running.run(KEY, purchase.make, progress))
        await purchase.begun.wait()
        second = asyncio.create_task(running.run(KEY, purchase.make, other))
        progress.stage, progress.sent = "waiting for the image", True
        async with asyncio.timeout(PATIENCE):
            while other.stage != progress.stage:  # noqa: ASYNC110  no event exists for this
                await asyncio.sleep(0.01)
        purchase.may_end.set()
        results = await asyncio.gather(first, second)

        assert [False, True] == [result.receipt.cached for result in results]
        assert 1 == purchase.count

    asyncio.run(main())


@pytest.mark.parametrize("key", [None, ("practice", "sha256:1", None), ("practice", "sha256:0", 2)])
def test_another_request_does_not(key: Any) -> None:
    """Another request, another take and a fresh image are separate purchases."""

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
    """When its last cell is stopped, an unsent purchase is cancelled; a sent one continues."""

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
    """After a stop, the next run joins the paid purchase and pays nothing."""
    with PracticeServer() as server:
        gateway = practice_at(server.url)
        request = ImageRequest("generate", "a fox practice:slow=1", "zai/cogview-4", "512x512")

        async def main() -> Any:
            async with studio_over(tmp_path) as studio:
                progress = Progress()
                stopped = asyncio.create_task(studio.make(request, gateway, progress=progress))
                async with asyncio.timeout(PATIENCE):
                    while not progress.sent:  # noqa: ASYNC110  no event exists for this
                        await asyncio.sleep(0.01)
                stopped.cancel()
                await asyncio.wait([stopped])
                return await studio.make(request, gateway)

        result = asyncio.run(main())
        settlements = httpx.get(f"{gateway.base_url}/practice/ledger", timeout=PATIENCE).json()["settlements"]

    assert result.receipt.cached
    assert 1 == len(settlements)
