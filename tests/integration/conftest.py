"""The server of the tests, and an empty ledger with a clock that a test moves, on each engine."""

from harness.ledgers import clock, file_ledger, ledger, path
from harness.postgresql import cluster, server, server_of_the_tests

__all__ = ["clock", "cluster", "file_ledger", "ledger", "path", "server", "server_of_the_tests"]
