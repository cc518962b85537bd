"""The loop never stands still: not for a locked ledger, large files, the user's own code or many images."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import pytest
from PIL import Image

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.images.source import read_upload
from blockrun_magic.images.store import Store
from blockrun_magic.notebook import loop
from blockrun_magic.notebook.background import BackgroundJob
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.run import _in_background
from blockrun_magic.notebook.loop import LoopThread, _Cancellation
from blockrun_magic.payments.ledger.records import StoredImage
from blockrun_magic.payments.wallets.evm import practice_wallet
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio import BatchProgress, Options, Studio, make_all
from blockrun_magic.studio.results.result import ImageResult, Receipt
from blockrun_magic.threads import run_cpu, run_io
from fakes.gateway import studio_over
from harness import PATIENCE
from harness.probe import Probe, probed

T = TypeVar("T")

STANDSTILL = 1.0
"""Seconds by the clock: the blocks below take twice as long, and a busy machine causes much shorter pauses."""
COMPUTING = 0.05
"""Seconds of processor time between two steps of the loop."""
LOCKED = 2.5


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Yield a practice gateway for this module."""
    with PracticeServer() as server:
        yield practice_at(server.url)


async def with_studio(folder: Path, use: Callable[[Studio], Coroutine[Any, Any, T]]) -> T:
    """Open a studio over `folder`, and return the result of `use`."""
    async with studio_over(folder, wallet=practice_wallet()) as studio:
        return await use(studio)


@contextmanager
def locked(folder: Path, seconds: float = LOCKED) -> Iterator[None]:
    """Hold the ledger's write lock for a while, like another program."""
    held = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held.set()
            time.sleep(seconds)
            other.execute("ROLLBACK")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE)
    try:
        yield
    finally:
        thread.join()


def check(probe: Probe) -> None:
    """Assert that the loop did not stand still."""
    assert STANDSTILL > probe.seconds
    assert COMPUTING > probe.computing


def request(prompt: str) -> ImageRequest:
    """Return a request for a small image."""
    return ImageRequest("generate", prompt, "zai/cogview-4", "512x512")


def test_a_locked_ledger(tmp_path: Path, gateway: Gateway) -> None:
    """While another program writes, an image waits and all other work continues."""

    async def use(studio: Studio) -> Probe:
        await studio.make(request("before"), gateway)
        async with probed() as probe:
            with locked(tmp_path):
                await studio.make(request("meanwhile"), gateway)
        return probe

    check(asyncio.run(with_studio(tmp_path, use)))


def test_many_images_at_once(tmp_path: Path, gateway: Gateway) -> None:
    """The loop does not block while 64 images are bought, read, checked and stored."""

    async def use(studio: Studio) -> Probe:
        await studio.make(request("before"), gateway)
        requests = [ImageRequest("generate", f"number {number}", "openai/dall-e-2", "256x256") for number in range(64)]
        async with probed() as probe:
            results = await make_all(studio, requests, gateway, Options(), BatchProgress(64), 64)
        assert 64 == len(results)
        return probe

    check(asyncio.run(with_studio(tmp_path, use)))


class Slow:
    """An object of the user with a slow image."""

    @property
    def image(self) -> Image.Image:
        """The image, after a delay."""
        time.sleep(2 * STANDSTILL)
        return Image.new("RGB", (64, 64))


def test_a_slow_property_of_the_users() -> None:
    """The user's code for reading a variable runs in a thread of its own."""

    async def main() -> Probe:
        async with probed() as probe, asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(read_upload(Slow(), None))  # type: ignore[arg-type]
        return probe

    check(asyncio.run(main()))


class SmallResult:
    """A result that is saved at once."""

    images = (Image.new("RGB", (8, 8)),)
    stored = ()

    def save(self, _: str) -> list[Path]:
        """Write nothing."""
        return [Path("out.png")]


def large_result(folder: Path) -> ImageResult:
    """Return a result with an image of 25 megapixels, which must be decoded and encoded again."""
    image = Image.linear_gradient("L").resize((5000, 5000)).convert("RGB")
    file = io.BytesIO()
    image.save(file, "JPEG")
    store = Store(folder / "store")
    digest = store.put(file.getvalue(), "image/jpeg")
    receipt = Receipt(1, "practice", "practice", None, None, None, 1.8e9, "sha256:1", 1, "abc", settled=True)
    stored = [StoredImage(digest, "image/jpeg", *image.size)]
    files = [store.path(digest, "image/jpeg")]
    return ImageResult({"model": "m", "prompt": "p", "n": 1}, receipt, stored, files, 1.0, [image])


