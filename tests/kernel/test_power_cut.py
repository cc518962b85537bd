"""A power cut during a purchase or at the end of a batch: each image is paid for once, and no paid image is lost.

The simulated disk keeps all data after `fsync`, and loses the other data completely or in part.
Disks that ignore `fsync` and partly written sectors are not simulated.
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
    """Buy one image or the batch; return the number of images."""
    if not batch:
        return len((await studio.make(REQUEST, gateway)).images)
    return len(await make_all(studio, BATCH, gateway, Options(), BatchProgress(len(BATCH)), len(BATCH)))


@dataclass(frozen=True)
class Run:
    """A recorded purchase, and the gateway's ledger afterwards."""

    home: Path
    events: list[Event]
    books: Path
    paid_at: int
    """The index of the event that sent the payment, or the last payment of a batch."""
    batch: bool = False


def recorded(folder: Path, *, batch: bool) -> Run:
    """Record a purchase or a batch."""
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
    """Return a recorded purchase."""
    return recorded(tmp_path_factory.mktemp("power"), batch=False)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a recorded batch."""
    return recorded(tmp_path_factory.mktemp("batch"), batch=True)


def _moments(run: Run) -> Iterator[int]:
    """Yield the events that may change the state after a power cut: syncs, changes of names, and sends.

    If folders are created in a row, as in the store, only the first, the second and the last one count.
    """
    folders = 0
    for number, (event, following) in enumerate(zip(run.events, [*run.events[1:], None], strict=True)):
        folders = folders + 1 if event.kind == "mkdir" else 0
        in_between = folders > 2 and following is not None and following.kind == "mkdir"
        if event.kind in ("sync", "rename", "link", "unlink", "mkdir", "send") and not in_between:
            yield number
    yield len(run.events) - 1


def _collect(home: Path, server: PracticeServer, *, batch: bool) -> tuple[int, int]:
    """Run the purchase again on the remaining files; return the numbers of payments and images."""

    async def again() -> int:
        studio = open_studio({"BLOCKRUN_HOME": str(home)})
        try:
            return await make(studio, practice_at(server.url), batch=batch)
        finally:
            await studio.close()

    images = asyncio.run(again())
    return len(httpx.get(f"{server.url}/practice/ledger", timeout=PATIENCE).json()["settlements"]), images


def test_the_record_is_whole(run: Run) -> None:
    """The recording has the ledger's files, and syncs before the payment."""
    kinds = [event.kind for event in run.events[: run.paid_at]]

    assert {"sync", "write", "create", "mkdir"} <= set(kinds)
    assert {"ledger.sqlite", "ledger.sqlite-wal"} <= {Path(event.path).name for event in run.events}


def test_few_waits_for_the_disk(run: Run) -> None:
    """After the payment there are at most 8 syncs: file, folders, witness, completion and the emptied log."""
    waits = [Path(event.path).name for event in run.events[run.paid_at :] if event.kind == "sync"]

    assert len(waits) <= 8, waits


@pytest.mark.parametrize("fate", ["cut", "kill", "luck 1", "luck 2"])
def test_power_fails_at_any_moment(run: Run, tmp_path: Path, fate: str) -> None:
    """After a power cut at any moment, the next run ends with one payment and one image."""
    _fail(run, tmp_path, fate)


def test_power_fails_at_the_end_of_a_batch(batch: Run, tmp_path: Path) -> None:
    """After a power cut at the end of a batch, the next run ends with three payments and three images."""
    _fail(batch, tmp_path, "luck")


def _fail(run: Run, tmp_path: Path, fate: str) -> None:
    """Cut the power after each moment, then buy again; in a batch, only after the last payment."""
    disk, done = Disk(run.home), -1
    luck = random.Random(fate) if fate.startswith("luck") else None  # noqa: S311  the same luck every time
    images = len(BATCH) if run.batch else 1
    for moment in _moments(run):
        for event in run.events[done + 1 : moment + 1]:
            disk.happen(event)
        done = moment
        # The payment may be settled as soon as it is sent; before that, the gateway does not know it.
        for settled in {moment >= run.paid_at, moment > run.paid_at}:
            if run.batch and not (settled and run.events[moment].kind in ("sync", "rename")):
                continue  # the earlier moments are those of a single purchase
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
