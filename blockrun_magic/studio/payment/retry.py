"""How long we try, and how often: bounded, with backoff and jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["RetryPolicy"]


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
