"""Receipts as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["receipt_rows"]


def receipt_rows(path: Path) -> list[tuple[str, str]]:
    """Return the receipt inside the image at `path` as rows of names and values; no rows if it has none."""
    from blockrun_magic.images.provenance import read

    return _rows(read(path) or {})


def _rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _words(value)) for name, value in record.items()]


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, float):
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(value))
    return str(value)
