"""What holds for every test: a home of its own, and no wallet or gateway of the machine's owner.

And what several modules share: a practice gateway, and a kernel that uses it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import running_browser
from hypothesis import HealthCheck, settings
from kernels import Kernel, running_kernel
from playwright.sync_api import Browser
from servers import Server, running_lab, running_voila

from blockrun_magic.practice.server.server import PracticeServer

# How fast a machine is, is no property of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_OURS = ("BLOCKRUN_", "BASE_CHAIN_", "SOLANA_")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the test's own home folder, in which the user's files would be."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
    folder = tmp_path / "owner"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("BLOCKRUN_HOME", str(folder / ".blockrun"))
    return folder


@pytest.fixture(scope="module")
def gateway() -> Iterator[PracticeServer]:
    """Return a practice gateway, whose ledger the tests may look into."""
    with PracticeServer() as server:
        yield server


@pytest.fixture(scope="module")
def kernel_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that is home and working directory of the module's kernel."""
    return tmp_path_factory.mktemp("kernel")


@pytest.fixture(scope="module")
def kernel(gateway: PracticeServer, kernel_home: Path) -> Iterator[Kernel]:
    """Return a kernel that has loaded the extension and uses the practice gateway."""
    with running_kernel(kernel_home, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as running:
        assert running.run("%load_ext blockrun_magic").status == "ok"
        assert running.run("%blockrun use practice").status == "ok"
        yield running


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a JupyterLab; each notebook in it has its own kernel and its own BLOCKRUN_HOME."""
    with running_lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def voila(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a Voilà, which serves notebooks as apps."""
    with running_voila(tmp_path_factory.mktemp("voila")) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a Chromium; it ends with the module, because later tests need the thread's event loop."""
    with running_browser(tmp_path_factory.mktemp("browser")) as running:
        yield running
