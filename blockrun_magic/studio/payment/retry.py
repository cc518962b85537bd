"""Retries with backoff and jitter, and the gate for gateways that limit their rate."""

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
    """Seconds that a cell waits for a slow job; afterwards the job stays in the ledger."""

    @property
    def in_progress(self) -> float:
        """Seconds to repeat a request of an earlier run while the gateway may still be working on it."""
        return min(60.0, 8 * self.longest_wait)

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt `attempt` (from 0), with jitter."""
        full = min(self.longest_wait, self.first_wait * 2.0**attempt)
        return full * random.uniform(0.75, 1.25)  # noqa: S311  jitter keeps no secret

    def next_poll(self, last: float) -> float:
        """Return the seconds until the next poll, a little longer than `last`."""
        return min(self.poll_at_most_every, max(last * 1.25, self.poll_every))


class RateGate:
    """Gate that all requests to a gateway pass, and that follows the gateway's rate limit.

    It is open until the gateway answers 429. Then no request starts before the time that the gateway named, and in
    each later period no more requests start than the gateway accepted in the period before the refusal.
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
        """Wait until a request may start, and count it."""
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
        """Record that the gateway accepted a request."""
        now = _now()
        self._taken.append(now)
        if self._allowed is not None and now < self._opens_at:
            self._allowed += 1  # it was running when another one was refused

    def refused(self, seconds: float) -> None:
        """Record that the gateway refused a request and asks to wait for `seconds`."""
        now = self._refused_at = _now()
        if now < self._opens_at:
            return  # of several running requests, the first refusal counts
        lately = [when for when in self._taken if when > now - seconds]
        self._allowed = max(1, len(lately))
        self._period = seconds + (now - lately[0] if lately else 0.0)
        self._opens_at = self._period_at = now + seconds
        self._begun = 0


def _now() -> float:
    return asyncio.get_running_loop().time()
