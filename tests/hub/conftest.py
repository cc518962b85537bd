"""One JupyterHub with a classroom, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.hub_class import HubClass, running_hub_class


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClass]:
    """Return a class on a hub."""
    with running_hub_class(tmp_path_factory.mktemp("class")) as running:
        yield running
