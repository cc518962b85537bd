"""Thread pools: the loop only awaits, waiting calls do not block computing ones, and a child has its own pools."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from blockrun_magic import threads
from blockrun_magic.garbage import give_back_memory, only_new_garbage
from blockrun_magic.threads import run_cpu, run_foreign, run_io, run_within, start_threads
from harness import PATIENCE

RUNNERS: list[Callable[..., Coroutine[Any, Any, Any]]] = [run_io, run_cpu, run_foreign]


@pytest.mark.parametrize("run", RUNNERS)
def test_a_call_runs_in_another_thread(run: Callable[..., Coroutine[Any, Any, Any]]) -> None:
    """The call gets its arguments, returns its value and runs in another thread than the loop."""

    async def main() -> tuple[int, int]:
        return await run(lambda first, *, second: (threading.get_ident(), first + second), 1, second=2)

    thread, total = asyncio.run(main())

    assert threading.get_ident() != thread
    assert 3 == total


@pytest.mark.parametrize(
    ("run", "error"),
    [*((run, LookupError) for run in RUNNERS), (run_foreign, StopIteration), (run_foreign, SystemExit)],
)
def test_an_exception_reaches_the_task(
    run: Callable[..., Coroutine[Any, Any, Any]], error: type[BaseException]
) -> None:
    """An exception of a call ends only the task that awaits it."""

    def fail() -> None:
        raise error("no")

    async def main() -> BaseException | None:
        task = asyncio.ensure_future(asyncio.wait_for(run(fail), PATIENCE))
        await asyncio.wait([task])
        return task.exception()

    assert isinstance(asyncio.run(main()), LookupError if error is LookupError else RuntimeError)


@pytest.mark.parametrize("in_a_thread", [True, False])
def test_a_limit_of_time_cancels_nothing_else(in_a_thread: bool) -> None:
    """The caller gets a TimeoutError and, unlike with asyncio.timeout, is not cancelled at its next step."""
    release = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.05, release.set)
        with pytest.raises(TimeoutError):
            await run_within(0.01, run_io(release.wait, PATIENCE) if in_a_thread else asyncio.sleep(PATIENCE))
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_cancelled_caller_cancels_what_has_a_limit_of_time() -> None:
    """A cancelled task also cancels the inner coroutine."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended.append("work")

    async def main() -> bool:
        task = asyncio.ensure_future(run_within(PATIENCE, work()))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert ["work"] == ended


def test_waiting_never_takes_the_last_worker() -> None:
    """Many waiting calls do not block the call that they wait for."""
    done = threading.Event()

    async def main() -> None:
        waiting = [asyncio.ensure_future(run_io(done.wait, PATIENCE)) for _ in range(50)]
        foreign = [asyncio.ensure_future(run_foreign(done.wait, PATIENCE)) for _ in range(50)]
        await run_cpu(done.set)

        assert all(await asyncio.gather(*waiting, *foreign))

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_cancelled_task_does_not_wait_for_its_thread() -> None:
    """A cancelled task ends at once, even if its thread is still busy."""
    release = threading.Event()

    async def main() -> int:
        tasks = [asyncio.ensure_future(run(release.wait, PATIENCE)) for run in (run_cpu, run_foreign)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        _, late = await asyncio.wait(tasks, timeout=PATIENCE / 2)
        release.set()
        return len(late)

    assert 0 == asyncio.run(main())


def test_what_the_ledger_has_begun_is_not_lost() -> None:
    """A cancellation during a call takes effect afterwards, so that the task can undo the call."""
    begun, release = threading.Event(), threading.Event()
    undone: list[int] = []

    def reserve() -> int:
        begun.set()
        release.wait(PATIENCE)
        return 7

    async def purchase() -> None:
        reserved = await run_io(reserve)
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            undone.append(reserved)
            raise

    async def main() -> bool:
        task = asyncio.ensure_future(purchase())
        await run_io(begun.wait, PATIENCE)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        release.set()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert [7] == undone


def test_a_cancellation_keeps_the_next_call_from_beginning() -> None:
    """A task that is cancelled during one call starts no other, except to clean up."""
    begun, release = threading.Event(), threading.Event()
    done: list[str] = []

    def reserve() -> None:
        begun.set()
        release.wait(PATIENCE)
        done.append("reserve")

    async def purchase() -> None:
        await run_io(reserve)
        try:
            await run_io(done.append, "send")
        except asyncio.CancelledError:
            await run_io(done.append, "release")
            raise

    async def main() -> bool:
        task = asyncio.ensure_future(purchase())
        await run_io(begun.wait, PATIENCE)
        task.cancel()
        release.set()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert done == ["reserve", "release"]


def test_a_timeout_around_the_ledger_is_a_timeout() -> None:
    """A time limit around a call raises a TimeoutError, not a cancellation."""
    release = threading.Event()

    async def limited() -> None:
        async with asyncio.timeout(0.05):
            asyncio.get_running_loop().call_later(0.2, release.set)
            await run_io(release.wait, PATIENCE)
            await asyncio.sleep(PATIENCE)

    with pytest.raises(TimeoutError):
        asyncio.run(limited())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_pools_of_its_own() -> None:
    """After a fork the child starts threads of its own, because the parent's are gone."""

    async def ask() -> int:
        return await asyncio.wait_for(run_io(lambda: 7), PATIENCE)

    asyncio.run(ask())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if asyncio.run(ask()) == 7 else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert 0 == os.waitstatus_to_exitcode(status)


def test_threads_are_started_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop does not start the threads of a batch, because each start waits for its thread."""
    monkeypatch.setattr(threads, "_pools", {})
    started: list[int] = []
    start = threading.Thread.start

    def recorded(thread: threading.Thread) -> None:
        started.append(threading.get_ident())
        start(thread)

    async def main() -> None:
        await run_cpu(int)
        monkeypatch.setattr(threading.Thread, "start", recorded)
        await start_threads(8)

    asyncio.run(main())

    # The loop may start the worker that starts the others.
    assert 8 == sum(thread != threading.get_ident() for thread in started)


def test_the_collector_looks_only_at_what_is_new() -> None:
    """Existing objects are excluded from garbage collection during a batch, and included again after the last one."""
    with only_new_garbage():
        with only_new_garbage():
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() > 0
    assert 0 == gc.get_freeze_count()


def test_what_the_user_has_frozen_stays_frozen() -> None:
    """A user's frozen objects stay frozen."""
    gc.freeze()
    try:
        with only_new_garbage():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_memory_is_given_back_where_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without glibc's function, nothing is freed, and there is no error."""
    padding: list[int] = []

    def malloc_trim(pad: int) -> int:
        padding.append(pad)
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=malloc_trim))
    assert give_back_memory() is True
    assert [0] == padding
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert give_back_memory() is False
