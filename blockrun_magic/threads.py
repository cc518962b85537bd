"""Threads for everything that blocks, so that the event loop only awaits.

`run_io` is for calls that wait (the ledger, files, locks), `run_cpu` for calls that compute (images, signatures).
They have pools of their own, so that waiting never takes the last worker. `run_foreign` is for the user's own
code (properties, `_repr_png_`, `__array__`), which may take any time: each call has a daemon thread to itself.

Unlike `asyncio.to_thread`, none of them copies the caller's context: money never depends on a decimal
context that was set elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

__all__ = ["run_cpu", "run_foreign", "run_io", "run_within", "start_threads"]

P = ParamSpec("P")
T = TypeVar("T")

_IO_THREADS = 64
"""Threads are started as they are needed: a high number costs nothing until many calls wait at once."""
_START_SECONDS = 1.0
_CPU_THREADS = min(8, (os.cpu_count() or 1) + 1)

_pools: dict[str, ThreadPoolExecutor] = {}
_lock = threading.Lock()


async def run_io(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `call` returns, run in the pool for waiting: the ledger, files, locks.

    A call that has started always finishes, and its value is not lost: a cancellation takes effect at the caller's next
    `await`, where the caller can undo the call. The next `run_io` then does not start.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        await asyncio.sleep(0)  # raises a cancellation of the last call; nothing while the caller cleans up
    running = _submit("io", _IO_THREADS, partial(call, *args, **kwargs))
    try:
        await _end_of(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await _end_of(running)
        if task is not None:
            task.uncancel()
            task.cancel()
    return running.result()


async def run_within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, in a task of its own that is cancelled after `seconds`; raises TimeoutError.

    Use this for work that calls `run_io`. That call ends before the cancellation does, and before Python 3.13 the
    cancellation by `asyncio.timeout` would then reach the caller's next `await`.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # its exception is retrieved even if this call was cancelled
    if task.cancelled():
        raise TimeoutError
    return task.result()


async def run_cpu(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `call` returns, run in the pool for work: decoding, encoding, signing."""
    running = _submit("cpu", _CPU_THREADS, partial(call, *args, **kwargs))
    try:
        await _end_of(running)
    except asyncio.CancelledError:
        running.cancel()  # unless it has begun
        raise
    return running.result()


async def start_threads(count: int) -> None:
    """Start threads of the `run_io` pool until `count` run, away from the loop: each start waits for its thread.

    A batch needs them at once, and starting them on the loop would block it.
    """
    await run_cpu(_start, min(count, _IO_THREADS))


async def run_foreign(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `call` returns, run in a daemon thread of its own: code that is not ours and may never end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    thread = threading.Thread(
        target=_settle, args=(loop, future, partial(call, *args, **kwargs)), name="blockrun-foreign", daemon=True
    )
    thread.start()
    return await future


def _start(count: int) -> None:
    together = threading.Barrier(count + 1)
    for _ in range(count):
        _submit("io", _IO_THREADS, partial(together.wait, _START_SECONDS))
    with suppress(threading.BrokenBarrierError):  # the other threads are busy with calls that will end
        together.wait(_START_SECONDS)


def _submit(name: str, threads: int, call: Callable[[], T]) -> Future[T]:
    with _lock:
        pool = _pools.get(name)
        if pool is None:
            pool = _pools[name] = ThreadPoolExecutor(threads, f"blockrun-{name}")
        return pool.submit(call)


async def _end_of(running: Future[Any]) -> None:
    """Wait for a call in another thread; the loop wakes once, instead of three times as with `asyncio.wrap_future`."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(wake)

    running.add_done_callback(tell)
    await ended


def _settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], call: Callable[[], Any]) -> None:
    value, error = None, None
    try:
        value = call()
    except BaseException as raised:  # noqa: BLE001  it belongs to the task that awaits it
        # A future cannot hold StopIteration, and an interrupt in this thread is not meant for the loop.
        error = raised if isinstance(raised, Exception) and not isinstance(raised, StopIteration) else None
        error = error or RuntimeError(f"{type(raised).__name__} in a thread")

    def settle() -> None:
        if future.done():  # the task that awaited it was cancelled
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop has ended meanwhile
        return


def _forget_pools() -> None:
    """Give a forked child pools of its own: the parent's threads are not in it."""
    global _lock  # noqa: PLW0603  a lock that another thread held at the fork is never released
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)
