"""Install Debian packages without asking anybody: as root, or with a sudo that needs no password."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

__all__ = ["apt_install", "as_root", "ran"]

_APT = ("apt-get", "-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0")


def apt_install(*packages: str) -> bool:
    """Return whether `packages` are installed in the end; False where there is no apt-get, or no way to be root."""
    root = as_root()
    if root is None:
        return False
    install = (*root, *_APT, "install", "-y", "--no-install-recommends", *packages)
    if ran(*install):
        return True
    ran(*root, *_APT, "update")  # the lists were missing or old
    return ran(*install)


def as_root() -> list[str] | None:
    """Return what goes before a command that only root may run; None where there is no apt-get or no way to be root."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return ["env", "DEBIAN_FRONTEND=noninteractive"]
    if shutil.which("sudo") and ran("sudo", "-n", "true"):
        return ["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive"]
    return None


def ran(*command: str) -> bool:
    """Return whether a command went well; what it says goes to stderr, where one looks when it did not."""
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0
