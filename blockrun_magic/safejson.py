"""JSON from outside: bounded in depth and in the number of its values before any of it is built.

With a raised recursion limit, Python's own parser crashes the process on a deeply nested text.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["MAX_DEPTH", "MAX_VALUES", "check_bounds", "read_json", "same_recursion_limit", "too_deep"]

MAX_DEPTH = 100
MAX_VALUES = 100_000
"""The most commas, brackets or quotes in a server's answer. Base64 has none, so images do not count."""
# Possessive, and an unclosed string matches up to the end, so that every text takes one pass.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_MARKS = ((b",", 1), (b"[", 1), (b"{", 1), (b'"', 8))
"""Characters that mark values, and the most of each per value: a name and its text have four quotes, or more inside."""
_RARE = 200
_BOM = b"\xef\xbb\xbf"


def read_json(raw: bytes, *, max_values: int | None = None) -> Any:
    """Return the value of a UTF-8 JSON text; raises ValueError for another text, or one beyond the bounds.

    No text may be nested deeper than `MAX_DEPTH`. `max_values` limits the number of values, for text
    from outside.
    """
    check_bounds(raw, max_values=max_values)
    try:
        return json.loads(raw.removeprefix(_BOM).decode())
    except RecursionError:  # called from far down the stack
        raise ValueError("JSON is nested too deep") from None


def check_bounds(raw: bytes, *, max_values: int | None = MAX_VALUES) -> None:
    """Raise ValueError for a JSON text that is nested too deep, or has more than `max_values` values."""
    # Without commas these are invalid, but a parser reads them to the end: `[][][]`, `"" "" ""`.
    if max_values is not None and any(_count(raw, mark) > most * max_values for mark, most in _MARKS):
        raise ValueError("JSON has too many values")
    if too_deep(raw):
        raise ValueError("JSON is nested too deep")


def too_deep(raw: bytes) -> bool:
    """Return whether a JSON text is nested deeper than `MAX_DEPTH`."""
    # Most texts open few brackets, so their nesting need not be checked.
    if _count(raw, b"[") + _count(raw, b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _TOKEN.finditer(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def _count(raw: bytes, mark: bytes) -> int:
    """Return `raw.count(mark)`, several times as fast where `mark` is rare, as in megabytes of base64."""
    count, place = 0, raw.find(mark)
    while place >= 0 and count < _RARE:
        count, place = count + 1, raw.find(mark, place + 1)
    return count if place < 0 else count + raw.count(mark, place)


@contextmanager
def same_recursion_limit() -> Iterator[None]:
    """Restore the recursion limit afterwards: a library that is imported meanwhile may raise it a hundredfold."""
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
