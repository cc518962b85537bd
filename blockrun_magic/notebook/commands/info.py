"""`%blockrun info`: the receipt in an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table
from blockrun_magic.notebook.display.receipts import _rows

__all__ = ["info"]


def info(context: Context, words: Sequence[str]) -> Card:
    """Return the receipt in a picture: a path, a variable, a result."""
    from PIL import Image

    from blockrun_magic.images.provenance import read
    from blockrun_magic.images.source import find_source

    if len(words) != 1:
        raise FlagError("`info` takes one picture.", "For example: %blockrun info img, or %blockrun info cat.png.")
    source: Any = find_source(words[0], context.shell.user_ns)
    source = getattr(source, "image", source)
    known = isinstance(source, str | Path | bytes | Image.Image)
    record = read(source) if known and not _is_url(source) else None
    if record is None:
        return Message(f"{words[0]} carries no receipt of ours.")
    rows = _rows(record)
    note = "A crop or a resized copy made with PIL still carries the receipt of the picture it came from."
    return Table(("", ""), rows, title=f"The receipt in {words[0]}", note=note, left=2)


def _is_url(source: object) -> bool:
    return isinstance(source, str) and source[:5].lower() in ("http:", "https", "data:")
