"""A whole class at once: everybody joins and orders, through two processes, and the books agree.

`CLASS` says how many people there are (16 unless told otherwise; `make soak` takes 200, and measures).
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
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
from harness.classroom import PRICE, Class, Student, order_of, running_class, served_class
from harness.postgresql import Cluster
from harness.quick_gateway import quick_gateway, send_small_images

PEOPLE = int(os.environ.get("CLASS", "16"))
_MEASURED = "CLASS" in os.environ
_CHANCE = random.Random(402)  # noqa: S311  a spread of starts
_LATENCY = 2.0 if _MEASURED else 0.2
_TURNS = 3 if _MEASURED else 1


@pytest.fixture(autouse=True)
def quick_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gateway of this process send small images."""
    monkeypatch.setattr(images, "_paint", images._paint)
    send_small_images()


@dataclass
class _AskedHub:
    """A hub that knows every token, and counts the questions."""

    questions: int = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a question after 20 ms."""
        self.questions += 1
        await asyncio.sleep(0.02)
        name = request.headers["authorization"].removeprefix("token ")
        scopes = ["access:services!service=classroom"]
        return httpx.Response(200, json={"kind": "user", "name": name, "groups": ["class"], "scopes": scopes})


def test_the_class_begins(tmp_path: Path) -> None:
    """Everybody joins by their hub token and orders within five seconds: all are served, each asked about once."""
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
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def kernel(number: int) -> httpx.Response:
            await asyncio.sleep(_CHANCE.uniform(0, within))
            joined = await client.post(f"{url}/v1/join", json={"hub_token": f"student-{number}"})
            assert joined.status_code == 200, joined.text
            return await _ordered(client, url, joined.json()["pass"], "a fox in snow")

        return await asyncio.gather(*map(kernel, range(PEOPLE)))


async def _ordered(client: httpx.AsyncClient, url: str, secret: str, prompt: str) -> httpx.Response:
    """Return the answer to an order, asked for as a kernel does it until it has ended."""
    address = f"{url}/v1/orders/{secrets.token_hex(16)}"
    headers = {"Authorization": f"Bearer {secret}", "Prefer": "wait=25"}
    answer = await client.put(address, json=order_of(prompt), headers=headers)
    while answer.status_code == 202:
        answer = await client.get(f"{address}?wait=25", headers=headers)
    return answer


@dataclass
class Direct:
    """A notebook with a wallet of its own, which buys from the gateway itself."""

    studio: Studio
    gateway: Gateway

    @classmethod
    def at(cls, home: Path, url: str) -> Direct:
        """Return one whose ledger and images are below `home`."""
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
    """A class of two processes with `people` students, and as many notebooks that buy directly."""

    rooms: list[Class]
    people: list[Student]
    direct: list[Direct]
    client: httpx.AsyncClient

    async def turn(self, name: str, *, directly: bool) -> list[float]:
        """Let everybody order once, within the time in which a class does; return how long each waited."""
        return await asyncio.gather(*(self._order(number, name, directly) for number in range(len(self.people))))

    async def _order(self, number: int, name: str, directly: bool) -> float:
        await asyncio.sleep(_CHANCE.uniform(0, len(self.people) / 20))
        started = time.monotonic()
        if directly:
            assert PRICE == await self.direct[number].order(name)
        else:
            url = self.rooms[number % 2].url
            answer = await _ordered(self.client, url, self.people[number].secret, name)
            assert (200, PRICE) == (answer.status_code, answer.json()["charged_micros"]), answer.text
        return time.monotonic() - started


def test_load(tmp_path: Path, cluster: Cluster) -> None:
    """Two processes, in turns with the same number of notebooks that buy directly: no error, and the books agree.

    As many orders as purchases as settlements, and the last order that a limit allows is the last that is paid.
    """
    database = cluster.empty_database()
    with quick_gateway(_LATENCY) as url, ExitStack() as stack:
        rooms = [stack.enter_context(served_class(tmp_path, url, database=database))[0] for _ in range(2)]
        owner = rooms[0].owner
        owner.set_policy("class", rate=1000)
        owner.set_limit("each", "total", PRICE * _TURNS)
        owner.set_limit("class", "total", PRICE * _TURNS * PEOPLE)
        people = [rooms[0].student(f"student {number}") for number in range(PEOPLE)]
        waits = asyncio.run(_take_turns(tmp_path, url, rooms, people))
        refused = people[0].put("one too many")

        orders = rooms[0].records.orders.listed(limit=10_000)
        assert _TURNS * PEOPLE == len(orders) == len({order.purchase_id for order in orders})
        assert 2 * _TURNS * PEOPLE == len(rooms[0].settlements)
        assert {"done"} == {str(order.state) for order in orders}
        assert 402 == refused.status_code
        [whole] = [standing for standing in _standings(rooms[0]) if standing.period == "total"]
        assert (PRICE * _TURNS * PEOPLE, 0, 0) == (whole.used, whole.at_risk, whole.left)
        assert rooms[0].agrees
    p95 = {name: sorted(found)[int(len(found) * 0.95)] for name, found in waits.items()}
    sys.stdout.write(f"p95 in seconds: {p95}\n")
    assert not _MEASURED or p95["service"] - p95["direct"] < 0.05


async def _take_turns(home: Path, url: str, rooms: list[Class], people: list[Student]) -> dict[str, list[float]]:
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:
        direct = [Direct.at(home / f"direct-{number}", url) for number in range(PEOPLE)]
        course = Course(rooms, people, direct, client)
        waits: dict[str, list[float]] = {"direct": [], "service": []}
        for turn in range(_TURNS):
            for name in waits:
                waits[name] += await course.turn(f"fox {turn}", directly=name == "direct")
        for notebook in direct:
            await notebook.studio.close()
        return waits


def _standings(room: Class) -> list[Standing]:
    return room.records.ledger.standing(room.records.realm, ["class"])
