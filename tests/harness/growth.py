"""Growth of a call's time with its input: a search for the worst input of an alphabet, at double the length."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

__all__ = ["FACTOR", "THOROUGH", "Input", "inputs", "worst_growth"]

THOROUGH = "EXAMPLES" in os.environ
"""True if the long version runs (`make fuzz`)."""
MAX_LENGTH = 16_384 if THOROUGH else 4096
SLOW = 0.02 if THOROUGH else 0.006
"""Seconds from which a call is measured closely: a linear call takes much less, even at `MAX_LENGTH`."""
FACTOR = 2.5
_RUNS = 5
_FIRST = 8


@dataclass(frozen=True)
class Input:
    """A text of any length: `pump`, repeated, between `before` and `after`."""

    before: str
    pump: str
    after: str

    def text(self, length: int) -> str:
        """Return the text with about `length` characters of pump."""
        return self.before + self.pump * max(1, length // len(self.pump)) + self.after


def inputs(tokens: Sequence[str], *, around: Sequence[str] = (), pairs: bool = True) -> Iterator[Input]:
    """Yield the inputs of an alphabet: each token and each pair of tokens repeated, alone and next to others."""
    pumps = list(dict.fromkeys([*tokens, *(map("".join, product(tokens, repeat=2)) if pairs else ())]))
    edges = list(dict.fromkeys(("", *around)))
    for pump in pumps:
        for before in edges:
            yield Input(before, pump, "")
        for after in ("\0", *edges[1:]):
            yield Input("", pump, after)


def worst_growth(call: Callable[[str], object], candidates: Iterable[Input]) -> tuple[float, Input | None]:
    """Return the largest growth of time when an input is doubled, and that input; 1 and None if all are fast."""
    worst, culprit = 1.0, None
    for candidate in candidates:
        growth = _growth(call, candidate)
        if growth > worst:
            worst, culprit = growth, candidate
        if worst > FACTOR:
            break
    return worst, culprit


def _growth(call: Callable[[str], object], candidate: Input) -> float:
    length = _FIRST
    while (seconds := _seconds(call, candidate.text(length))) < SLOW:
        if length >= MAX_LENGTH:
            return 1.0
        length = _longer(length, seconds)
    half, whole = candidate.text(max(1, length // 2)), candidate.text(length)
    return min(_ratio(call, half, whole) for _ in range(3))


def _longer(length: int, seconds: float) -> int:
    # Small steps first, to notice an exponential input before it takes too long; larger steps while calls are fast.
    if length < 64:
        return length + (8 if seconds < SLOW / 1000 else 4)
    return min(length * (4 if length >= 256 and seconds < SLOW / 64 else 2), MAX_LENGTH)


def _ratio(call: Callable[[str], object], half: str, whole: str) -> float:
    # Other processes disturb the fastest of several runs least.
    return min(_seconds(call, whole) for _ in range(_RUNS)) / max(min(_seconds(call, half) for _ in range(_RUNS)), 1e-9)


def _seconds(call: Callable[[str], object], text: str) -> float:
    # Processor time of this thread, without garbage collection: other work on the machine does not count.
    was_enabled = gc.isenabled()
    gc.disable()
    began = time.thread_time()
    try:
        call(text)
        return time.thread_time() - began
    finally:
        if was_enabled:
            gc.enable()
