"""Mutations: valid bytes with a few changes, the same in every short run and different in every long run."""

from __future__ import annotations

import io
import os
import random

from PIL import Image

__all__ = ["EXAMPLES", "IMAGES", "MUTATIONS", "chance", "mutated"]

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
"""The number of examples that `make fuzz` asks for; 0 in a short run."""
MUTATIONS = max(2000, EXAMPLES) if EXAMPLES else 150
SEED = random.randrange(2**32) if EXAMPLES else 7  # noqa: S311  for tests


def chance(name: str) -> random.Random:
    """Return the random numbers of one test."""
    return random.Random(f"{SEED} {name}")  # noqa: S311  for tests


def mutated(data: bytes, numbers: random.Random) -> bytes:
    """Return `data` with a few changes: bytes, cuts, repetitions, and wrong numbers."""
    changed = bytearray(data)
    for _ in range(numbers.randrange(1, 6)):
        at = numbers.randrange(len(changed) + 1)
        kind = numbers.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] = numbers.randrange(256)
        elif kind == 1:
            del changed[at : at + numbers.randrange(1, 40)]
        elif kind == 2:
            changed[at:at] = changed[max(0, at - 30) : at]
        elif kind == 3:
            changed[at:at] = numbers.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b'"', b"[", b"{", b"NaN", b"\\u0000", b"1e999")
            )
        elif kind == 4:
            del changed[at:]
        else:
            changed[at : at + 4] = numbers.randbytes(4)
    return bytes(changed)


def pixels(form: str) -> bytes:
    """Return a small image in a format."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(file, form)
    return file.getvalue()


IMAGES = {form: pixels(form) for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")}
