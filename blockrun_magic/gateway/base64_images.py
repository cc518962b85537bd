"""Pictures inside JSON, decoded where they stand: megabytes of base64 are neither copied nor parsed as text."""

from __future__ import annotations

import binascii

__all__ = ["lift_pictures"]

_BEFORE = (b";base64,", b'"b64_json":')
_SHORTEST = 10_000
"""Bytes of base64 from which on it pays."""


def lift_pictures(body: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return a JSON text with every long base64 text in it replaced by a short name, and the bytes by that name.

    A name has an @, which base64 never has. What is not plain base64 stays where it is.
    """
    pictures: dict[str, bytes] = {}
    pieces: list[memoryview | bytes] = []
    view, done, at = memoryview(body), 0, 0
    while (found := _next(body, at)) is not None:
        begin, end = found
        at = end
        if end - begin < _SHORTEST:
            continue
        try:
            content = binascii.a2b_base64(view[begin:end], strict_mode=True)
        except binascii.Error:
            continue
        name = f"@{len(pictures)}"
        pictures[name] = content
        pieces += [view[done:begin], name.encode()]
        done = end
    return (b"".join([*pieces, view[done:]]) if pictures else body), pictures


def _next(body: bytes, at: int) -> tuple[int, int] | None:
    """Return where the next text that may be base64 begins and ends, or None."""
    places = [(place, mark) for mark in _BEFORE if (place := body.find(mark, at)) >= 0]
    if not places:
        return None
    place, mark = min(places)
    begin = place + len(mark)
    if mark.endswith(b":"):
        begin = body.find(b'"', begin) + 1
        if begin == 0:
            return None
    end = body.find(b'"', begin)
    return None if end < 0 else (begin, end)
