"""Virtual time: an event loop whose sleeps take no time, and a world whose clock they move.

Threads would make the order of things a matter of chance, so that work for a thread pool is done at once, in the
loop's own thread. A story with a seed is then the same story every time.
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
    """Waits for nothing: where the loop would wait, the world's clock moves on."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the events that are there; without any, move the clock by `timeout` seconds."""
        events = super().select(0)
        if not events and timeout is None:  # no timer is left: only the true world can go on, if anything
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
    """Return where every task waits."""
    text = io.StringIO()
    for task in asyncio.all_tasks(asyncio.get_running_loop()):
        task.print_stack(file=text)
    return text.getvalue()


def run_virtually(world: World, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, run on the time of `world`."""
    with (
        mock.patch.object(ThreadPoolExecutor, "submit", _submit),
        mock.patch("blockrun_magic.threads._start"),  # there are no threads to start
        asyncio.Runner(loop_factory=lambda: _VirtualLoop(world)) as runner,
    ):
        return runner.run(work)


def _submit(_pool: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(call(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001  a pool hands every exception to the future
        future.set_exception(error)
    return future
