"""A whole class at once: everybody joins and orders through two processes, and the ledgers agree.

`CLASS` sets the number of people (16 by default; `make soak` uses 200 and also measures times).
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from eth_account import Account

from blockrun_magic.classroom.hub import Hub, HubSettings
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.windows import Standing
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.practice.server import images
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio import Options, Studio
from blockrun_magic.studio.services import Wallets, purchase_services
from harness import PATIENCE
from harness.classroom import PRICE, Class, Student, order_of, running_class, served_class
from harness.meter import Meter
from harness.postgresql import Cluster
from harness.quick_gateway import gateway_process, send_small_images

PEOPLE = int(os.environ.get("CLASS", "16"))
_MEASURED = "CLASS" in os.environ
_CHANCE = random.Random(402)  # noqa: S311  a spread of starts
_LATENCY = 2.0 if _MEASURED else 0.2
_TURNS = 3 if _MEASURED else 1
_MAX_TAKES = 7 if _MEASURED else 1
_BUSY = 0.7
"""The largest share of the machine's processor time that still allows a measurement."""


@pytest.fixture(autouse=True)
def quick_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gateway of this process send small images."""
    monkeypatch.setattr(images, "_paint", images._paint)
    send_small_images()


@dataclass
class _AskedHub:
    """A hub that accepts every token and counts the requests."""

    questions: int = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request after 20 ms."""
        self.questions += 1
        await asyncio.sleep(0.02)
        name = request.headers["authorization"].removeprefix("token ")
        scopes = ["access:services!service=classroom"]
        return httpx.Response(200, json={"kind": "user", "name": name, "groups": ["class"], "scopes": scopes})


def test_the_class_begins(tmp_path: Path) -> None:
    """Everybody joins with a hub token and orders within five seconds: all get images, with one hub request each."""
    asked = _AskedHub()
    settings = HubSettings("http://hub/api", Secret("service"), "/services/classroom/", "classroom")
    with (
        PracticeServer(latency=_LATENCY) as gateway,
        running_class(tmp_path / "home", gateway, hub=Hub(settings, httpx.MockTransport(asked))) as room,
    ):
        started = time.monotonic()
        answers = asyncio.run(_begin(room.url, 5.0 if _MEASURED else 1.0))
        seconds = time.monotonic() - started

        assert [200] * PEOPLE == [answer.status_code for answer in answers]
        assert {("done", PRICE)} == {(answer.json()["state"], answer.json()["charged_micros"]) for answer in answers}
        assert PEOPLE == len(room.settlements) == len(room.records.members.all()) == len(room.records.orders.listed())
        assert room.agrees
    assert asked.questions <= PEOPLE
    assert not _MEASURED or seconds < 30


async def _begin(url: str, within: float) -> list[httpx.Response]:
    async with httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_connections=None)) as client:

        async def kernel(number: int) -> httpx.Response:
            await asyncio.sleep(_CHANCE.uniform(0, within))
            joined = await client.post(f"{url}/v1/join", json={"hub_token": f"student-{number}"})
            assert joined.status_code == 200, joined.text
            return await _ordered(client, url, joined.json()["pass"], "a fox in snow")

        return await asyncio.gather(*map(kernel, range(PEOPLE)))


async def _ordered(client: httpx.AsyncClient, url: str, secret: str, prompt: str) -> httpx.Response:
    """Send an order, wait until it has ended, like a kernel, and return the last answer."""
    address = f"{url}/v1/orders/{secrets.token_hex(16)}"
    headers = {"Authorization": f"Bearer {secret}", "Prefer": "wait=25"}
    answer = await client.put(address, json=order_of(prompt), headers=headers)
    while answer.status_code == 202:
        answer = await client.get(f"{address}?wait=25", headers=headers)
    return answer


@dataclass
class Direct:
    """A notebook with its own wallet, which buys directly from the gateway."""

    studio: Studio
    gateway: Gateway

    @classmethod
    def at(cls, home: Path, url: str) -> Direct:
        """Return a notebook with its ledger and images below `home`."""
        wallet = Wallet(Secret(bytes(Account.create().key)), "a test")
        services = purchase_services(
            client=Client(),
            ledger=Ledger(home / "ledger.sqlite", "direct"),
            store=Store(home / "pictures"),
            wallets=Wallets(lambda _: wallet),
        )
        return cls(Studio(services, home / "locks"), practice_at(url))

    async def order(self, prompt: str) -> int:
        """Buy an image."""
        request = ImageRequest(operation="generate", prompt=prompt, model="google/nano-banana")
        return (await self.studio.make(request, self.gateway, Options(max_price=500_000))).cost_micros


