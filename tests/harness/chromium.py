"""Find the Chromium that the browser tests drive, or install one.

Usage:
    python tests/chromium.py    print the path of a Chromium that starts; install it first if there is none

The variable CHROMIUM may name one. Otherwise it is the system's, or the one that playwright has downloaded. On Debian
and Ubuntu it is installed with apt-get, as root or with sudo that asks nothing; elsewhere playwright downloads it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

from playwright.sync_api import sync_playwright

__all__ = ["find_chromium", "install_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PACKAGES = ("chromium", "fonts-dejavu-core")
_APT = ("apt-get", "-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0")
_PLAYWRIGHT = (sys.executable, "-m", "playwright", "install")
_ADVICE = """There is no Chromium that starts, so the browser tests cannot run.
Install one (Debian: apt-get install chromium; elsewhere: .venv/bin/python -m playwright install chromium),
or let the variable CHROMIUM name one that starts; unset, it is searched for and installed."""


def find_chromium() -> str | None:
    """Return the path of a Chromium that starts, or None; what CHROMIUM names is the only one that will do."""
    return next((path for path in _candidates() if _starts(path)), None)


def install_chromium() -> None:
    """Install Chromium and a font with apt-get where that may be done, otherwise with playwright."""
    root = _as_root()
    if root is not None:
        if not _ran(*root, *_APT, "install", "-y", "--no-install-recommends", *_PACKAGES):
            _ran(*root, *_APT, "update")  # the lists were missing or old
            _ran(*root, *_APT, "install", "-y", "--no-install-recommends", *_PACKAGES)
        if find_chromium():
            return
    # Ubuntu's package is a stub for a snap, and other systems have no apt-get.
    _ran(*_PLAYWRIGHT, *(["--with-deps"] if root is not None else []), "chromium")


def _candidates() -> Iterator[str]:
    named = os.environ.get("CHROMIUM")
    if named:
        yield named
        return
    yield from filter(None, map(shutil.which, _NAMES))
    with sync_playwright() as playwright:
        yield playwright.chromium.executable_path


def _starts(path: str) -> bool:
    """Return whether there is a browser at `path`, not only a stub that says how to get one."""
    try:
        asked = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0 and "Chrom" in asked.stdout


def _as_root() -> list[str] | None:
    """Return what goes before a command that only root may run; None where there is no apt-get or no way to be root."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return ["env", "DEBIAN_FRONTEND=noninteractive"]
    if shutil.which("sudo") and _ran("sudo", "-n", "true"):
        return ["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive"]
    return None


def _ran(*command: str) -> bool:
    """Return whether a command went well; what it says goes to stderr, where one looks when it did not."""
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0


def main() -> int:
    """Return 0 when there is a Chromium in the end; its path is what is printed."""
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
