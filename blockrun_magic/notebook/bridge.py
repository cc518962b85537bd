"""Sync cells over the async studio: one event loop of our own, in one daemon thread.

Widget callbacks and cells run on whatever loop and thread the kernel likes; so nobody but the
bridge touches a loop. A cell submits its coroutine and polls for the result, which leaves Stop
alive and loses no queued message (IPython's own loop is never entered a second time).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["Bridge"]

T = TypeVar("T")

_TICK = 0.05
_FAREWELL = 2.0


class Bridge:
    """The loop thread, started at its first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start `work` on the loop and return its future at once."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def run(self, work: Coroutine[Any, Any, T], tick: Callable[[], None] | None = None) -> T:
        """Return what `work` returns, or raise what it raises; `tick` is called while waiting.

        On KeyboardInterrupt (Stop) the work is cancelled and the interrupt goes on to the cell.
        """
        future = self.submit(work)
        try:
            while True:
                try:
                    return future.result(_TICK)
                except concurrent.futures.TimeoutError:
                    # The work's own TimeoutError is the same class: a finished future tells.
                    if future.done():
                        return future.result()
                if tick is not None:
                    tick()
        except BaseException:
            future.cancel()
            raise

    def run_beside(self, work: Coroutine[Any, Any, T], tick: Callable[[], None] | None = None) -> T:
        """As `run`, but the caller's own event loop keeps running its tasks meanwhile.

        That enters the kernel's loop a second time, which nest-asyncio2 allows.
        """
        import nest_asyncio2

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.run(work, tick)  # no tasks of the caller's to keep running
        nest_asyncio2.apply(loop)
        future = self.submit(work)

        async def wait() -> None:
            while not future.done():
                await asyncio.sleep(_TICK)
                if tick is not None:
                    tick()

        try:
            loop.run_until_complete(wait())
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, farewell: Coroutine[Any, Any, None] | None = None) -> None:
        """Run `farewell`, cancel what is left and end the thread; safe to call twice."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            if farewell is not None:
                farewell.close()
            return
        if farewell is not None:
            # What was paid for is in the ledger: the next start goes on with it.
            with suppress(concurrent.futures.TimeoutError):
                asyncio.run_coroutine_threadsafe(farewell, loop).result(_FAREWELL)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_FAREWELL)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="blockrun-magic", daemon=True)
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
