"""`%blockrun info`: the receipt in an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table
from blockrun_magic.notebook.display.receipts import _rows

__all__ = ["INFO", "info"]


def info(context: Context, arguments: Arguments) -> Card:
    """Return the receipt in an image: a path, a variable, a result."""
    from PIL import Image

    from blockrun_magic.images.provenance import read
    from blockrun_magic.images.source import find_source

    name = arguments["IMAGE"]
    source: Any = find_source(name, context.namespace)
    source = getattr(source, "image", source)
    readable = isinstance(source, str | Path | bytes | Image.Image)
    record = read(source) if readable and not _is_url(source) else None
    if record is None:
        return Message(f"{name} has no receipt.")
    rows = _rows(record)
    note = "A crop or a resized copy made with PIL still has the receipt of its original."
    return Table(("", ""), rows, title=f"The receipt in {name}", note=note, left=2)


def _is_url(source: object) -> bool:
    return isinstance(source, str) and source[:5].lower() in ("http:", "https", "data:")


INFO = Command(
    "info",
    "Show the receipt in an image.",
    info,
    (Argument("IMAGE", "image", "The image: a variable, a result or a path.", required=True),),
)
