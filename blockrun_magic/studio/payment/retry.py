"""Retries: how long and how often, with backoff and jitter; and the gate that a gateway's rate limit closes."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass

__all__ = ["RateGate", "RetryPolicy"]

_RATE_MEMORY = 60.0
"""Seconds after the last refusal until a gateway's limit is forgotten."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Attempts of one request, and the seconds between them and between polls of a slow job."""

    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 8.0
    poll_every: float = 2.0
    poll_at_most_every: float = 5.0
    job: float = 900.0
    """How long a cell waits for a slow job before it hands back; the job stays in the ledger."""

    @property
    def in_progress(self) -> float:
        """Seconds to ask again while a gateway may still be at work on a request of an earlier run."""
        return min(60.0, 8 * self.longest_wait)

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt `attempt` (from 0), with jitter."""
        full = min(self.longest_wait, self.first_wait * 2.0**attempt)
        return full * random.uniform(0.75, 1.25)  # noqa: S311  jitter keeps no secret

    def next_poll(self, last: float) -> float:
        """Return the seconds until the poll after one that had waited `last`: a little longer each time."""
        return min(self.poll_at_most_every, max(last * 1.25, self.poll_every))


class RateGate:
    """Lets new requests through as fast as a gateway that limits its rate takes them; all requests to it share one.

    It stands open until the gateway answers 429. Then nothing new begins until the time that the gateway named, and in
    each period after that no more requests begin than the gateway took in the one that ended with the refusal.
    """

    def __init__(self) -> None:
        self._taken: deque[float] = deque(maxlen=1000)
        self._opens_at = 0.0
        self._refused_at = 0.0
        self._allowed: int | None = None
        self._period = 0.0
        self._period_at = 0.0
        self._begun = 0

    async def enter(self) -> None:
        """Wait until a request may begin, and count it."""
        while (wait := self._wait(_now())) > 0:  # noqa: ASYNC110  it may be closed again meanwhile
            await asyncio.sleep(wait)
        self._begun += 1

    def _wait(self, now: float) -> float:
        if now < self._opens_at:
            return self._opens_at - now
        if self._allowed is None or now - self._refused_at > _RATE_MEMORY:
            self._allowed = None
            return 0.0
        if now >= self._period_at + self._period:
            self._period_at, self._begun = now, 0
        return 0.0 if self._begun < self._allowed else self._period_at + self._period - now

    def taken(self) -> None:
        """Note that the gateway took a request."""
        now = _now()
        self._taken.append(now)
        if self._allowed is not None and now < self._opens_at:
            self._allowed += 1  # it was under way when another one was refused

    def refused(self, seconds: float) -> None:
        """Note that the gateway refused a request and wants none for `seconds`."""
        now = self._refused_at = _now()
        if now < self._opens_at:
            return  # several were under way: the first refusal counts
        lately = [when for when in self._taken if when > now - seconds]
        self._allowed = max(1, len(lately))
        self._period = seconds + (now - lately[0] if lately else 0.0)
        self._opens_at = self._period_at = now + seconds
        self._begun = 0


def _now() -> float:
    return asyncio.get_running_loop().time()
