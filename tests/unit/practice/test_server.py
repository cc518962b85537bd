"""The practice gateway as a server, in this process or in a separate one."""

from __future__ import annotations

import signal
import subprocess
import sys

import httpx
import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE


def test_it_serves_on_loopback_and_stops() -> None:
    """A started server answers at its URL, which ends in /api; a stopped server does not."""
    server = PracticeServer()
    url = server.start()
    status = httpx.get(f"{url}/v1/models", timeout=PATIENCE).status_code
    server.stop()

    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/api")
    assert 200 == status
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/v1/models", timeout=PATIENCE)


def test_starting_and_stopping_twice_is_once() -> None:
    """A second start returns the same URL; a second stop does nothing."""
    server = PracticeServer()
    first, second = server.start(), server.start()
    server.stop()
    server.stop()

    assert first == second


def test_it_stops_while_a_connection_is_open() -> None:
    """An open client connection does not prevent the stop."""
    with httpx.Client(timeout=PATIENCE) as client:
        server = PracticeServer()
        client.get(f"{server.start()}/v1/models")
        server.stop()

        with pytest.raises(httpx.TransportError):
            client.get("http://127.0.0.1:1/")


def test_a_process_of_its_own_says_where_it_is() -> None:
    """`python -m blockrun_magic.practice` prints one line with its URL, and Ctrl-C ends it."""
    command = [sys.executable, "-m", "blockrun_magic.practice", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = next(word for word in line.split() if word.startswith("http"))
            status = httpx.get(f"{url.rstrip('.,')}/v1/models", timeout=PATIENCE).status_code
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()

    assert 200 == status
    assert "" == errors
    assert 0 == process.returncode


def test_the_package_is_light() -> None:
    """Importing the package imports neither a server library nor Pillow."""
    code = "import sys, blockrun_magic.practice; print({'starlette', 'uvicorn', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "set()\n" == done.stdout
