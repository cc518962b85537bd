"""A real JupyterLab and a real Voilà, each with a home of its own; both end with the tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from harness import PATIENCE
from harness.kernel import clean_environ

__all__ = ["SETTINGS", "Server", "behind_us", "end_family", "running_lab", "running_voila"]

_LAB = (
    *("jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"),
    *("--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"),
)
_VOILA = ("voila", "--no-browser", "--Voila.ip=127.0.0.1")  # it takes the first free port from 8866 upward
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/apputils-extension:themes": {"adaptive-theme": True},  # themes follow the page's color scheme
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # all cells are in the page
}
"""JupyterLab's settings for tests."""
_BEHIND_US = """
import os, runpy, signal, sys, threading

def end_with_the_tests():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end_with_the_tests, daemon=True).start()
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""A program that runs a module until its stdin closes; that also happens when the parent is killed."""


def behind_us(*command: str) -> list[str]:
    """Return a command line that runs a module and ends when its stdin closes."""
    return [sys.executable, "-c", _BEHIND_US, *command]


@dataclass(frozen=True)
class Server:
    """A running server: its address (with a slash at the end), and the folder of its notebooks."""

    url: str
    folder: Path


@contextmanager
def running_lab(home: Path, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Yield a JupyterLab whose kernels see no settings of the machine's owner; `environ` is added."""
    settings = home / ".jupyter" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS))
    with _running(home, _LAB, environ) as server:
        yield server


@contextmanager
def running_voila(home: Path, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Yield a Voilà that serves the notebooks of its folder as apps; `environ` is added."""
    with _running(home, _VOILA, environ) as server:
        yield server


@contextmanager
def _running(home: Path, command: Sequence[str], environ: Mapping[str, str] | None) -> Iterator[Server]:
    folder, log = home / "notebooks", home / "server.log"
    folder.mkdir(parents=True)
    # Kernels listen on sockets in a short directory, not on ports. BLOCKRUN_HOME is relative: one for each notebook.
    with tempfile.TemporaryDirectory(prefix="j") as sockets, log.open("wb") as written:
        own = {"JUPYTER_RUNTIME_DIR": sockets, "BLOCKRUN_HOME": ".blockrun"}
        process = subprocess.Popen(
            behind_us(*command, "--KernelManager.transport=ipc", str(folder)),
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=written,
            env=clean_environ(home, **own, **(environ or {})),
            cwd=folder,
            start_new_session=True,
        )
        try:
            yield Server(_address(process, log), folder)
        finally:
            end_family(process)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address of a server; raises AssertionError with its log if it ends or stays silent."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:[1-9]\d*/", log.read_text(encoding="utf-8"))
        if found:
            with suppress(httpx.TransportError):
                httpx.get(found[0], timeout=PATIENCE)
                return found[0]
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text(encoding='utf-8')}")


def end_family(process: subprocess.Popen[bytes]) -> None:
    """End a server and all processes that it started; kernels have process groups of their own."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=PATIENCE)  # closes its stdin
    for left in (process, *family):
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()
    psutil.wait_procs(family, timeout=PATIENCE)
