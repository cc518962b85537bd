"""The gate for a gateway's rate limit: one refusal holds back all waiting requests."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from blockrun_magic.errors import RateLimited
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.gateways import PRESETS
from blockrun_magic.studio.payment import retry
from blockrun_magic.studio.payment.retry import Entry, RateGate, RetryPolicy
from blockrun_magic.studio.payment.sender import Sender


class Clock:
    """A clock that advances only by sleeping."""

    now = 1000.0

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Return the clock of the gate."""
    made = Clock()
    monkeypatch.setattr(retry, "_now", made.monotonic)
    monkeypatch.setattr(retry, "asyncio", made)
    return made


def enter(gate: RateGate, count: int, *, answered: bool = True) -> list[Entry]:
    """Pass `count` requests through the gate, accepted if `answered`; return their entries."""

    async def run() -> list[Entry]:
        entries = []
        for _ in range(count):
            entry = await gate.enter()
            await gate.leave(entry)
            if answered:
                gate.taken(entry)
            entries.append(entry)
        return entries

    return asyncio.run(run())


def test_it_stands_open(clock: Clock) -> None:
    """Without a refusal no request waits."""
    gate = RateGate()
    enter(gate, 500)

    assert 1000.0 == clock.now


def test_nothing_begins_before_the_time_that_the_gateway_named(clock: Clock) -> None:
    """The next request waits for the longest delay that the gateway named."""
    gate = RateGate()
    entries = enter(gate, 3, answered=False)
    for entry, seconds in zip(entries, (5, 5, 30), strict=True):
        gate.refused(seconds, entry)
    enter(gate, 1)

    assert 1030.0 == clock.now


def test_each_period_has_as_many_as_the_first(clock: Clock) -> None:
    """After 20 accepted requests and a refusal, each period of six seconds passes 20 requests."""
    gate = RateGate()
    enter(gate, 20)
    clock.now += 1
    gate.refused(5, *enter(gate, 1, answered=False))

    enter(gate, 20)
    assert 1006.0 <= clock.now < 1006.1
    enter(gate, 20)
    assert 1012.0 <= clock.now < 1012.2
    enter(gate, 1)
    assert 1018.0 <= clock.now < 1018.3


def test_refusals_of_requests_that_were_under_way_count_once(clock: Clock) -> None:
    """Several refusals in the same period close the gate once, and refused requests do not count as accepted."""
    gate = RateGate()
    enter(gate, 20)
    for entry in enter(gate, 3, answered=False):
        gate.refused(5, entry)

    enter(gate, 20)
    assert 1005.0 <= clock.now < 1005.1
    enter(gate, 1)
    assert 1010.0 <= clock.now < 1010.2


def test_images_that_take_longer_than_a_period_count(clock: Clock) -> None:
    """Twenty requests in flight at the refusal count as accepted, although their images are slow."""
    gate = RateGate()
    entries = enter(gate, 21, answered=False)
    gate.refused(5, entries[-1])

    enter(gate, 20, answered=False)
    assert 1005.0 <= clock.now < 1006.0


def test_one_request_goes_first(clock: Clock) -> None:
    """If the first request of a period is refused, the others wait for the new delay."""
    gate = RateGate()
    entries = enter(gate, 21)
    gate.refused(5, entries[-1])
    [first] = enter(gate, 1, answered=False)
    assert 1005.0 <= clock.now < 1005.1
    clock.now += 0.05
    gate.refused(2, first)
    enter(gate, 20)

    assert 1007.0 <= clock.now < 1007.2


def test_a_request_that_has_not_left_waits_too(clock: Clock) -> None:
    """Three requests that had entered but not left the gate wait for the next period."""
    gate = RateGate()

    async def run() -> list[float]:
        entries = [await gate.enter() for _ in range(24)]
        for entry in entries[:21]:
            await gate.leave(entry)
        gate.refused(5, entries[20])
        left = []
        for entry in entries[21:]:
            await gate.leave(entry)
            gate.taken(entry)
            left.append(clock.now)
        return left

    assert all(1005.0 <= left < 1005.2 for left in asyncio.run(run()))
    enter(gate, 17)
    assert clock.now < 1005.2
    enter(gate, 1)
    assert 1010.0 <= clock.now < 1010.2


