"""A power cut at any moment of a purchase, and of a batch's end: paid at most once, and nothing paid for is lost.

This holds for a disk that keeps what `fsync` promised, and loses everything else or an arbitrary part of it. It says
nothing of disks that lie about `fsync`, nor of sectors that are torn in the middle.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio import BatchProgress, Options, Studio, make_all
from blockrun_magic.wiring import open_studio
from harness import PATIENCE
from harness.kernel import clean_environ
from harness.power_cut import Disk, Event, events_of, run_traced

TESTS = Path(__file__).resolve().parent.parent
REQUEST = ImageRequest("generate", "a lighthouse", "openai/gpt-image-1")
BATCH = [ImageRequest("generate", f"lighthouse {number}", "zai/cogview-4", "512x512") for number in range(3)]
_PROGRAM = """
import asyncio, sys
sys.path.insert(0, sys.argv[3])
from blockrun_magic.gateway.gateways import practice_at
from blockrun_magic.wiring import open_studio
from kernel import test_power_cut as test

async def main():
    studio = open_studio()
    await test.make(studio, practice_at(sys.argv[1]), batch=sys.argv[2] == "batch")
    await studio.close()

asyncio.run(main())
"""


async def make(studio: Studio, gateway: Gateway, *, batch: bool) -> int:
    """Run the cell: one image, or several at once; return how many images came."""
    if not batch:
        return len((await studio.make(REQUEST, gateway)).images)
    return len(await make_all(studio, BATCH, gateway, Options(), BatchProgress(len(BATCH)), len(BATCH)))


@dataclass(frozen=True)
class Run:
    """A purchase as it happened, and the gateway's books afterwards."""

    home: Path
    events: list[Event]
    books: Path
    paid_at: int
    """The number of the event with which the payment left, the last one of a batch."""
    batch: bool = False


def recorded(folder: Path, *, batch: bool) -> Run:
    """Return a purchase, or a batch, that was recorded."""
    home = folder / "home"
    home.mkdir()
    with PracticeServer(db=folder / "books.sqlite") as server:
        environ = clean_environ(folder, BLOCKRUN_HOME=str(home))
        program = [sys.executable, "-c", _PROGRAM, server.url, "batch" if batch else "one", str(TESTS)]
        run_traced(program, folder / "trace", env=environ, cwd=folder)
    events = events_of(folder / "trace", home)
    paid = [number for number, event in enumerate(events) if b"payment-signature:" in event.data.lower()]
    return Run(home, events, folder / "books.sqlite", paid[-1], batch)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a purchase that was recorded."""
    return recorded(tmp_path_factory.mktemp("power"), batch=False)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a batch that was recorded."""
    return recorded(tmp_path_factory.mktemp("batch"), batch=True)


def _moments(run: Run) -> Iterator[int]:
    """Yield the events after which the disk may be in another state than before: syncs, names and sends.

    Of folders that are created in a row, as the store's are, the first, the second and the last.
    """
    folders = 0
    for number, (event, following) in enumerate(zip(run.events, [*run.events[1:], None], strict=True)):
        folders = folders + 1 if event.kind == "mkdir" else 0
        in_between = folders > 2 and following is not None and following.kind == "mkdir"
        if event.kind in ("sync", "rename", "link", "unlink", "mkdir", "send") and not in_between:
            yield number
    yield len(run.events) - 1


def _collect(home: Path, server: PracticeServer, *, batch: bool) -> tuple[int, int]:
    """Run the cell again on what is left; return how many payments the gateway has, and how many images came."""

    async def again() -> int:
        studio = open_studio({"BLOCKRUN_HOME": str(home)})
        try:
            return await make(studio, practice_at(server.url), batch=batch)
        finally:
            await studio.close()

    images = asyncio.run(again())
    return len(httpx.get(f"{server.url}/practice/ledger", timeout=PATIENCE).json()["settlements"]), images


def test_the_record_is_whole(run: Run) -> None:
    """The replay of everything is what the process left, and there were syncs before the payment left."""
    kinds = [event.kind for event in run.events[: run.paid_at]]

    assert {"sync", "write", "create", "mkdir"} <= set(kinds)
    assert {"ledger.sqlite", "ledger.sqlite-wal"} <= {Path(event.path).name for event in run.events}


def test_few_waits_for_the_disk(run: Run) -> None:
    """Once before the payment leaves; then for the file, its folders, the witness, the end and the emptied log."""
    waits = [Path(event.path).name for event in run.events[run.paid_at :] if event.kind == "sync"]

    assert len(waits) <= 8, waits


@pytest.mark.parametrize("fate", ["cut", "kill", "luck 1", "luck 2"])
def test_power_fails_at_any_moment(run: Run, tmp_path: Path, fate: str) -> None:
    """Whatever survives, running the cell again ends with one payment and one image."""
    _fail(run, tmp_path, fate)


def test_power_fails_at_the_end_of_a_batch(batch: Run, tmp_path: Path) -> None:
    """Its deliveries go to the disk together, at its end: whatever survives, three payments bring three images."""
    _fail(batch, tmp_path, "luck")


def _fail(run: Run, tmp_path: Path, fate: str) -> None:
    """Cut the power after each moment, or after each sync at the end of a batch, and run the cell on what is left."""
    disk, done = Disk(run.home), -1
    luck = random.Random(fate) if fate.startswith("luck") else None  # noqa: S311  the same luck every time
    images = len(BATCH) if run.batch else 1
    for moment in _moments(run):
        for event in run.events[done + 1 : moment + 1]:
            disk.happen(event)
        done = moment
        # The gateway may have settled as soon as the payment has left; until then it has heard of nothing.
        for settled in {moment >= run.paid_at, moment > run.paid_at}:
            if run.batch and not (settled and run.events[moment].kind in ("sync", "rename")):
                continue  # the beginning is that of each purchase
            place = tmp_path / f"{moment}-{settled}"
            place.mkdir()
            (disk.after_a_kill(place / "home") if fate == "kill" else disk.after_a_cut(place / "home", luck))
            if settled:
                shutil.copy(run.books, place / "books.sqlite")
            with PracticeServer(db=place / "books.sqlite") as server:
                outcome = _collect(place / "home", server, batch=run.batch)

            where = f"after event {moment} ({run.events[moment].kind} {run.events[moment].path})"
            assert (images, images) == outcome, where
            shutil.rmtree(place)
