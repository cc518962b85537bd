"""JSON from strangers: read only when it is nested no deeper than an honest answer ever is.

Where the recursion limit was raised, as notebooks do, deep JSON ends the process, not the call.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

__all__ = ["MAX_DEPTH", "read_json"]

MAX_DEPTH = 100
# Possessive, and content with a string that never ends: one pass, whatever is read.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def read_json(raw: bytes) -> Any:
    """Return the value of a UTF-8 JSON text; raises ValueError for another text, or one nested too deep."""
    text = raw.decode("utf-8-sig")
    opened = text.count("[") + text.count("{")
    # Most answers open few brackets, so that nobody has to look where they stand.
    if opened > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ValueError("JSON is nested too deep")
    try:
        return json.loads(text)
    except RecursionError:  # called from far down the stack
        raise ValueError("JSON is nested too deep") from None


def _depth(text: str) -> int:
    brackets = _BRACKET.finditer(_STRING.sub("", text))
    return max(accumulate(1 if bracket[0] in "[{" else -1 for bracket in brackets), default=0)
