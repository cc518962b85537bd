"""A probe on an event loop: how long it stood still, and how much of that it computed itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

__all__ = ["Probe", "probed"]

_POLL_INTERVAL = 0.005


@dataclass
class Probe:
    """The longest time between two steps of the loop: by the clock, and in processor time.

    The clock also counts what other processes take.
    """

    seconds: float = 0.0
    computing: float = 0.0
    """Of the loop's own thread."""
    working: float = 0.0
    """Of all threads of this process, at most the time by the clock."""

    async def watch(self) -> None:
        """Look at the clocks again and again."""
        while True:
            wall, own, everything = time.perf_counter(), time.thread_time(), time.process_time()
            await asyncio.sleep(_POLL_INTERVAL)
            seconds = time.perf_counter() - wall - _POLL_INTERVAL
            self.seconds = max(self.seconds, seconds)
            self.computing = max(self.computing, time.thread_time() - own)
            self.working = max(self.working, min(seconds, time.process_time() - everything))


@asynccontextmanager
async def probed() -> AsyncIterator[Probe]:
    """Watch the loop meanwhile."""
    probe = Probe()
    task = asyncio.create_task(probe.watch())
    await asyncio.sleep(0)
    try:
        yield probe
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