class Notebook:
    """The parts of a notebook that a background job needs."""

    def __init__(self, loop_thread: LoopThread) -> None:
        self.session = SimpleNamespace(
            loop_thread=loop_thread, backgrounds=[], settings=SimpleNamespace(image_name="img")
        )
        self.showing = SimpleNamespace(show=lambda *_, **__: time.sleep(1.5 * STANDSTILL))
        self.shell = SimpleNamespace(push=lambda _: None)


class Line:
    """A live line without a display."""

    label = "an image"

    def __getattr__(self, name: str) -> Callable[..., str]:
        return lambda *_: ""


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    """Yield a loop thread, which is closed after the test."""
    loop_thread = LoopThread()
    yield loop_thread
    loop_thread.close()


def in_background(
    loop_thread: LoopThread, work: Callable[[], Coroutine[Any, Any, Any]], sent: bool = False, save: str = "out.png"
) -> BackgroundJob:
    """Start `work` like a cell with --background."""
    context: Any = Notebook(loop_thread)
    line: Any = Line()
    return _in_background(context, line, work, Flags("a cat", save=save), lambda: sent)


def test_a_large_image_is_saved_in_the_background(
    loop_thread: LoopThread, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The loop does not block while 25 megapixels are saved in another format and shown."""
    large, path = large_result(tmp_path), tmp_path / "out.png"
    monkeypatch.setattr("blockrun_magic.notebook.cells.run.record_cell", lambda *_: None)
    monkeypatch.setattr("blockrun_magic.notebook.cells.run._purchase_ids", lambda _: [])

    async def make() -> ImageResult:
        return large

    async def watch() -> Probe:
        async with probed() as probe:
            await in_background(loop_thread, make, save=str(path))
        return probe

    check(loop_thread.submit(watch()).result(PATIENCE))
    with Image.open(path) as image:
        assert ("PNG", (5000, 5000)) == (image.format, image.size)


def test_a_job_is_never_waited_for_on_the_loop(loop_thread: LoopThread) -> None:
    """Code on the loop must await a job; a blocking wait would never end, so it is an error."""
    release = threading.Event()

    async def make() -> SmallResult:
        await run_io(release.wait, PATIENCE)
        return SmallResult()

    job = in_background(loop_thread, make)

    async def ask() -> None:
        job.result()

    with pytest.raises(BlockrunError):
        loop_thread.run(ask())
    release.set()


@pytest.mark.parametrize("sent", [False, True])
def test_a_job_that_was_not_sent_is_cancelled(loop_thread: LoopThread, sent: bool) -> None:
    """`cancel` returns the truth: a job that was sent continues, another one ends."""
    begun, ended = threading.Event(), threading.Event()

    async def make() -> SmallResult:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended.set()
        return SmallResult()

    job = in_background(loop_thread, make, sent=sent)
    begun.wait(PATIENCE)

    assert job.cancel() is not sent
    assert job.done() is not sent
    assert ended.wait(0 if sent else PATIENCE) is not sent


class CountedCancellation(_Cancellation):
    """A cancellation that records the limits of its waits."""

    waits: ClassVar[list[float]] = []

    class Ended(threading.Event):
        """The end of the work."""

        def wait(self, timeout: float | None = None) -> bool:
            """Record the limit, and wait."""
            CountedCancellation.waits.append(PATIENCE if timeout is None else timeout)
            return super().wait(timeout)

    def __init__(self) -> None:
        super().__init__()
        self._ended = self.Ended()


@pytest.mark.parametrize("blocked", ["ledger", "image"])
def test_stop_is_heard_at_once(loop_thread: LoopThread, blocked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupt reaches the cell during any blocking work: all waits before it take less than 0.3 s."""
    monkeypatch.setattr(loop, "_Cancellation", CountedCancellation)
    monkeypatch.setattr(CountedCancellation, "waits", [])
    begun, release = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        release.wait(PATIENCE)

    async def work() -> None:
        await (run_io if blocked == "ledger" else run_cpu)(block)

    def tick() -> None:
        if begun.is_set():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop_thread.run(work(), tick)

    # The work is still blocked here: the cell did not wait for its end.
    release.set()
    assert 1 == len(CountedCancellation.waits)
    assert 0.3 > loop._POLL_INTERVAL + sum(CountedCancellation.waits)
