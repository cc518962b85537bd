"""The gate that a gateway's rate limit closes: one refusal speaks for all requests that have not begun."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from blockrun_magic.studio.payment import retry
from blockrun_magic.studio.payment.retry import RateGate


class Clock:
    """A clock that only sleeping moves."""

    now = 1000.0

    def monotonic(self) -> float:
        """Return the seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Return the clock of the gate."""
    made = Clock()
    monkeypatch.setattr(retry, "_now", made.monotonic)
    monkeypatch.setattr(retry, "asyncio", made)
    return made


def enter(gate: RateGate, count: int, *, answered: bool = True) -> None:
    """Let so many requests begin, each accepted at once if `answered`."""

    async def run() -> None:
        for _ in range(count):
            await gate.enter()
            if answered:
                gate.taken()

    asyncio.run(run())


def test_it_stands_open(clock: Clock) -> None:
    """Without a refusal nothing waits, however many begin."""
    gate = RateGate()
    enter(gate, 500)

    assert 1000.0 == clock.now


def test_nothing_begins_before_the_time_that_the_gateway_named(clock: Clock) -> None:
    """Also where several requests are refused, and one of them for longer."""
    gate = RateGate()
    gate.refused(5)
    gate.refused(5)
    enter(gate, 1)

    assert 1005.0 == clock.now


def test_each_period_has_as_many_as_the_first(clock: Clock) -> None:
    """Twenty were accepted in the second before the refusal: twenty begin in each period of six seconds."""
    gate = RateGate()
    enter(gate, 20)
    clock.now += 1
    enter(gate, 1, answered=False)
    gate.refused(5)

    enter(gate, 20)
    assert 1006.0 == clock.now
    enter(gate, 20)
    assert 1012.0 <= clock.now < 1012.1
    enter(gate, 1)
    assert 1018.0 <= clock.now < 1018.2


def test_refusals_of_requests_that_were_under_way_count_once(clock: Clock) -> None:
    """Of four requests at the end of a period, three are refused: nothing more waits, and none counts as accepted."""
    gate = RateGate()
    enter(gate, 20)
    enter(gate, 3, answered=False)
    for _ in range(3):
        gate.refused(5)

    enter(gate, 20)
    assert 1005.0 == clock.now
    enter(gate, 1)
    assert 1010.0 <= clock.now < 1010.1


def test_images_that_take_longer_than_a_period_count(clock: Clock) -> None:
    """Twenty requests are on their way when one is refused, and their images come much later: twenty were accepted."""
    gate = RateGate()
    enter(gate, 21, answered=False)
    gate.refused(5)

    enter(gate, 20, answered=False)
    assert 1005.0 <= clock.now < 1006.0


def test_one_request_goes_first(clock: Clock) -> None:
    """The first request of a period is refused: no other begins before the time that it was told."""
    gate = RateGate()
    enter(gate, 21)
    gate.refused(5)
    enter(gate, 1, answered=False)
    assert 1005.0 == clock.now
    gate.refused(2)
    enter(gate, 20)

    assert 1007.0 == clock.now


def test_what_was_taken_long_ago_does_not_count(clock: Clock) -> None:
    """A hundred images in an hour are no measure of what a second allows."""
    gate = RateGate()
    for _ in range(100):
        enter(gate, 1)
        clock.now += 36
    enter(gate, 2)
    gate.refused(5)

    enter(gate, 1)
    assert 1000 + 3600 + 5 == clock.now
    enter(gate, 1)
    assert clock.now >= 1000 + 3600 + 10


def test_a_limit_is_forgotten(clock: Clock) -> None:
    """A minute without a refusal opens it."""
    gate = RateGate()
    enter(gate, 2)
    gate.refused(1)
    clock.now += 61
    begun = clock.now
    enter(gate, 50)

    assert begun == clock.now
