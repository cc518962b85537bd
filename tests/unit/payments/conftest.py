"""The fixtures of an empty ledger with a clock that a test moves."""

from harness.ledgers import clock, ledger, path

__all__ = ["clock", "ledger", "path"]
