"""`kill -9` of the service before each of its writes and messages: each order has one settlement and its image.

`SEEDS` sets the number of random moments (a few by default).
"""

from __future__ import annotations

import os
import random
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from blockrun_magic.classroom.storage.actions import Actions
from blockrun_magic.classroom.storage.records import open_records
from harness import PATIENCE
from harness.class_nursery import STEPS, ClassNursery, class_nursery
from harness.classroom import PRICE, order_of
from harness.postgresql import Cluster
from harness.quick_gateway import quick_gateway

_SEEDS = int(os.environ.get("SEEDS", "0"))
_TAKEN_OVER = 20.0 if _SEEDS else PATIENCE


def _moments() -> list[tuple[str, int]]:
    """Return the calls before which a service is killed: each step once, and then `SEEDS` random ones."""
    chance = random.Random(402)  # noqa: S311  a repeatable choice
    first = [(step, 1 + number % 2) for number, step in enumerate(STEPS)]
    return (first + [(chance.choice(STEPS), chance.randint(1, 6)) for _ in range(_SEEDS)])[: _SEEDS or None]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_storm(tmp_path: Path, cluster: Cluster, engine: str) -> None:
    """A service is killed with two open orders, and the next one takes over: each is paid once and has its image."""
    database = cluster.empty_database() if engine == "postgresql" else None
    every = 1 if _SEEDS else 2
    moments = _moments()[int(engine == "postgresql") :: every]
    with (
        quick_gateway(0.02) as url,
        class_nursery(tmp_path) as nursery,
        httpx.Client(timeout=PATIENCE) as client,
        closing(open_records(tmp_path / "home", database)) as records,
    ):
        Actions(records).set_policy("class", rate=10_000)
        later = records.database.now() + 3600
        code = Actions(records).invite("ada", groups=[], expires_at=later)
        with nursery.serve(tmp_path / "home", url, database) as service:
            secret = client.post(f"{service.url}/v1/join", json={"code": code}).json()["pass"]
        for number, (step, count) in enumerate(moments):
            orders = {secrets.token_hex(16): f"{number} {side}" for side in ("left", "right")}
            place = (tmp_path / "home", url, database)
            _die(nursery, place, secret, orders, (step, count))
            ended = _taken_over(nursery, place, secret, orders)

            assert {("done", PRICE)} == set(ended), (step, count)
            settlements = client.get(f"{url}/practice/ledger").json()["settlements"]
            assert 2 * (number + 1) == len(settlements), (step, count)
            assert {} == records.ledger.check(), (step, count)


Place = tuple[Path, str, str | None]


def _die(nursery: ClassNursery, place: Place, secret: str, orders: dict[str, str], moment: tuple[str, int]) -> None:
    """Send the orders to a service that dies at a moment, or end without its death."""
    with nursery.serve(*place, *moment) as service, ThreadPoolExecutor(2) as pool:
        for answer in [pool.submit(_put, service.url, secret, key, prompt) for key, prompt in orders.items()]:
            answer.result()


def _put(url: str, secret: str, key: str, prompt: str) -> httpx.Response | None:
    headers = {"Authorization": f"Bearer {secret}", "Prefer": "wait=25"}
    try:
        return httpx.put(f"{url}/v1/orders/{key}", json=order_of(prompt), headers=headers, timeout=PATIENCE)
    except httpx.TransportError:
        return None


def _taken_over(nursery: ClassNursery, place: Place, secret: str, orders: dict[str, str]) -> list[tuple[str, int]]:
    """Send the orders again with their keys to the next service, and return their ends."""
    end = time.monotonic() + _TAKEN_OVER
    with nursery.serve(*place) as service:
        ended = []
        for key, prompt in orders.items():
            while (answer := _put(service.url, secret, key, prompt)) is None or answer.status_code in (202, 429):
                assert time.monotonic() < end
            ended.append((answer.json()["state"], answer.json()["charged_micros"]))
        return ended
