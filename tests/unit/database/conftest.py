"""The PostgreSQL server of these tests."""

from harness.postgresql import cluster

__all__ = ["cluster"]
