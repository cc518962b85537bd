"""Progress of a request: written by the studio, read by the waiting cell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Progress"]


@dataclass(slots=True)
class Progress:
    """One running request; `price` is in micro-USDC, `started` on the monotonic clock."""

    stage: str = "starting"
    price: int | None = None
    sent: bool = False
    """Whether a signature may have left this machine: from then on stopping cannot undo the payment."""
    cancelled: bool = False
    """Whether the sent order was cancelled in time, so that it costs nothing."""
    once: bool = False
    """Whether the request was sent and cannot be sent again: without its response, its image is lost."""
    running: bool = False
    """Whether the purchase is still running, even after its cell was stopped."""
    started: float = field(default_factory=time.monotonic)
    stop: Callable[[], None] | None = field(default=None, repr=False)
    """Requests the cancellation of a sent order at a classroom, if that is still possible."""

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    async def pause(self, why: str, seconds: float, stage: str) -> None:
        """Show the reason `why`, wait `seconds` before another try, then return to `stage`."""
        self.stage = f"{why} Trying again in {seconds:.0f} s."
        await asyncio.sleep(seconds)
        self.stage = stage
