"""The loop thread: it runs coroutines for blocking callers, and Stop cancels them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Never

import pytest

from blockrun_magic.notebook.loop import LoopThread
from harness import PATIENCE, ROOT

TESTS = Path(__file__).parent


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    """Return a loop thread, closed after the test."""
    made = LoopThread()
    yield made
    made.close()


class Waiting:
    """Work that waits until it is cancelled, and records its start and end."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()

    async def work(self) -> None:
        """Wait until cancelled."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


class StoppedWhileSubmitting(LoopThread):
    """A loop thread whose caller is interrupted after the work starts and before `submit` returns."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__()
        self._waiting = waiting

    def submit(self, work: Coroutine[Any, Any, Any]) -> Never:
        """Start `work`, then raise KeyboardInterrupt."""
        super().submit(work)
        assert self._waiting.begun.wait(PATIENCE)
        raise KeyboardInterrupt


def test_the_caller_gets_what_the_work_returns(loop_thread: LoopThread) -> None:
    """`run` returns the coroutine's value; all work runs on one loop in one thread."""

    async def work() -> tuple[int, int]:
        return threading.get_ident(), id(asyncio.get_running_loop())

    first, second = loop_thread.run(work()), loop_thread.run(work())

    assert first == second
    assert threading.get_ident() != first[0]


def test_the_works_own_error_reaches_the_caller(loop_thread: LoopThread) -> None:
    """An exception in the coroutine reaches the caller."""

    async def work() -> Never:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        loop_thread.run(work())


def test_the_works_own_timeout_is_not_taken_for_waiting(loop_thread: LoopThread) -> None:
    """A TimeoutError from the coroutine reaches the caller like any other error."""

    async def work() -> Never:
        await asyncio.sleep(0)
        raise TimeoutError("the work took far too long")

    with pytest.raises(TimeoutError, match="the work took far too long"):
        loop_thread.run(work())


def test_the_caller_is_called_while_it_waits(loop_thread: LoopThread) -> None:
    """`tick` is called in the waiting thread until the work ends."""
    threads: list[int] = []
    enough = asyncio.Event()

    async def work() -> str:
        await enough.wait()
        return "done"

    async def end() -> None:
        enough.set()

    def tick() -> None:
        threads.append(threading.get_ident())
        if len(threads) == 3:
            loop_thread.submit(end())

    assert "done" == loop_thread.run(work(), tick)
    assert {threading.get_ident()} == set(threads)


def test_stop_cancels_the_work_and_goes_on_to_the_caller(loop_thread: LoopThread) -> None:
    """KeyboardInterrupt during a wait reaches the caller after the coroutine's `finally` has run."""
    waiting = Waiting()

    def stop() -> None:
        assert waiting.begun.wait(PATIENCE)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop_thread.run(waiting.work(), stop)

    assert waiting.ended.is_set()  # the cell reports the state after the cancellation


def test_stop_while_the_work_is_handed_over_cancels_it() -> None:
    """Stop before `submit` returns also cancels the work."""
    waiting = Waiting()
    loop_thread = StoppedWhileSubmitting(waiting)
    with pytest.raises(KeyboardInterrupt):
        loop_thread.run(waiting.work())

    assert waiting.ended.wait(PATIENCE)
    loop_thread.close()


def test_the_same_beside_a_loop_of_the_callers_own() -> None:
    """The same for `run_nested`, in a separate process because nest-asyncio2 patches asyncio permanently."""
    code = """
import asyncio, test_loop
waiting = test_loop.Waiting()
bridge = test_loop.StoppedWhileSubmitting(waiting)
async def cell():
    bridge.run_nested(waiting.work())
try:
    asyncio.run(cell())
except KeyboardInterrupt:
    print("stopped", waiting.ended.wait(test_loop.PATIENCE))
bridge.close()
"""
    environ = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, cwd=TESTS, check=False
    )

    assert "stopped True\n" == done.stdout, done.stderr


def test_stop_before_the_work_begins_keeps_it_from_beginning(loop_thread: LoopThread) -> None:
    """Stop cancels queued work, which then never starts."""
    waiting, held, free = Waiting(), threading.Event(), threading.Event()

    async def hold_the_loop() -> None:
        held.set()
        assert free.wait(PATIENCE)

    def stop() -> None:
        raise KeyboardInterrupt

    holding = loop_thread.submit(hold_the_loop())
    assert held.wait(PATIENCE)
    with pytest.raises(KeyboardInterrupt):
        loop_thread.run(waiting.work(), stop)
    free.set()
    holding.result(PATIENCE)

    assert "next" == loop_thread.run(asyncio.sleep(0, "next"))
    assert not waiting.begun.is_set()


def test_an_error_while_showing_cancels_the_work_too(loop_thread: LoopThread) -> None:
    """If the live line cannot be drawn, the work is cancelled."""
    waiting = Waiting()

    def broken() -> None:
        assert waiting.begun.wait(PATIENCE)
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        loop_thread.run(waiting.work(), broken)

    assert waiting.ended.wait(PATIENCE)


def test_work_after_a_stop_is_done(loop_thread: LoopThread) -> None:
    """Work after a stopped cell runs normally."""
    waiting = Waiting()

    def stop() -> None:
        raise KeyboardInterrupt

    async def work() -> str:
        return "still here"

    with pytest.raises(KeyboardInterrupt):
        loop_thread.run(waiting.work(), stop)

    assert "still here" == loop_thread.run(work())


def test_closing_ends_what_is_left_and_says_farewell() -> None:
    """`close` cancels open work, then runs the cleanup, and ends the thread."""
    loop_thread, waiting, told = LoopThread(), Waiting(), []
    loop_thread.submit(waiting.work())

    async def cleanup() -> None:
        told.append(waiting.ended.is_set())

    assert waiting.begun.wait(PATIENCE)
    loop_thread.close(cleanup())

    assert [True] == told
    assert "blockrun-magic" not in {thread.name for thread in threading.enumerate()}


def test_closing_twice_or_before_any_work_is_harmless() -> None:
    """A second `close`, or one before any work, does nothing and does not run the cleanup."""
    unused, used = LoopThread(), LoopThread()

    async def cleanup() -> None:
        raise AssertionError("there is nothing to say farewell to")

    async def work() -> int:
        return 1

    unused.close(cleanup())
    used.run(work())
    used.close()
    used.close(cleanup())


def test_a_closed_bridge_can_be_used_again(loop_thread: LoopThread) -> None:
    """Work after `close` gets a new loop, so the extension can be loaded again."""

    async def work() -> int:
        return id(asyncio.get_running_loop())

    loop_thread.run(work())
    loop_thread.close()

    assert isinstance(loop_thread.run(work()), int)
