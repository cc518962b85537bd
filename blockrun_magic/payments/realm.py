"""Realms: kinds of money whose sums and images are never mixed."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Realm"]


class Realm(StrEnum):
    """The kind of money of a payment; the values are in the ledger, in receipts and in lessons."""

    REAL = "real"
    TESTNET = "testnet"
    PRACTICE = "practice"
