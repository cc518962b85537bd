"""Growth of the time of a call with its input: the worst input of an alphabet is searched, then doubled."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

__all__ = ["FACTOR", "THOROUGH", "Input", "inputs", "worst_growth"]

THOROUGH = "EXAMPLES" in os.environ
"""Whether `make fuzz` runs."""
MAX_LENGTH = 16_384 if THOROUGH else 4096
SLOW = 0.02 if THOROUGH else 0.006
"""Seconds from which on a call is measured closely: one that is linear stays far below at `MAX_LENGTH`."""
FACTOR = 2.5
_RUNS = 5
_FIRST = 8


@dataclass(frozen=True)
class Input:
    """A text that can be made as long as one likes: `pump`, repeated, between `before` and `after`."""

    before: str
    pump: str
    after: str

    def text(self, length: int) -> str:
        """Return the text with about `length` characters of pump."""
        return self.before + self.pump * max(1, length // len(self.pump)) + self.after


def inputs(tokens: Sequence[str], *, around: Sequence[str] = (), pairs: bool = True) -> Iterator[Input]:
    """Yield the inputs of an alphabet: each token and each pair of tokens pumped, alone and between others."""
    pumps = list(dict.fromkeys([*tokens, *(map("".join, product(tokens, repeat=2)) if pairs else ())]))
    edges = list(dict.fromkeys(("", *around)))
    for pump in pumps:
        for before in edges:
            yield Input(before, pump, "")
        for after in ("\0", *edges[1:]):
            yield Input("", pump, after)


def worst_growth(call: Callable[[str], object], candidates: Iterable[Input]) -> tuple[float, Input | None]:
    """Return by how much the slowest input's time grows when it is doubled, and the input; 1 where none is slow."""
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
    # In small steps at first: an exponential input is noticed before it takes for ever. Larger ones while it is quick.
    if length < 64:
        return length + (8 if seconds < SLOW / 1000 else 4)
    return min(length * (4 if length >= 256 and seconds < SLOW / 64 else 2), MAX_LENGTH)


def _ratio(call: Callable[[str], object], half: str, whole: str) -> float:
    # The fastest of several runs is the one that another process disturbed least.
    return min(_seconds(call, whole) for _ in range(_RUNS)) / max(min(_seconds(call, half) for _ in range(_RUNS)), 1e-9)


def _seconds(call: Callable[[str], object], text: str) -> float:
    # Processor time of this thread, without the garbage collector: what else the machine does is left out.
    was_enabled = gc.isenabled()
    gc.disable()
    began = time.thread_time()
    try:
        call(text)
        return time.thread_time() - began
    finally:
        if was_enabled:
            gc.enable()
