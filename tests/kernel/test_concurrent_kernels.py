"""Concurrent kernels, clicks and stops: each image is paid for once, and Stop keeps the payment's state correct."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.states import AT_RISK, State
from blockrun_magic.studio import Options, Progress, Studio
from blockrun_magic.studio.payment import signers as signed_module
from fakes.gateway import Exchange, Merchant, Reply, studio_over
from harness.crash import Job, Nursery, nursery, practice_gateway, settlements_of

_REQUEST = ImageRequest("generate", "a heron in the reeds", "google/nano-banana")
_PRICE = 52_500
_SLOW_CELL = 1


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a practice gateway in another process."""
    with practice_gateway(tmp_path_factory.mktemp("practice")) as url:
        yield url


@pytest.fixture(scope="module")
def kernels() -> Iterator[Nursery]:
    """Return a source of kernels."""
    with nursery() as kernels:
        yield kernels


def _side_by_side(kernels: Nursery, *jobs: Job) -> list[dict[str, Any]]:
    """Run the jobs concurrently over one folder, and return the results of their cells."""
    runs = [kernels.start(job) for job in jobs]
    results = [result for run in runs for result in run.outcome()["results"]]

    assert [None] * len(results) == [result["error"] for result in results]
    return results


def test_two_kernels_running_the_same_cell_buy_one_picture(kernels: Nursery, url: str, tmp_path: Path) -> None:
    """The second kernel waits for the first and gets its image at $0."""
    jobs = [Job(str(tmp_path), url, "two kernels", (_SLOW_CELL,), session=name) for name in ("one", "two")]
    results = _side_by_side(kernels, *jobs)
    [paid] = settlements_of(url, "two kernels")

    assert 2 == len(results)
    assert results[0]["files"] == results[1]["files"]
    assert [0, int(paid["amount"])] == sorted(result["cost"] for result in results)


def test_four_kernels_running_all_cells_buy_each_once(kernels: Nursery, url: str, tmp_path: Path) -> None:
    """Four different images are paid for once each, whichever kernel buys them."""
    jobs = [Job(str(tmp_path), url, "four kernels", at_once=True, session=str(number)) for number in range(4)]
    results = _side_by_side(kernels, *jobs)
    paid = settlements_of(url, "four kernels")

    assert 16 == len(results)
    assert 4 == len(paid)
    assert sum(int(line["amount"]) for line in paid) == sum(result["cost"] for result in results)


def test_fresh_in_two_kernels_buys_two_takes(kernels: Nursery, url: str, tmp_path: Path) -> None:
    """With `--fresh`, each kernel buys its own take."""
    jobs = [Job(str(tmp_path), url, "two takes", (_SLOW_CELL,), fresh=True, session=name) for name in ("one", "two")]
    results = _side_by_side(kernels, *jobs)
    paid = settlements_of(url, "two takes")

    assert [1, 2] == sorted(result["take"] for result in results)
    assert results[0]["files"] != results[1]["files"]
    assert sorted(int(line["amount"]) for line in paid) == sorted(result["cost"] for result in results)


# -- one kernel, concurrent runs


async def _hurried(exchange: Exchange) -> Reply | None:
    await asyncio.sleep(0.05)
    return None


def test_a_double_click_pays_once(tmp_path: Path) -> None:
    """Two concurrent runs of one cell have one payment and one image."""

    async def clicks(merchant: Merchant) -> list[int]:
        async with studio_over(tmp_path) as studio:
            makes = (studio.make(_REQUEST, merchant.gateway) for _ in range(2))
            return [result.cost_micros for result in await asyncio.gather(*makes)]

    with Merchant(time.time, {"paid": _hurried}) as merchant:
        costs = asyncio.run(clicks(merchant))

        assert [0, _PRICE] == sorted(costs)
        assert 1 == len(merchant.shown)
        assert _PRICE == merchant.chain.total


# -- stop


