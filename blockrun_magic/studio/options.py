"""Options of one request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockrun_magic.studio.results.pixels import PixelBudget
    from blockrun_magic.studio.results.result import ImageResult

__all__ = ["Handling", "Options"]


@dataclass(frozen=True, slots=True)
class Handling:
    """Handling of a request inside a cell, a batch or a resumed purchase: the studio and the notebook set it."""

    collect: bool = False
    """Ask the gateway again for the missing images of a finished purchase, at no cost."""
    hold: int | None = None
    """The ledger's hold from which a batch reserves its parts."""
    agreed: int | None = None
    """The price that the user agreed to when a resumed purchase was started, in micro-USDC; it may not cost more."""
    slot: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)
    """Held while the gateway works on this request; a batch has a limited number of slots."""
    pixels: PixelBudget | None = None
    """Counts the pixels of all images of a cell; None for a request of its own."""
    draw: Callable[[ImageResult], None] | None = None
    """Called in a worker with the result: it draws the preview that will be shown."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one request; `max_price` is in micro-USDC for all of its images."""

    max_price: int | None = None
    fresh: bool = False
    take: int | None = None
    unchecked: bool = False
    private: bool = False
    cache_only: bool = False
    handling: Handling = field(default_factory=Handling, repr=False)
    """Settings that a batch or a resumed purchase adds; not for callers."""
