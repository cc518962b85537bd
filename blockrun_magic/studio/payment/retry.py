"""Retries with backoff and jitter, and the gate for gateways that limit their rate."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass

__all__ = ["RateGate", "RetryPolicy"]

_RATE_MEMORY = 60.0
"""Seconds after the last refusal until a gateway's limit is forgotten."""
_TRIAL = 0.25
"""Seconds in which a refusal of a period's first request would come; images take longer."""
_TRIAL_STEP = 0.02
_MARGIN = 0.05
"""Seconds by which a request may be faster than the one that began the period."""


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

    It is open until the gateway answers 429. Then no request starts before the time that the gateway named. In each
    later period one request goes first, and no more follow than the gateway accepted in the period of the refusal.
    """

    def __init__(self) -> None:
        self._started: deque[float] = deque(maxlen=1000)
        """When the requests of the last minute started."""
        self._allowed: int | None = None
        self._opens_at = 0.0
        self._period = 0.0
        self._count = 0
        """Requests that started in this period."""
        self._trusted_at = 0.0
        """When the others follow the first request of a period, if the gateway has not answered it before."""
        self._refused_at = 0.0

    async def opened(self) -> None:
        """Wait until a request may start; it starts with `enter`."""
        while (wait := self._wait(_now())) > 0:  # noqa: ASYNC110  it may be closed again meanwhile
            await asyncio.sleep(wait)

    async def enter(self) -> None:
        """Wait until a request may start, and count it."""
        await self.opened()
        now = _now()
        if self._allowed is not None and self._count == 0:
            self._trusted_at = now + _TRIAL
        self._count += 1
        self._started.append(now)

    def _wait(self, now: float) -> float:
        if now < self._opens_at:
            return self._opens_at - now
        if self._allowed is None or now - self._refused_at > _RATE_MEMORY:
            self._allowed = None
            return 0.0
        if now >= self._opens_at + self._period:
            self._opens_at, self._count = now, 0
        if self._count >= self._allowed:
            return self._opens_at + self._period - now
        return min(_TRIAL_STEP, self._trusted_at - now) if self._count else 0.0

    def taken(self) -> None:
        """Record that the gateway accepted a request."""
        self._trusted_at = 0.0

    def refused(self, seconds: float) -> None:
        """Record that the gateway refused a request and asks to wait for `seconds`."""
        now = self._refused_at = _now()
        if self._allowed is not None and now < self._opens_at:
            self._allowed = max(1, self._allowed - 1)  # it was on its way when another one was refused
            return
        if self._allowed is None:
            period, count = self._densest(now + seconds)
        else:
            period, count = now + seconds - self._opens_at, self._count - 1
        if count > 0 or self._allowed is None:
            self._allowed = max(1, count)
        else:
            period += self._period  # the first request of a period was refused: it came too early
        self._period = _whole(period) + _MARGIN
        self._opens_at, self._count = now + seconds, 0

    def _densest(self, end: float) -> tuple[float, int]:
        """Return the length of the period that ends at `end`, and how many requests were accepted in it.

        It began with one of the requests: the one for which the gateway allows the most.
        """
        recent = [when for when in self._started if when > end - _RATE_MEMORY] or [end]
        periods = [(end - when, len(recent) - index - 1) for index, when in enumerate(recent)]
        return max(periods, key=lambda each: each[1] / _whole(each[0]))


def _whole(seconds: float) -> int:
    """Return a period in whole seconds, as gateways have them; the wait that they name is rounded up."""
    return max(1, int(seconds))


def _now() -> float:
    return asyncio.get_running_loop().time()
