"""Installation of Debian packages without a question: as root, or with a sudo that needs no password."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

__all__ = ["apt_install", "as_root", "ran"]

_APT = ("apt-get", "-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0")


def apt_install(*packages: str) -> bool:
    """Install `packages` and return whether that worked; False without apt-get or a way to be root."""
    root = as_root()
    if root is None:
        return False
    install = (*root, *_APT, "install", "-y", "--no-install-recommends", *packages)
    if ran(*install):
        return True
    ran(*root, *_APT, "update")  # the lists were missing or old
    return ran(*install)


def as_root() -> list[str] | None:
    """Return the prefix of a command that needs root; None without apt-get or a way to be root."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return ["env", "DEBIAN_FRONTEND=noninteractive"]
    if shutil.which("sudo") and ran("sudo", "-n", "true"):
        return ["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive"]
    return None


def ran(*command: str) -> bool:
    """Run a command and return whether it succeeded; its output goes to stderr."""
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0
