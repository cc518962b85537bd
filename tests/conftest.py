"""Isolation of every test: a home folder of its own, and no wallet or gateway from the environment."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadlines: the speed of the machine is not a property of the code. `make fuzz` selects the second profile.
_SLOW = (HealthCheck.too_slow,)
settings.register_profile("any machine", deadline=None, suppress_health_check=_SLOW, max_examples=50)
settings.register_profile(
    "fuzz", deadline=None, suppress_health_check=_SLOW, max_examples=int(os.environ.get("EXAMPLES", "2000"))
)
settings.load_profile("any machine")

# Folders of tests are in memory where there is room (TMPDIR decides otherwise): power cuts are simulated.
_MEMORY, _ROOM = Path("/dev/shm"), 4 * 2**30  # noqa: S108  pytest makes a folder there that only its owner reads
if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# A background job of a shell ignores SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_OURS = ("BLOCKRUN_", "BASE_CHAIN_", "SOLANA_")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home folder of the test."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
    folder = tmp_path / "owner"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("BLOCKRUN_HOME", str(folder / ".blockrun"))
    return folder
