"""Classroom services for tests that kill them: a warm process forks one child for each service.

This module is also the program of that process. It reads jobs from its input, one line of JSON each; a child prints
its addresses and its process id when it is ready.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Self

from blockrun_magic.classroom.room import Settings
from blockrun_magic.classroom.service import serve_classroom
from blockrun_magic.classroom.storage.orders import OrderRows
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import practice_at
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from harness import ROOT
from harness.kernel import clean_environ

__all__ = ["STEPS", "ClassNursery", "class_nursery"]

_STEPS: Mapping[type, tuple[str, ...]] = {
    OrderRows: ("accept", "begin", "finish", "defer"),
    Ledger: ("create_purchase", "authorize", "submit", "settle", "finish"),
    Client: ("post",),
    Store: ("put",),
}
STEPS = [f"{owner.__name__}.{name}" for owner, names in _STEPS.items() for name in names]
"""The calls to the database, the gateway and the disk before which a service can be killed."""


@dataclass
class ClassNursery:
    """The warm process that starts services."""

    process: subprocess.Popen[str]

    def serve(self, home: Path, gateway: str, database: str | None, fatal: str = "", count: int = 1) -> Service:
        """Start a service that dies before call number `count` of `fatal`."""
        job = {"home": str(home), "gateway": gateway, "database": database, "fatal": fatal, "count": count}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        ready = json.loads(self.process.stdout.readline())
        return Service(ready["url"], ready["pid"])


@dataclass(frozen=True)
class Service:
    """A running or killed service."""

    url: str
    pid: int

    @property
    def is_alive(self) -> bool:
        """True if the service still runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """Kill the service at once."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGKILL)
        while self.is_alive:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextmanager
def class_nursery(home: Path) -> Iterator[ClassNursery]:
    """Yield a warm process that starts services."""
    environ = clean_environ(home) | {"PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-m", "harness.class_nursery"]
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home
    ) as process:
        try:
            yield ClassNursery(process)
        finally:
            process.kill()


def _die_before(fatal: str, count: int) -> None:
    """Kill this process before call number `count` of a step."""
    seen = 0
    lock = threading.Lock()

    def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)
        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            with lock:
                seen += 1
                if seen == count:
                    os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **named)

        return counting

    for owner, names in _STEPS.items():
        for name in names:
            if fatal == f"{owner.__name__}.{name}":
                setattr(owner, name, wrapped(getattr(owner, name)))


def _serve(job: Mapping[str, Any]) -> None:
    _die_before(job["fatal"], job["count"])
    settings = Settings(
        home=Path(job["home"]), gateway=practice_at(job["gateway"]), port=0, database_url=job["database"]
    )

    def announce(addresses: Mapping[str, str]) -> None:
        sys.stdout.write(json.dumps({**addresses, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()

    asyncio.run(serve_classroom(settings, threading.Event(), announce))


def _main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system removes ended children without a wait
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _serve(json.loads(line))
            finally:
                os._exit(1)


if __name__ == "__main__":
    _main()
