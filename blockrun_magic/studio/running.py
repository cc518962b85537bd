"""Running purchases of this process: shielded once a payment was sent, and shared by equal requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.results.result import ImageResult

__all__ = ["RunningPurchases"]

_LOG = logging.getLogger(__name__)
_POLL_INTERVAL = 0.1
_SHUTDOWN_TIMEOUT = 1.0
"""Seconds that the end of a session waits for paid purchases."""
_LONG_TIMEOUT = 60.0
"""Seconds that it waits for a response that is sent only once."""
_CANCEL_TIMEOUT = 0.15
"""Seconds that Stop waits for an order to be cancelled, so that its report about the money is true."""
_Key = tuple[str, str, int | None]


@dataclass(slots=True)
class _Running:
    """One task, its progress, and the number of callers that wait for it."""

    task: asyncio.Task[ImageResult]
    progress: Progress
    waiting: int = 0


class RunningPurchases:
    """The running purchases of one event loop."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[ImageResult], Progress] = {}
        self._by_key: dict[_Key, _Running] = {}

    async def run(
        self, key: _Key | None, making: Callable[[], Coroutine[Any, Any, ImageResult]], progress: Progress
    ) -> ImageResult:
        """Return the result of `making`, or join the running purchase with the same `key` at no further cost.

        When every caller is cancelled before a payment was sent, so is the purchase. After that it continues to its
        end, so that nothing paid for is lost.
        """
        running = None if key is None else self._by_key.get(key)
        if running is not None and not running.task.done():
            return await self._join(running, progress)
        running = _Running(asyncio.create_task(making()), progress)
        progress.running = True
        self._tasks[running.task] = progress
        running.task.add_done_callback(lambda _: setattr(progress, "running", False))
        running.task.add_done_callback(self._on_done)
        if key is not None:
            self._by_key[key] = running
            running.task.add_done_callback(lambda _: self._forget(key, running))
        return await self._wait(running)

    @property
    def max_wait(self) -> float:
        """The most seconds that `close` waits."""
        return _SHUTDOWN_TIMEOUT + (
            _LONG_TIMEOUT if any(progress.once for progress in list(self._tasks.values())) else 0.0
        )

    async def wait_idle(self, seconds: float | None = None) -> set[asyncio.Task[ImageResult]]:
        """Wait until every purchase has ended, its cell stopped or not; return those that have not within `seconds`."""
        if not self._tasks:
            return set()
        return (await asyncio.wait(self._tasks, timeout=seconds))[1]

    async def close(self) -> None:
        """Wait a moment for every purchase, longer for one whose request cannot be repeated, then cancel the rest."""
        await self.wait_idle(_SHUTDOWN_TIMEOUT)
        once = [task for task, progress in self._tasks.items() if progress.once]
        if once:
            _LOG.warning(
                "Waiting up to %.0f s for %d image(s) whose request cannot be sent again.", _LONG_TIMEOUT, len(once)
            )
            await asyncio.wait(once, timeout=_LONG_TIMEOUT)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _join(self, running: _Running, progress: Progress) -> ImageResult:
        progress.running = True
        running.task.add_done_callback(lambda _: setattr(progress, "running", False))
        watching = asyncio.create_task(_mirror(running, progress))
        try:
            result = await self._wait(running)
        finally:
            watching.cancel()
            _copy(running, progress)
        return replace(result, receipt=replace(result.receipt, cached=True))

    async def _wait(self, running: _Running) -> ImageResult:
        running.waiting += 1
        try:
            return await asyncio.shield(running.task)
        except asyncio.CancelledError:
            progress = running.progress
            if running.waiting == 1 and not progress.sent:
                running.task.cancel()
                # It ends at its current step: `mark_sent` records no payment as sent after this.
                progress.running = False
            elif running.waiting == 1 and progress.stop is not None:
                progress.stop()
                await asyncio.wait([running.task], timeout=_CANCEL_TIMEOUT)
            raise
        finally:
            running.waiting -= 1

    def _on_done(self, task: asyncio.Task[ImageResult]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it: no cell waits for it any more

    def _forget(self, key: _Key, running: _Running) -> None:
        if self._by_key.get(key) is running:
            del self._by_key[key]


async def _mirror(running: _Running, progress: Progress) -> None:
    """Show the progress of a purchase that another cell has begun."""
    while True:
        _copy(running, progress)
        await asyncio.sleep(_POLL_INTERVAL)


def _copy(running: _Running, progress: Progress) -> None:
    source = running.progress
    progress.stage, progress.price, progress.sent = source.stage, source.price, source.sent
    progress.running = source.running
