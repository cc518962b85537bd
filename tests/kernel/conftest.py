"""A practice gateway, and a kernel that uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness.gates import Gate
from harness.kernel import Kernel, running_kernel


@pytest.fixture(scope="module")
def gate() -> Gate:
    """Return the gateway's hook, which can hold requests."""
    return Gate()


@pytest.fixture(scope="module")
def gateway(gate: Gate) -> Iterator[PracticeServer]:
    """Return a practice gateway with a readable ledger."""
    with PracticeServer(hook=gate) as server:
        yield server


@pytest.fixture(scope="module")
def kernel_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home and working folder of the module's kernel."""
    return tmp_path_factory.mktemp("kernel")


@pytest.fixture(scope="module")
def kernel(gateway: PracticeServer, kernel_home: Path) -> Iterator[Kernel]:
    """Return a kernel that has loaded the extension and uses the practice gateway."""
    with running_kernel(kernel_home, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as running:
        assert running.run("%load_ext blockrun_magic").status == "ok"
        assert running.run("%blockrun use practice").status == "ok"
        yield running