class Window:
    """A gateway with a limit of `count` requests in `seconds`, for fixed, aligned or sliding windows."""

    def __init__(self, clock: Clock, count: int, seconds: float, kind: str) -> None:
        self.clock, self.count, self.seconds, self.kind = clock, count, seconds, kind
        self.accepted: list[float] = []
        self.refusals = 0
        self._begun = -1e9

    def wait(self) -> float:
        """Return the seconds until a request is allowed; with 0 the request counts as accepted."""
        now = self.clock.now
        if self.kind == "fixed" and now >= self._begun + self.seconds:
            self._begun = now
        if self.kind == "aligned":
            self._begun = now // self.seconds * self.seconds
        recent = [at for at in self.accepted if at >= self._begun]
        if self.kind == "sliding":
            recent = [at for at in self.accepted if at > now - self.seconds]
            self._begun = recent[0] if recent else now
        if len(recent) < self.count:
            self.accepted.append(now)
            return 0.0
        self.refusals += 1
        return self._begun + self.seconds - now


def buy(gate: RateGate, clock: Clock, gateway: Window, count: int, named: Callable[[float], float]) -> float:
    """Buy `count` images one after the other; return the seconds that this takes."""
    began, left = clock.now, count
    while left:
        [entry] = enter(gate, 1, answered=False)
        clock.now += 0.01
        if wait := gateway.wait():
            gate.refused(named(wait), entry)
        else:
            gate.taken(entry)
            left -= 1
        clock.now += 0.02
    return clock.now - began


@pytest.mark.parametrize("kind", ["fixed", "aligned", "sliding"])
@pytest.mark.parametrize(("count", "seconds"), [(20, 5.0), (7, 2.5), (1, 3.0), (100, 60.0)])
@pytest.mark.parametrize("named", [math.ceil, float], ids=["whole", "exact"])
def test_a_limit_is_learned_once(
    clock: Clock, kind: str, count: int, seconds: float, named: Callable[[float], float]
) -> None:
    """For each kind of window, refusals are rare and the total time is close to the limit's minimum."""
    gateway, periods = Window(clock, count, seconds, kind), 4
    took = buy(RateGate(), clock, gateway, periods * count, named)

    assert gateway.refusals <= 3
    assert took <= (periods - 1) * (seconds + 0.2) + 1 + 2 * 0.03 * count + 1.0


def test_what_was_taken_long_ago_does_not_count(clock: Clock) -> None:
    """Requests long before the refusal do not count for the limit."""
    gate = RateGate()
    for _ in range(100):
        enter(gate, 1)
        clock.now += 36
    gate.refused(5, enter(gate, 2)[-1])

    enter(gate, 1)
    assert 1000 + 3600 + 5 <= clock.now < 1000 + 3600 + 5.1
    enter(gate, 1)
    assert clock.now >= 1000 + 3600 + 10


def test_a_limit_is_forgotten(clock: Clock) -> None:
    """After a minute without a refusal the gate is open."""
    gate = RateGate()
    gate.refused(1, enter(gate, 2)[-1])
    clock.now += 61
    begun = clock.now
    enter(gate, 50)

    assert begun == clock.now


@pytest.mark.parametrize(("status", "waiting"), [(429, 5.0), (200, 0.0)])
def test_the_gate_knows_before_the_ledger_is_asked(clock: Clock, status: int, waiting: float) -> None:
    """The gate reacts to a response before the ledger is written, because a write may wait for the disk."""
    gate = RateGate()
    [entry] = enter(gate, 1, answered=False)
    gate._first = entry
    closed: list[tuple[float, bool]] = []
    context = SimpleNamespace(
        gate=gate,
        entry=entry,
        retry=RetryPolicy(attempts=1),
        progress=SimpleNamespace(stage=""),
        gateway=PRESETS["base"],
    )
    tracker = SimpleNamespace(
        record_claim=lambda *_: closed.append((gate._opens_at - clock.now, gate._first is None)),
        explain_failure=AsyncMock(side_effect=lambda _, error: error),
    )
    sender = Sender(cast("Any", context), cast("Any", tracker))
    response = Response(status, {"retry-after": "5"}, b"{}")

    with nullcontext() if status == 200 else pytest.raises(RateLimited):
        asyncio.run(sender.send(cast("Any", None), AsyncMock(return_value=response)))

    assert [(waiting, True)] == [(max(0.0, wait), first) for wait, first in closed]
