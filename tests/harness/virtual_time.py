"""Virtual time: an event loop whose sleeps take no time, and a world whose clock they move.

Threads would make the order of events random, so work for a thread pool runs at once, in the loop's own thread. A
story with a seed is the same every time.
"""

from __future__ import annotations

import asyncio
import io
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from unittest import mock

from harness import PATIENCE

__all__ = ["NOON", "World", "run_virtually"]

T = TypeVar("T")

NOON = 1_800_014_400.0 - 1_800_014_400 % 86_400 + 43_200


@dataclass
class World:
    """The true time, in Unix seconds."""

    now: float = NOON

    def __call__(self) -> float:
        """Return the true time."""
        return self.now


class _VirtualSelector(selectors.DefaultSelector):
    """A selector that never waits: it moves the world's clock instead."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the ready events; without any, move the clock by `timeout` seconds."""
        events = super().select(0)
        if not events and timeout is None:  # without timers, only a real event can continue the story
            events = super().select(PATIENCE)
            if not events:
                raise RuntimeError(f"the story stands still, waiting in\n{_stacks()}")
        if not events and timeout is not None and timeout > 0:
            self._world.now += timeout + 1e-6
        return events


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, world: World) -> None:
        self._world = world
        super().__init__(_VirtualSelector(world))

    def time(self) -> float:
        """Return the world's time."""
        return self._world.now


def _stacks() -> str:
    """Return the stack of every task."""
    text = io.StringIO()
    for task in asyncio.all_tasks(asyncio.get_running_loop()):
        task.print_stack(file=text)
    return text.getvalue()


def run_virtually(world: World, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the time of `world`, and return its result."""
    with (
        mock.patch.object(ThreadPoolExecutor, "submit", _submit),
        mock.patch("blockrun_magic.threads._start"),  # no threads start here
        asyncio.Runner(loop_factory=lambda: _VirtualLoop(world)) as runner,
    ):
        return runner.run(work)


def _submit(_pool: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(call(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001  a pool passes every exception to the future
        future.set_exception(error)
    return future
