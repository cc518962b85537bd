"""The server of the tests."""

from harness.postgresql import cluster

__all__ = ["cluster"]