class _Gate:
    """A point at which the merchant waits until the test releases it."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    async def act(self, exchange: Exchange) -> Reply | None:
        self.reached.set()
        await asyncio.to_thread(self.open.wait)
        return None


async def _stopped(studio: Studio, merchant: Merchant, when: threading.Event, then: Callable[[], None]) -> None:
    """Start the cell, cancel it at `when`, then call `then`."""
    cell = asyncio.create_task(studio.make(_REQUEST, merchant.gateway, Options(), Progress()))
    await asyncio.to_thread(when.wait)
    cell.cancel()
    then()
    with suppress(asyncio.CancelledError):
        await cell

    assert cell.cancelled()


def test_a_stop_before_the_signature_sends_nothing(tmp_path: Path) -> None:
    """A cell stopped during its quote signs nothing and reserves nothing."""
    gate = _Gate()

    async def cell(merchant: Merchant) -> None:
        async with studio_over(tmp_path) as studio:
            await _stopped(studio, merchant, gate.reached, gate.open.set)

    with Merchant(time.time, {"challenge": gate.act}) as merchant:
        asyncio.run(cell(merchant))

        assert [] == merchant.shown
    with closing(Ledger(tmp_path / "ledger.sqlite", "later")) as ledger:
        assert [] == ledger.open_payments(tuple(State))
        assert 0 == ledger.committed("practice").day


@pytest.mark.parametrize(
    ("place", "name"), [(signed_module, "sign_payment"), (Ledger, "authorize")], ids=["made", "recorded"]
)
def test_a_stop_before_it_counts_as_sent_releases_the_reservation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str
) -> None:
    """A signature that is created or recorded during a stop is not sent, and its reservation is released."""
    working, go_on = threading.Event(), threading.Event()
    work = getattr(place, name)

    def slowly(*args: Any) -> Any:
        working.set()
        go_on.wait()
        return work(*args)

    async def cell(merchant: Merchant) -> None:
        async with studio_over(tmp_path) as studio:
            await _stopped(studio, merchant, working, go_on.set)

    monkeypatch.setattr(place, name, slowly)
    with Merchant(time.time) as merchant:
        asyncio.run(cell(merchant))

        assert [] == merchant.shown
    with closing(Ledger(tmp_path / "ledger.sqlite", "later")) as ledger:
        [payment] = ledger.open_payments(tuple(State))

        assert State.RELEASED is payment.state
        assert payment.payload is None or payment.payload.header_value is None
        assert 0 == ledger.committed("practice").day


def test_a_stop_after_the_signature_lets_the_purchase_go_on(tmp_path: Path) -> None:
    """The cell ends immediately, the purchase completes in the background, and the next run gets its image at $0."""
    gate = _Gate()

    async def cells(merchant: Merchant) -> None:
        async with studio_over(tmp_path) as studio:
            await _stopped(studio, merchant, gate.reached, gate.open.set)
            again = await studio.make(_REQUEST, merchant.gateway)

            assert again.receipt.cached
            assert again.receipt.settled
            assert 0 == again.cost_micros
            assert [] == studio.ledger.open_payments(AT_RISK)

    with Merchant(time.time, {"paid": gate.act}) as merchant:
        asyncio.run(cells(merchant))

        assert 1 == len(merchant.shown)
        assert _PRICE == merchant.chain.total


def test_a_kernel_that_ends_after_a_stop_loses_nothing(tmp_path: Path) -> None:
    """If the kernel ends after a stop, the next kernel completes the purchase with the same payment."""
    gate = _Gate()

    async def first(merchant: Merchant) -> None:
        async with studio_over(tmp_path, session="first") as studio:
            await _stopped(studio, merchant, gate.reached, lambda: None)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()  # the end of a process also cancels its tasks

    async def second(merchant: Merchant) -> None:
        async with studio_over(tmp_path, session="second") as studio:
            result = await studio.make(_REQUEST, merchant.gateway)

            assert result.receipt.settled

    with Merchant(time.time, {"paid": gate.act}) as merchant:
        asyncio.run(first(merchant))
        gate.open.set()
        asyncio.run(second(merchant))

        assert 1 == len({shown.header for shown in merchant.shown})
        assert _PRICE == merchant.chain.total
