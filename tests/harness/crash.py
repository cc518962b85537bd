"""Kernels for tests that kill them: a warm process forks one child for each run of a notebook's cells.

This module is also the program of that process. It reads jobs from its input, one line of JSON each, and answers each
with a line. A child uses the real studio with the folders and the gateway of its job.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Self

from blockrun_magic.database.postgresql import PostgresDatabase, ServerConnection
from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import practice_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.studio import Options, RetryPolicy, Studio
from blockrun_magic.studio.services import Wallets, purchase_services
from harness import PATIENCE, ROOT
from harness.uploads import upload

__all__ = [
    "OWNER",
    "SUBJECTS",
    "Job",
    "Nursery",
    "Run",
    "cells",
    "nursery",
    "payer_of",
    "practice_gateway",
    "settlements_of",
]

_BRISK = RetryPolicy(first_wait=0.05, longest_wait=0.2, poll_every=0.05, poll_at_most_every=0.1)
_STEPS: Mapping[type, tuple[str, ...]] = {
    Ledger: (
        "create_purchase",
        "authorize",
        "submit",
        "poll",
        "settle",
        "mark_unknown",
        "release",
        "save_image_urls",
        "finish",
    ),
    Client: ("post", "get", "download"),
    Store: ("put",),
    ServerConnection: ("execute",),
}
OWNER = "member:ada"
SUBJECTS = (OWNER, "group:red", "class", "all")
"""The owner of the purchases on a server, and the limits that apply."""


@dataclass(frozen=True)
class Job:
    """A run of some cells: its folder, its gateway, its payer, and the step that kills it.

    `fatal` names a step, such as "submit 2": the second call of `submit` kills the process before it begins.
    """

    folder: str
    url: str
    payer: str
    cells: tuple[int, ...] = (0, 1, 2, 3)
    fresh: bool = False
    at_once: bool = False
    """True if the cells run at the same time, not one after the other."""
    fatal: str = ""
    session: str = "a session"
    server: tuple[str, str] | None = None
    """The address and the schema of a PostgreSQL that holds the ledger and the locks in place of files."""


@dataclass
class Run:
    """A running child, which a test kills or waits for."""

    nursery: Nursery
    pid: int
    job: Job
    started: float = field(default_factory=time.monotonic)
    elapsed: float = 0.0
    """Seconds from its start to its end; set by `outcome`."""

    def kill_after(self, seconds: float) -> None:
        """Kill the child like `kill -9`; nobody has waited for it yet, so its process id is still its own."""
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGKILL)

    def outcome(self) -> dict[str, Any]:
        """Wait for its end and return its exit code, its steps and the result of each cell."""
        code = self.nursery.ask({"wait": self.pid})["code"]
        self.elapsed = time.monotonic() - self.started
        report = Path(self.job.folder) / f"report-{self.pid}.json"
        found = json.loads(report.read_text()) if report.exists() else {}
        return {"code": code, "results": [], "steps": [], **found}


class Nursery:
    """The warm process that starts runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, job: Job) -> Run:
        """Start `job` in a new process."""
        return Run(self, self.ask(asdict(job))["pid"], job)

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Yield a warm process, which ends with the block."""
    command, environ = [sys.executable, "-m", "harness.crash"], os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Nursery(process)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=PATIENCE)
        finally:
            process.kill()


@contextmanager
def practice_gateway(folder: Path) -> Iterator[str]:
    """Yield the URL of a practice gateway in a process of its own, with its data in `folder`."""
    command = [sys.executable, "-m", "blockrun_magic.practice", "--port", "0", "--db", str(folder / "practice.sqlite")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=PATIENCE)
            process.kill()


def payer_of(name: str) -> Wallet:
    """Return the wallet of that name; nobody funds it with real money."""
    return Wallet.from_key(hashlib.sha256(name.encode()).digest(), "a test")


def settlements_of(url: str, payer: str) -> list[dict[str, Any]]:
    """Return the gateway's own record of the payments of `payer`."""
    with urllib.request.urlopen(f"{url}/practice/ledger") as answer:  # noqa: S310  a URL on this machine
        lines = json.load(answer)["settlements"]
    address = payer_of(payer).address.lower()
    return [line for line in lines if line["payer"].lower() == address]


