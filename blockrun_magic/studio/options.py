"""How one request may be answered."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """How one request may be answered; `max_price` is in micro-USDC for all of its images."""

    max_price: int | None = None
    fresh: bool = False
    take: int | None = None
    unchecked: bool = False
    private: bool = False
    cache_only: bool = False
    collect: bool = False
    """Ask the gateway again for the images that a finished purchase lacks; nothing is paid for them."""
    hold: int | None = None
    """The ledger's hold that a batch reserves its parts out of."""
    agreed: int | None = None
    """What was agreed to when a purchase that is resumed was begun, in micro-USDC: it may not cost more."""
    slot: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)
    """Held while the gateway is at work for this request: a batch has so many of them."""
