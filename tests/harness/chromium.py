"""The Chromium for the browser tests: it is found or installed.

Usage:
    PYTHONPATH=tests python -m harness.chromium    print the path of a working Chromium; install one if needed

The variable CHROMIUM may name one. Otherwise it is the system's or playwright's Chromium. On Debian and Ubuntu it is
installed with apt-get, as root or with a sudo that needs no password; elsewhere playwright downloads it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

from playwright.sync_api import sync_playwright

from harness import PATIENCE
from harness.apt import apt_install, as_root, ran

__all__ = ["find_chromium", "install_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PACKAGES = ("chromium", "fonts-dejavu-core")
_PLAYWRIGHT = (sys.executable, "-m", "playwright", "install")
_ADVICE = """There is no Chromium that starts, so the browser tests cannot run.
Install one (Debian: apt-get install chromium; elsewhere: .venv/bin/python -m playwright install chromium),
or let the variable CHROMIUM name one that starts; unset, it is searched for and installed."""


def find_chromium() -> str | None:
    """Return the path of a Chromium that starts, or None; if the variable CHROMIUM is set, only that path counts."""
    return next((path for path in _candidates() if _starts(path)), None)


def install_chromium() -> None:
    """Install Chromium and a font with apt-get where possible, otherwise Chromium with playwright."""
    if apt_install(*_PACKAGES) and find_chromium():
        return
    # Ubuntu's package only points to a snap, and other systems have no apt-get.
    ran(*_PLAYWRIGHT, *(["--with-deps"] if as_root() is not None else []), "chromium")


def _candidates() -> Iterator[str]:
    named = os.environ.get("CHROMIUM")
    if named:
        yield named
        return
    yield from filter(None, map(shutil.which, _NAMES))
    with sync_playwright() as playwright:
        yield playwright.chromium.executable_path


def _starts(path: str) -> bool:
    """Return whether `path` is a browser, not a script that only says how to install one."""
    try:
        asked = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0 and "Chrom" in asked.stdout


def main() -> int:
    """Print the path of a Chromium, which is installed if needed; exit with an error if that fails."""
    path = find_chromium()
    if path is None and not os.environ.get("CHROMIUM"):
        sys.stderr.write("Installing Chromium for the browser tests ...\n")
        install_chromium()
        path = find_chromium()
    if path is None:
        sys.exit(_ADVICE)
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
