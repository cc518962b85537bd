"""`--background`: the cell returns at once, its placeholder becomes the image when that has come."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import BlockrunError

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.studio import ImageResult, ImageResults

__all__ = ["BackgroundJob"]

_POLL_INTERVAL = 0.05


class BackgroundJob:
    """An image on its way: ask `done()`, wait with `result()` or `await`, stop with `cancel()`.

    It stands for its image: `--image NAME` waits for it.
    """

    def __init__(
        self,
        future: concurrent.futures.Future[ImageResult | ImageResults],
        label: str,
        sent: Callable[[], bool],
    ) -> None:
        self.label = label
        self._future = future
        self._sent = sent

    def done(self) -> bool:
        """Return whether it has ended: with images, an error, or by `cancel()`."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> ImageResult | ImageResults:
        """Return the result, waiting up to `timeout` seconds; raises its error, or TimeoutError.

        Stop ends the waiting only: the image goes on.
        """
        waited = 0.0
        while not self._future.done():
            if timeout is not None and waited >= timeout:
                raise TimeoutError(f"{self.label} is still on its way")
            # In small steps, so that Stop is heard.
            concurrent.futures.wait([self._future], _POLL_INTERVAL)
            waited += _POLL_INTERVAL
        return self._future.result()

    def cancel(self) -> bool:
        """Stop it if nothing was paid yet, and return whether that was so.

        What has been paid for goes on and is kept.
        """
        if self._sent() or self._future.done():
            return False
        return self._future.cancel()

    def __await__(self) -> Generator[Any, None, ImageResult | ImageResults]:
        return asyncio.wrap_future(self._future).__await__()

    @property
    def image(self) -> Image.Image:
        """The first image, waited for."""
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
