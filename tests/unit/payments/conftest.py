"""Fixtures of the ledger tests: an empty ledger on each database engine, and a clock that a test sets."""

from harness.ledgers import clock, file_ledger, ledger, path
from harness.postgresql import cluster, server, server_of_the_tests

__all__ = ["clock", "cluster", "file_ledger", "ledger", "path", "server", "server_of_the_tests"]
