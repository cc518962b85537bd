"""The interface of chains as witnesses: cashed payments, expired ones, and balances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from blockrun_magic.gateway.client import Client
from blockrun_magic.payments.x402.networks import Network

__all__ = ["Chain", "PublicChain", "SignedTransfer"]


@dataclass(frozen=True, slots=True)
class SignedTransfer:
    """A signed payment, for questions to a chain; `since` is the time of the signature in Unix seconds.

    It expires after `valid_before` (Unix seconds), or on Solana above the height `last_height`.
    """

    payer: str
    nonce: str
    since: float
    valid_before: int | None
    last_height: int | None


class Chain(Protocol):
    """The witness of payments: two servers of a chain that agree, or the practice gateway."""

    @property
    def source(self) -> str:
        """The servers that answer, as a text for users."""

    async def time(self) -> float | None:
        """Return the chain's own time (Unix seconds), or None if it is unknown."""

    async def is_used(self, signed: SignedTransfer) -> tuple[bool | None, str | None]:
        """Return whether a signed transfer was cashed (None: unknown), and its transaction if known."""

    async def is_expired_unused(self, signed: SignedTransfer) -> bool:
        """Return whether a signed transfer was not cashed, and never can be.

        Time is the chain's own: if our clock is ahead, a signature that looks expired here
        can still be cashed.
        """

    async def cashed(self, signed: SignedTransfer) -> tuple[int | None, str | None]:
        """Return the micro-USDC that a cashed transfer moved (None: unknown), and its transaction if known."""

    async def balance(self, payer: str) -> int | None:
        """Return the USDC of an address in micro-USDC, or None when it is unknown."""


@dataclass(frozen=True, slots=True)
class PublicChain:
    """Public servers of `network`, of which two must agree."""

    client: Client
    network: Network

    @property
    def source(self) -> str:
        """The servers, as a text for users."""
        return f"{self.network.label}, two public RPC servers agreeing"