@dataclass
class Course:
    """A class of two processes with the students `people`, and the same number of notebooks that buy directly."""

    rooms: list[Class]
    people: list[Student]
    direct: list[Direct]
    client: httpx.AsyncClient
    processes: dict[str, list[int]]
    seconds: float = PEOPLE / 20
    """The period in which everybody orders once: a class makes about 20 orders per second."""
    waits: dict[str, list[float]] = field(default_factory=lambda: {"direct": [], "service": []})
    takes: int = 0

    async def take_turns(self, *, first: bool = False) -> None:
        """Let everybody order once directly and once from the class, at the same moments of both turns.

        A measurement counts only if the machine was not too busy; otherwise the next orders come at half the rate. The
        `first` turn does not count, because it opens connections and asks for prices.
        """
        self.takes += 1
        owner = self.rooms[0].owner
        owner.set_limit("each", "total", PRICE * self.takes)
        owner.set_limit("class", "total", PRICE * self.takes * PEOPLE)
        moments, waits, busy = [_CHANCE.uniform(0, self.seconds) for _ in self.people], {}, []
        for way in self.waits:
            meter = Meter(self.processes)
            orders = (self._order(number, moment, way) for number, moment in enumerate(moments))
            waits[way] = await asyncio.gather(*orders)
            busy.append(meter.busy)
            _tell(way, waits[way], meter)
        if first:
            return
        if max(busy) <= _BUSY or not _MEASURED:
            for way, found in waits.items():
                self.waits[way] += found
        else:
            self.seconds = min(2 * self.seconds, PEOPLE / 5)

    async def _order(self, number: int, moment: float, way: str) -> float:
        await asyncio.sleep(moment)
        started, prompt = time.monotonic(), f"fox {self.takes}"
        if way == "direct":
            assert PRICE == await self.direct[number].order(prompt)
        else:
            url = self.rooms[number % 2].url
            answer = await _ordered(self.client, url, self.people[number].secret, prompt)
            assert (200, PRICE) == (answer.status_code, answer.json()["charged_micros"]), answer.text
        return time.monotonic() - started

    @property
    def repetitions(self) -> int:
        """The number of repetitions that count."""
        return len(self.waits["service"]) // len(self.people)


def _tell(way: str, waits: list[float], meter: Meter) -> None:
    times = ", ".join(f"{name} {1000 * seconds / PEOPLE:.1f}" for name, seconds in meter.seconds.items())
    sys.stdout.write(
        f"{way}: p50 {_percentile(waits, 50):.3f} s, p95 {_percentile(waits, 95):.3f} s, machine {meter.busy:.0%} busy,"
        f" ms of processor time an order: {times}\n"
    )


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[len(values) * percent // 100]


def test_load(tmp_path: Path, cluster: Cluster) -> None:
    """Two processes work in turns with notebooks that buy directly: there are no errors, and the ledgers agree.

    Orders, purchases and settlements have the same number, and a limit refuses only the orders above it.
    """
    database = cluster.empty_database()
    with gateway_process(_LATENCY) as (url, gateway), ExitStack() as stack:
        served = [stack.enter_context(served_class(tmp_path, url, database=database)) for _ in range(2)]
        rooms = [room for room, _ in served]
        rooms[0].owner.set_policy("class", rate=1000)
        people = [rooms[0].student(f"student {number}") for number in range(PEOPLE)]
        processes = {"service": [process.pid for _, process in served], "gateway": [gateway]}
        processes |= {"PostgreSQL": [cluster.pid], "clients": [os.getpid()]}
        course = asyncio.run(_take_turns(tmp_path, url, rooms, people, processes))
        refused = people[0].put("one too many")

        orders = rooms[0].records.orders.listed(limit=10_000)
        assert course.takes * PEOPLE == len(orders) == len({order.purchase_id for order in orders})
        assert 2 * course.takes * PEOPLE == len(rooms[0].settlements)
        assert {"done"} == {str(order.state) for order in orders}
        assert 402 == refused.status_code
        [whole] = [standing for standing in _standings(rooms[0]) if standing.period == "total"]
        assert (PRICE * course.takes * PEOPLE, 0, 0) == (whole.used, whole.at_risk, whole.left)
        assert rooms[0].agrees
    if _MEASURED:
        assert course.repetitions == _TURNS, "other programs keep the machine too busy to measure anything"
        p95 = {way: _percentile(waits, 95) for way, waits in course.waits.items()}
        sys.stdout.write(f"p95: direct {p95['direct']:.3f} s, service {p95['service']:.3f} s\n")
        assert p95["service"] - p95["direct"] < 0.05


async def _take_turns(
    home: Path, url: str, rooms: list[Class], people: list[Student], processes: dict[str, list[int]]
) -> Course:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=120)
    async with httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client:
        direct = [Direct.at(home / f"direct-{number}", url) for number in range(PEOPLE)]
        course = Course(rooms, people, direct, client, processes)
        if _MEASURED:
            await course.take_turns(first=True)
        while course.repetitions < _TURNS and course.takes < _MAX_TAKES:
            await course.take_turns()
        for notebook in direct:
            await notebook.studio.close()
        return course


def _standings(room: Class) -> list[Standing]:
    return room.records.ledger.standing(room.records.realm, ["class"])
