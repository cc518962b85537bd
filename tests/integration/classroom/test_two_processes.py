"""Two processes on PostgreSQL: one takes over the other's orders, and a server that stops at once loses nothing."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.classroom import PRICE, Class, Student, served_class
from harness.gates import Gate
from harness.postgresql import Cluster

_STOPPED = float(os.environ.get("STOPPED", "3"))
"""Seconds that SIGSTOP stops a process; `make soak` uses a minute."""
_TAKEN_OVER = PATIENCE

Pair = list[tuple[Class, "Popen[str]"]]


@pytest.fixture
def pair(tmp_path: Path, gate: Gate, cluster: Cluster) -> Iterator[Pair]:
    """Yield two processes that serve one class: one database, and one folder of images."""
    database = cluster.empty_database()
    with PracticeServer(hook=gate) as gateway, ExitStack() as stack:
        yield [stack.enter_context(served_class(tmp_path, gateway, database=database)) for _ in range(2)]


def at(room: Class, student: Student) -> Student:
    """Return the same student with the address of another process."""
    return Student(room.url, student.secret, room.client)


def held_order(room: Class, gate: Gate, point: str) -> tuple[Student, str]:
    """Return a student and the key of an order that the gateway holds at `point`."""
    ada, key = room.student("ada"), secrets.token_hex(16)
    gate.point = point
    assert 202 == ada.put("a fox", key, wait=0).status_code
    assert gate.seen.wait(PATIENCE)
    return ada, key


def outcome(student: Student, key: str) -> tuple[str, int]:
    """Wait for the end of an order, as long as a take-over may need, and return its state and charge."""
    end = time.monotonic() + _TAKEN_OVER
    while (answer := student.get(key, wait=1)).status_code == 202:
        assert time.monotonic() < end, answer.text
    return answer.json()["state"], answer.json()["charged_micros"]


def test_an_order_is_known_to_both(pair: Pair, gate: Gate) -> None:
    """The same key at both processes is one order; the same request with two keys is one purchase."""
    [(first, _), (second, _)] = pair
    ada, key = first.student("ada"), secrets.token_hex(16)
    gate.point = "paid"
    with ThreadPoolExecutor(3) as pool:
        answers = [
            pool.submit(student.put, "a fox", name)
            for student, name in ((ada, key), (at(second, ada), key), (at(second, ada), secrets.token_hex(16)))
        ]
        assert gate.seen.wait(PATIENCE)
        gate.opened.set()
        orders = [answer.result().json() for answer in answers]

    assert ["done"] * 3 == [order["state"] for order in orders]
    assert orders[0] == orders[1]
    assert [0, PRICE] == sorted([orders[0]["charged_micros"], orders[2]["charged_micros"]])
    assert 1 == len(first.settlements)
    assert first.agrees


@pytest.mark.parametrize("point", ["challenge", "paid", "settled"])
def test_a_killed_process(pair: Pair, gate: Gate, point: str) -> None:
    """The other process takes over: the order has one settlement and the image."""
    [(first, process), (second, _)] = pair
    ada, key = held_order(first, gate, point)
    process.kill()
    gate.opened.set()

    assert ("done", PRICE) == outcome(at(second, ada), key)
    assert 1 == len(second.settlements)
    assert second.agrees


def test_cancelled_at_the_other_process(pair: Pair, gate: Gate) -> None:
    """An order of one process is cancelled through the other before it is signed."""
    [(first, _), (second, _)] = pair
    ada, key = held_order(first, gate, "challenge")

    cancelled = at(second, ada).delete(key)
    gate.opened.set()

    assert (200, "cancelled") == (cancelled.status_code, cancelled.json()["state"])
    assert 409 == ada.put("a fox", key).status_code
    assert [] == first.settlements


def test_a_process_that_ends(pair: Pair, gate: Gate) -> None:
    """A process that is asked to end leaves an unfinished order; the other one gets the gateway's answer."""
    [(first, process), (second, _)] = pair
    ada, key = held_order(first, gate, "challenge")
    process.send_signal(signal.SIGTERM)
    gate.opened.set()

    assert 0 == process.wait(60)
    assert ("done", PRICE) == outcome(at(second, ada), key)
    assert 1 == len(second.settlements)


def test_a_server_that_stops_at_once(pair: Pair, gate: Gate, cluster: Cluster) -> None:
    """PostgreSQL stops with `immediate` during an order: the order has one settlement and the image."""
    [(first, _), (second, _)] = pair
    ada, key = held_order(first, gate, "paid")
    cluster.stop()
    gate.opened.set()
    time.sleep(0.5)
    try:
        assert ada.get(key).status_code in (500, 503)
    finally:
        cluster.start()

    assert ("done", PRICE) == outcome(at(second, ada), key)
    assert 1 == len(second.settlements)
    assert first.agrees


def test_a_stopped_process(pair: Pair, gate: Gate) -> None:
    """A process sleeps during an order and wakes up later: the order has one settlement and the image."""
    [(first, process), (second, _)] = pair
    ada, key = held_order(first, gate, "paid")
    process.send_signal(signal.SIGSTOP)
    gate.opened.set()
    time.sleep(_STOPPED)
    waiting = at(second, ada).get(key)
    process.send_signal(signal.SIGCONT)

    assert waiting.status_code in (200, 202)
    assert ("done", PRICE) == outcome(at(second, ada), key)
    assert 1 == len(second.settlements)
    assert second.agrees
