"""A probe on an event loop: the longest time for which it stood still, by the clock and in processor time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Probe", "probed"]

_POLL_INTERVAL = 0.005


class Machine:
    """A thread that only sleeps: a long sleep shows that the machine was busy with something else."""

    def __init__(self) -> None:
        self._longest, self._slept_at = 0.0, time.perf_counter()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sleep, daemon=True)

    def longest_pause(self) -> float:
        """Return the seconds of the longest pause since the last call."""
        longest, self._longest = max(self._longest, time.perf_counter() - self._slept_at - _POLL_INTERVAL), 0.0
        return longest

    def _sleep(self) -> None:
        while not self._end.wait(_POLL_INTERVAL):
            now = time.perf_counter()
            self._longest, self._slept_at = max(self._longest, now - self._slept_at - _POLL_INTERVAL), now

    def __enter__(self) -> Self:
        self._slept_at = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@dataclass
class Probe:
    """The longest time between two steps of the loop: by the clock, and in processor time.

    Time in which the machine let no thread of this process run is not counted: the sleeping thread notices it.
    """

    seconds: float = 0.0
    computing: float = 0.0
    """Processor seconds of the loop's own thread."""
    working: float = 0.0
    """Processor seconds of all threads of this process, at most the time by the clock."""
    machine: Machine = field(default_factory=Machine)

    async def watch(self) -> None:
        """Measure the time between two steps again and again."""
        while True:
            wall, own, everything = time.perf_counter(), time.thread_time(), time.process_time()
            await asyncio.sleep(_POLL_INTERVAL)
            seconds = max(0.0, time.perf_counter() - wall - _POLL_INTERVAL - self.machine.longest_pause())
            self.seconds = max(self.seconds, seconds)
            self.computing = max(self.computing, time.thread_time() - own)
            self.working = max(self.working, min(seconds, time.process_time() - everything))


@asynccontextmanager
async def probed() -> AsyncIterator[Probe]:
    """Watch the loop during the block, and yield the probe."""
    probe = Probe()
    with probe.machine:
        task = asyncio.create_task(probe.watch())
        await asyncio.sleep(0)
        try:
            yield probe
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
