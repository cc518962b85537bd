"""JupyterLab, Voilà and Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from harness.browser import running_browser
from harness.jupyter import Server, running_lab, running_voila


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a JupyterLab server; each notebook has its own kernel and its own BLOCKRUN_HOME."""
    with running_lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def voila(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a Voilà server, which serves notebooks as apps."""
    with running_voila(tmp_path_factory.mktemp("voila")) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a Chromium, closed after the module because later tests need the thread's event loop."""
    with running_browser(tmp_path_factory.mktemp("browser")) as running:
        yield running
