"""Fixtures: the tests' server, an empty ledger on each engine with a movable clock, and a gateway's hook."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.gates import Gate
from harness.ledgers import clock, file_ledger, ledger, path
from harness.postgresql import cluster, server, server_of_the_tests

__all__ = ["clock", "cluster", "file_ledger", "ledger", "path", "server", "server_of_the_tests"]


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Yield the hook of a gateway; it is opened after the test."""
    hook = Gate()
    yield hook
    hook.opened.set()
