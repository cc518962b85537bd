"""A hook of the practice gateway that holds requests at a point, and loses answers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from blockrun_magic.practice.server.hook import DropConnection, Exchange

__all__ = ["Gate"]


class Gate:
    """A hook that holds requests to the gateway at a point until it is opened; the first `left` of them may pass."""

    def __init__(self, point: str = "") -> None:
        self.point = point
        self.opened = threading.Event()
        self.seen = threading.Event()
        self.left = 0
        self.lost: list[str] = []
        self.late: list[str] = []

    async def __call__(self, point: str, exchange: Exchange) -> Any:
        """Hold a request, or lose or delay its answer, if the test has set that for this point."""
        if point in self.lost:
            self.lost.remove(point)
            raise DropConnection
        if point in self.late:
            self.late.remove(point)
            await asyncio.sleep(1.5)
        if point == self.point:
            self.seen.set()
            while not (self.opened.is_set() or self.left):  # noqa: ASYNC110  a thread sets the event
                await asyncio.sleep(0.01)
            self.left = max(0, self.left - 1)
        return None

    def hold(self, point: str, left: int = 0) -> None:
        """Hold all further requests at `point` except the next `left`."""
        self.opened.clear()
        self.seen.clear()
        self.point, self.left = point, left
