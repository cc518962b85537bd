"""A classroom over a practice gateway, in a thread or in a process of its own, and students who speak its protocol."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from blockrun_magic.classroom.hub import Hub
from blockrun_magic.classroom.room import Settings
from blockrun_magic.classroom.service import serve_classroom
from blockrun_magic.classroom.storage.actions import Actions
from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.classroom.storage.records import Records, open_records
from blockrun_magic.gateway.gateways import practice_at
from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.kernel import clean_environ

__all__ = ["PRICE", "Class", "Student", "order_of", "run_command", "running_class", "served_class"]

PRICE = 52_500
"""The price of an image of the default model, in micro-USDC."""


def order_of(prompt: str, **more: Any) -> dict[str, Any]:
    """Return the body of an order for an image of `prompt`."""
    body = {
        "path": "/v1/images/generations",
        "take": 1,
        "max_price_micros": 500_000,
        "prompt": prompt,
        "model": "google/nano-banana",
        "size": "1024x1024",
        "n": 1,
    }
    return body | more


@dataclass
class Student:
    """A person who has joined and calls the service."""

    url: str
    secret: str
    client: httpx.Client
    joined: dict[str, Any] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """The header with the pass."""
        return {"Authorization": f"Bearer {self.secret}"}

    def call(self, method: str, path: str, wait: int | None = None, **content: Any) -> httpx.Response:
        """Send a request and return the answer."""
        headers = self.headers | ({} if wait is None else {"Prefer": f"wait={wait}"}) | content.pop("headers", {})
        return self.client.request(method, self.url + path, headers=headers, **content)

    def put(self, prompt: str, key: str | None = None, wait: int = 25, **more: Any) -> httpx.Response:
        """Order an image of `prompt`."""
        key = secrets.token_hex(16) if key is None else key
        return self.call("PUT", f"/v1/orders/{key}", wait, json=order_of(prompt, **more))

    def get(self, key: str, wait: int = 0) -> httpx.Response:
        """Return the answer to a question about an order."""
        return self.call("GET", f"/v1/orders/{key}?wait={wait}")

    def delete(self, key: str) -> httpx.Response:
        """Cancel an order."""
        return self.call("DELETE", f"/v1/orders/{key}")


@dataclass
class Class:
    """A running classroom, the gateway where it buys, and a second connection to its records."""

    url: str
    home: Path
    gateway: str
    records: Records
    client: httpx.Client
    database: str | None = None
    teacher_url: str = ""

    @property
    def owner(self) -> Actions:
        """The actions of the owner."""
        return Actions(self.records)

    def student(self, name: str, *, role: str = "student", groups: tuple[str, ...] = ()) -> Student:
        """Invite a person, join with the code, and return the student."""
        later = self.records.database.now() + 3600
        code = self.owner.invite(name, role=role, groups=list(groups), expires_at=later)
        joined = self.client.post(f"{self.url}/v1/join", json={"code": code}).json()
        return Student(self.url, joined["pass"], self.client, joined)

    def member(self, name: str) -> Member:
        """Return the person of this name."""
        [member] = self.records.members.by_name(name)
        return member

    @property
    def settlements(self) -> list[dict[str, Any]]:
        """Payments to the gateway, oldest first."""
        found: list[dict[str, Any]] = self.client.get(f"{self.gateway}/practice/ledger").json()["settlements"]
        return found

    @property
    def agrees(self) -> bool:
        """True if the counters of the limits agree with the payments."""
        return self.records.ledger.check() == {}


@contextmanager
def running_class(
    home: Path,
    gateway: PracticeServer,
    *,
    database: str | None = None,
    stop: threading.Event | None = None,
    hub: Hub | None = None,
) -> Iterator[Class]:
    """Yield a classroom in a thread of this process; `stop` ends it early."""
    ready, stop = threading.Event(), stop or threading.Event()
    box: list[Any] = []

    def announce(addresses: dict[str, str]) -> None:
        box.append(addresses)
        ready.set()

    def serve() -> None:
        settings = Settings(home=home, gateway=practice_at(gateway.url), port=0, database_url=database)
        try:
            asyncio.run(serve_classroom(settings, stop, announce, hub))
        except BaseException as error:  # noqa: BLE001  the test reports it
            box.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        assert isinstance(box[0], dict), box
        with _opened(box[0], home, gateway.url, database) as room:
            yield room
    finally:
        stop.set()
        thread.join(PATIENCE)


@contextmanager
def served_class(
    home: Path, gateway: PracticeServer | str, *options: str, database: str | None = None, **environ: str
) -> Iterator[tuple[Class, subprocess.Popen[str]]]:
    """Yield a classroom in a process of its own, and the process; its errors go to `home/stderr`."""
    home.mkdir(parents=True, exist_ok=True)
    url = gateway if isinstance(gateway, str) else gateway.url
    where = ["--home", str(home / "home"), *(["--database", database] if database else [])]
    command = [sys.executable, "-m", "blockrun_magic", "classroom", "serve", "--gateway", url, *where]
    with (home / "stderr").open("a") as errors:
        process = subprocess.Popen(
            [*command, "--port", "0", *options],
            env=clean_environ(home, **environ),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline() or "{}")
        assert ready, (home / "stderr").read_text()
        with _opened(ready, home / "home", url, database) as room:
            yield room, process
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()


def run_command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the owner's commands for the classroom in `home`."""
    command = [sys.executable, "-m", "blockrun_magic", "classroom", "--home", str(home), *arguments]
    environ: dict[str, str] = clean_environ(home.parent)
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)


@contextmanager
def _opened(ready: dict[str, str], home: Path, gateway: str, database: str | None) -> Iterator[Class]:
    records = open_records(home, database)
    try:
        with httpx.Client(timeout=PATIENCE, limits=httpx.Limits(max_connections=None)) as client:
            yield Class(ready["url"], home, gateway, records, client, database, ready["teacher_url"])
    finally:
        records.close()
