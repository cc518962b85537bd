"""The price of Run All, as the command line prints it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from harness.kernel import clean_environ

__all__ = ["forecast", "micros"]


def forecast(path: Path, home: Path, url: str, *more: str) -> str:
    """Return the output of `python -m blockrun_magic price`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "blockrun_magic", "price", str(path), *more],
        capture_output=True,
        text=True,
        env=clean_environ(home, BLOCKRUN_PRACTICE_URL=url),
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def micros(said: str) -> int:
    """Return the sum of a forecast, in micro-dollars."""
    match = re.search(r"Run All.*\$(\d+)\.(\d+)", said)

    assert match is not None, said
    return int(match[1]) * 1_000_000 + int(match[2].ljust(6, "0"))
