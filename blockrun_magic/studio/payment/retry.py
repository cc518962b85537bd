"""Retries with backoff and jitter, and the gate for gateways that limit their rate."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["Entry", "RateGate", "RetryPolicy"]

_RATE_MEMORY = 60.0
"""Seconds after the last refusal until a gateway's limit is forgotten."""
_MAX_PERIOD = 3600.0
_MOST = 1000
"""Number of recorded requests; a gateway that allows more in a period is not slowed down."""
_TRIAL = 0.15
"""Seconds within which the refusal of a period's first request would arrive; images take longer."""
_TRIAL_STEP = 0.01
_TRANSIT = 0.1
"""Seconds until a gateway has certainly counted a request."""
_MARGIN = 0.01
_ROUNDING = 1.0


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


@dataclass(slots=True, eq=False)
class Entry:
    """A request that passed a gate: the time when it left, and the latest time when the gateway counted it."""

    left: float = 0.0
    counted: float = 0.0
    gone: bool = False
    """Whether the request has left; until then, it can be stopped."""


class RateGate:
    """Gate that all requests to a gateway pass, and that follows the gateway's rate limit.

    It is open until the gateway answers 429. Then no request starts before the time that the gateway named; one goes
    first, and the others follow when it was accepted. The number of requests accepted before the refusal counts as the
    limit: from then on, no period has more requests, wherever it begins, so that neither a fixed nor a sliding window
    refuses any.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_MOST)
        """The requests that were not refused, in order."""
        self._limit: int | None = None
        self._period = 0.0
        self._opens_at = 0.0
        self._refused_at = 0.0
        self._first: Entry | None = None
        """The first request after a pause, which the others follow once it was accepted."""
        self._trusted_at = 0.0
        """The time when they follow it, if the gateway has not answered it earlier."""

    async def opened(self, ahead: float = 0.0) -> None:
        """Wait until a request may start, now or in `ahead` seconds; `enter` starts it."""
        while (wait := self._wait(_now()) - ahead) > 0:  # noqa: ASYNC110  it may be closed again meanwhile
            await asyncio.sleep(wait)

    async def enter(self) -> Entry:
        """Wait until a request may start, and count it."""
        await self.opened()
        return self._admit(Entry())

    async def leave(self, entry: Entry) -> None:
        """Record that the request leaves; wait again if another one was refused after this one had passed."""
        while _now() < self._opens_at:
            self.withdrawn(entry)
            await self.opened()
            self._admit(entry)
        self._leaves(entry)
        entry.gone = True

    def withdrawn(self, entry: Entry) -> None:
        """Record that the request was not sent, or not accepted."""
        with suppress(ValueError):
            self._entries.remove(entry)
            if entry.gone and self._limit is not None and _now() < self._opens_at:
                self._limit = max(1, self._limit - 1)  # counted already when another one was refused

    def _admit(self, entry: Entry) -> Entry:
        now = _now()
        if self._limit is not None and (not self._entries or now - self._entries[-1].left > self._period / 4):
            self._first, self._trusted_at = entry, now + _TRIAL
        self._leaves(entry)
        self._entries.append(entry)
        return entry

    def _leaves(self, entry: Entry) -> None:
        entry.left = _now()
        entry.counted = entry.left + _TRANSIT

    def taken(self, entry: Entry | None = None) -> None:
        """Record that the gateway accepted a request."""
        if entry is not None:
            entry.counted = min(_now(), entry.counted)
        if entry is self._first:
            self._first = None

    def refused(self, seconds: float, entry: Entry | None = None) -> None:
        """Record that the gateway refused a request and asks to wait for `seconds`."""
        now = self._refused_at = _now()
        entry = entry or (self._entries[-1] if self._entries else Entry())
        self.withdrawn(entry)
        self._first = None
        end, whole = now + seconds, float(seconds).is_integer()
        if self._limit is None:
            self._limit, self._period = self._densest(end, whole=whole)
        elif now < self._opens_at:  # already sent when another one was refused
            end = end if end > self._opens_at + _ROUNDING else self._opens_at
        else:
            self._learn(end, whole=whole)
        self._opens_at = end

    def _wait(self, now: float) -> float:
        if now < self._opens_at:
            return self._opens_at - now
        if self._limit is None or now - self._refused_at > max(_RATE_MEMORY, 2 * self._period):
            self._limit = None
            return 0.0
        if len(self._entries) >= self._limit:
            wait = self._entries[-self._limit].counted + self._period + _MARGIN - now
            if wait > 0:
                return wait
        return min(_TRIAL_STEP, self._trusted_at - now) if self._first is not None else 0.0

    def _learn(self, end: float, *, whole: bool) -> None:
        """Lower the limit after a refusal that it should have prevented; no request is accepted until `end`."""
        accepted = list(self._entries)[-(self._limit or 1) :]
        accepted = [entry for entry in accepted if entry.left >= self._opens_at] or accepted
        if accepted:
            self._limit = len(accepted)
            self._period = max(self._period, _length(end - accepted[0].left, whole=whole))

    def _densest(self, end: float, *, whole: bool) -> tuple[int, float]:
        """Return the number of requests accepted in a period that ends at `end`, and its length.

        The period begins with one of the requests: the one that allows the most.
        """
        begun = [entry.left for entry in self._entries if entry.gone and entry.left > end - _MAX_PERIOD]
        periods = [(len(begun) - index, end - left) for index, left in enumerate(begun)] or [(1, end - _now())]
        count, length = max(periods, key=lambda each: each[0] / max(each[1], _MARGIN))
        return count, _length(length, whole=whole)


def _length(seconds: float, *, whole: bool) -> float:
    """Return the length of a period: whole seconds if the gateway named it, since it rounds up."""
    return float(max(1, int(seconds))) if whole else max(seconds, _MARGIN)


def _now() -> float:
    return asyncio.get_running_loop().time()
