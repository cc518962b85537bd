"""`--background`: the cell returns at once, and its placeholder becomes the image later."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.loop import LoopThread

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.studio import ImageResult, ImageResults

__all__ = ["BackgroundJob"]

_POLL_INTERVAL = 0.05
_CANCEL_TIMEOUT = 5.0


class BackgroundJob:
    """An image on its way: ask `done()`, wait with `result()` or `await`, stop with `cancel()`.

    It stands for its image: `--image NAME` waits for it.
    """

    def __init__(
        self,
        loop_thread: LoopThread,
        work: Coroutine[Any, Any, ImageResult | ImageResults],
        label: str,
        sent: Callable[[], bool],
    ) -> None:
        self.label = label
        self._loop_thread = loop_thread
        self._sent = sent
        self._task: asyncio.Task[Any] | None = None
        self._future = loop_thread.submit(self._run(work))

    def done(self) -> bool:
        """Return whether the job has ended: with images, with an error, or by `cancel()`."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> ImageResult | ImageResults:
        """Return the result, waiting up to `timeout` seconds; raises its error, or TimeoutError.

        Stop ends only the waiting: the job continues.
        """
        if self._loop_thread.is_current_thread() and not self._future.done():
            # On the loop, the job must be awaited: `result()` would make the loop wait for itself.
            raise BlockrunError(f"{self.label} is still on its way.", "Wait for it in a cell of its own first.")
        waited = 0.0
        while not self._future.done():
            if timeout is not None and waited >= timeout:
                raise TimeoutError(f"{self.label} is still on its way")
            # In small steps, so that Stop takes effect.
            concurrent.futures.wait([self._future], _POLL_INTERVAL)
            waited += _POLL_INTERVAL
        return self._future.result()

    def cancel(self) -> bool:
        """Stop the job unless something was sent already; return, once it has ended, whether it was stopped.

        A paid image still arrives and is stored.
        """
        if self._loop_thread.is_current_thread():
            return self._cancel_on_loop() and not self._sent()
        asked = self._loop_thread.submit(self._cancel())
        return asked.result(_CANCEL_TIMEOUT)

    async def _cancel(self) -> bool:
        # On the loop, between two steps of the work: nothing can be sent between this check and the cancellation.
        if not self._cancel_on_loop():
            return False
        assert self._task is not None  # noqa: S101  it has just been cancelled
        await asyncio.wait([self._task], timeout=_CANCEL_TIMEOUT / 2)
        return self._task.done() and not self._sent()

    def _cancel_on_loop(self) -> bool:
        if self._task is None or self._task.done() or self._sent():
            return False
        return self._task.cancel()

    async def _run(self, work: Coroutine[Any, Any, ImageResult | ImageResults]) -> ImageResult | ImageResults:
        self._task = asyncio.current_task()
        return await work

    def __await__(self) -> Generator[Any, None, ImageResult | ImageResults]:
        return asyncio.wrap_future(self._future).__await__()

    @property
    def image(self) -> Image.Image:
        """The first image; waits until it is made."""
        return self.result().image

    def __repr__(self) -> str:
        if not self.done():
            return f"<Background {self.label}: on its way>"
        if self._future.cancelled():
            return f"<Background {self.label}: cancelled>"
        error = self._future.exception()
        if error is None:
            return f"<Background {self._future.result()!r}>"
        return f"<Background {self.label}: {error.message if isinstance(error, BlockrunError) else error}>"
