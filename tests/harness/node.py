"""JupyterHub's proxy: it is found or installed, with Node from apt-get and the packages of package-lock.json from npm.

Usage:
    PYTHONPATH=tests python -m harness.node  print the path of a working proxy; install it if needed
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from harness import PATIENCE, ROOT
from harness.apt import apt_install

__all__ = ["PROXY_ADVICE", "find_proxy", "install_proxy"]

_PROXY = ROOT / "node_modules" / ".bin" / "configurable-http-proxy"
PROXY_ADVICE = """JupyterHub's proxy does not start, so the tests with a hub cannot run.
Install Node 18 or newer (Debian: apt-get install nodejs npm), then run: npm ci"""


def find_proxy() -> str | None:
    """Return the path of a configurable-http-proxy that starts, or None."""
    try:
        asked = subprocess.run([_PROXY, "--version"], capture_output=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return str(_PROXY) if asked.returncode == 0 else None


def install_proxy() -> None:
    """Install Node if it is missing, and then the packages of package-lock.json."""
    if not shutil.which("npm"):
        apt_install("nodejs", "npm")
    npm = shutil.which("npm")
    if npm:
        subprocess.run([npm, "ci", "--silent"], cwd=ROOT, stdout=sys.stderr, check=False)


def main() -> int:
    """Print the path of the proxy, which is installed if needed; exit with an error if that fails."""
    if find_proxy() is None:
        sys.stderr.write("Installing JupyterHub's proxy for the tests ...\n")
        install_proxy()
    path = find_proxy()
    if path is None:
        sys.exit(PROXY_ADVICE)
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
