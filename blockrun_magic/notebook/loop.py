"""An event loop of our own in a daemon thread: synchronous cells use it to run the async studio.

Widget callbacks and cells run on any loop and thread of the kernel, so only `LoopThread` touches our
loop. A cell submits its coroutine and polls for the result, which keeps Stop alive and loses no
queued message. IPython's own loop is never entered a second time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["LoopThread"]

T = TypeVar("T")

_POLL_INTERVAL = 0.05
_SHUTDOWN_TIMEOUT = 2.0
_CANCEL_TIMEOUT = 0.2
"""Seconds that Stop waits for the work to end: long enough for a true report, short enough to seem immediate."""


class LoopThread:
    """The loop thread, which starts at its first use."""

    def __init__(self) -> None:
        self._worker: _Loop | None = None
        self._lock = threading.Lock()

    def is_current_thread(self) -> bool:
        """Return whether the caller is on the loop, where it must not block."""
        worker = self._worker
        return worker is not None and worker.thread is threading.current_thread()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start `work` on the loop and return its future at once."""
        return self._running().submit(work)

    def run(self, work: Coroutine[Any, Any, T], tick: Callable[[], None] | None = None) -> T:
        """Return what `work` returns, or raise what it raises; `tick` is called while waiting.

        On KeyboardInterrupt (Stop) the work is cancelled and the interrupt continues to the cell.
        """
        stop = _Cancellation()
        try:
            future = self.submit(stop.over(work))
            while True:
                try:
                    return future.result(_POLL_INTERVAL)
                except concurrent.futures.TimeoutError:
                    # The work may raise TimeoutError itself: then the future is done.
                    if future.done():
                        return future.result()
                if tick is not None:
                    tick()
        except BaseException:
            stop.now()
            raise

    def run_nested(self, work: Coroutine[Any, Any, T], tick: Callable[[], None] | None = None) -> T:
        """As `run`, but the caller's own event loop keeps running its tasks meanwhile.

        That enters the kernel's loop a second time, which nest-asyncio2 allows.
        """
        import nest_asyncio2

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.run(work, tick)  # the caller has no tasks to keep running
        nest_asyncio2.apply(loop)
        stop = _Cancellation()

        async def wait(future: concurrent.futures.Future[T]) -> T:
            while not future.done():
                await asyncio.sleep(_POLL_INTERVAL)
                if tick is not None:
                    tick()
            return future.result()

        try:
            returned: T = loop.run_until_complete(wait(self.submit(stop.over(work))))
        except BaseException:
            stop.now()
            raise
        return returned

    def close(self, cleanup: Coroutine[Any, Any, None] | None = None, timeout: float = 0.0) -> None:
        """Cancel all submitted work, run `cleanup` for at most `timeout`, and end the thread.

        Safe to call twice.

        In this order, nothing can open a connection after `cleanup` has closed them.
        """
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close(cleanup, timeout)
        elif cleanup is not None:
            cleanup.close()

    def _running(self) -> _Loop:
        with self._lock:
            # If Stop prevented the thread from starting, no thread would run the loop.
            if self._worker is None or not self._worker.thread.is_alive():
                self._worker = _Loop()
                self._worker.thread.start()
            return self._worker


class _Loop:
    """An event loop, its thread, and the work submitted to it."""

    def __init__(self) -> None:
        self.thread = threading.Thread(target=self._serve, name="blockrun-magic", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any] | None] = set()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(self._noted(work), self._loop)

    def close(self, cleanup: Coroutine[Any, Any, None] | None, timeout: float) -> None:
        # Paid requests are in the ledger: the next start continues with them.
        with suppress(concurrent.futures.TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(cleanup), self._loop).result(_SHUTDOWN_TIMEOUT + timeout)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.thread.join(_SHUTDOWN_TIMEOUT)

    async def _noted(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            return await work
        finally:
            self._tasks.discard(task)

    async def _end(self, cleanup: Coroutine[Any, Any, None] | None) -> None:
        # Only submitted work: it ends the tasks that it has started itself.
        try:
            await _cancel({task for task in self._tasks if task is not None})
            if cleanup is not None:
                await cleanup
        finally:
            if cleanup is not None:
                cleanup.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(_cancel(asyncio.all_tasks(self._loop)))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


class _Cancellation:
    """Cancels one coroutine, even if the interrupt arrives before the caller has its future.

    The interrupt may come at any step of submitting, even after the work has started on its thread.
    """

    def __init__(self) -> None:
        self._asked = False
        self._task: asyncio.Task[Any] | None = None
        self._ended = threading.Event()

    async def over(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; `now` cancels it, even if called before or after this."""
        self._task = asyncio.current_task()
        if self._asked:
            work.close()
            raise asyncio.CancelledError
        try:
            return await work
        finally:
            self._ended.set()

    def now(self) -> None:
        """Cancel the work from another thread, and wait a moment for its end, so that the report about it is true."""
        self._asked = True  # set first: whichever thread is later sees the other's value
        if self._task is not None:
            with suppress(RuntimeError):  # the loop is closed, and the work has ended with it
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
                self._ended.wait(_CANCEL_TIMEOUT)


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