def cells() -> list[ImageRequest]:
    """Return a notebook's requests: an image, a slow job, an image behind a URL, and an edit with a mask."""
    small, size = "openai/dall-e-2", "256x256"
    source, mask = upload((40, 80, 120)), upload((255, 255, 255))
    return [
        ImageRequest("generate", "a red lighthouse", small, size),
        ImageRequest("generate", "a patient snail practice:slow=0.25", small, size),
        ImageRequest("generate", "a paper boat practice:url", small, size),
        ImageRequest("edit", "add a moon practice:data", "openai/gpt-image-1", images=(source,), mask=mask),
    ]


# -- the child


def _count_steps(fatal: str) -> list[str]:
    """Record every step of money and images in the returned list; die at the step `fatal`."""
    seen: list[str] = []

    def watched(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        @wraps(real)
        def step(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            if fatal == f"{name} {seen.count(name)}":
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return step

    for owner, names in _STEPS.items():
        for name in names:
            setattr(owner, name, watched(getattr(owner, name), name))
    return seen


async def _run_cells(job: Job) -> list[dict[str, Any]]:
    folder, wallet = Path(job.folder), payer_of(job.payer)
    server = PostgresDatabase(*job.server) if job.server else None
    ledger = Ledger(server or folder / "ledger.sqlite", job.session)
    services = purchase_services(
        client=Client(),
        ledger=ledger.for_owner(OWNER, lambda: SUBJECTS) if server else ledger,
        store=Store(folder / "pictures"),
        wallets=Wallets(lambda _: wallet),
        retry=_BRISK,
    )
    studio = Studio(services, server or folder / "locks")
    requests, options = cells(), Options(fresh=job.fresh)

    async def one(number: int) -> dict[str, Any]:
        try:
            result = await studio.make(requests[number], practice_at(job.url), options)
        except Exception:  # noqa: BLE001  the test reads every error
            return {"cell": number, "error": traceback.format_exc()}
        files = [str(path) for path in result.files]
        take, cost = result.receipt.take, result.cost_micros
        return {"cell": number, "error": None, "files": files, "take": take, "cost": cost}

    try:
        if job.at_once:
            results = list(await asyncio.gather(*(one(number) for number in job.cells)))
        else:
            results = [await one(number) for number in job.cells]
        with suppress(BlockrunError):  # a session does it in the background
            await studio.reconcile(practice_at(job.url))
        return results
    finally:
        await studio.close()
        ledger.close()
        if server:
            server.close()


def _child(job: Job) -> None:
    steps = _count_steps(job.fatal)
    results = asyncio.run(_run_cells(job))
    report = Path(job.folder) / f"report-{os.getpid()}.json"
    report.write_text(json.dumps({"results": results, "steps": steps}))


def _fork(job: Job) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _child(job)
            code = 0
        finally:
            # The parent's buffers and exit handlers must not run in the child.
            os._exit(code)
    return pid


class _Parent:
    """Answers the lines of a test until its input ends."""

    def __enter__(self) -> Self:
        # The late imports of signing happen once, before the children fork.
        from blockrun_magic.payments.x402.networks import PRACTICE
        from blockrun_magic.payments.x402.protocol import PaymentRequirements, sign_payment

        terms = PaymentRequirements(2, PRACTICE, 1, "0x" + "5a" * 20, 300, {})
        sign_payment(terms, payer_of("nobody"), 1_000_000)
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def serve(self) -> None:
        for line in sys.stdin:
            asked = json.loads(line)
            if "wait" in asked:
                _, status = os.waitpid(asked["wait"], 0)
                answer = {"code": os.waitstatus_to_exitcode(status)}
            else:
                answer = {
                    "pid": _fork(
                        Job(
                            **{
                                **asked,
                                "cells": tuple(asked["cells"]),
                                "server": asked["server"] and tuple(asked["server"]),
                            }
                        )
                    )
                }
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    with _Parent() as parent:
        parent.serve()
