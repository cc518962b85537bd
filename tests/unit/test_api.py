"""The Python API: a notebook's calls share its gateway and limits, a script's calls use the remembered gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.api import agenerate, generate, list_payments
from blockrun_magic.errors import BlockrunError, BudgetError, LessonError, Money, StoreError, UsageError
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.notebook.config_file import remember_gateway
from blockrun_magic.notebook.loop import LoopThread
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio import ImageResult, Studio
from blockrun_magic.studio.lessons.lesson import open_lesson
from blockrun_magic.studio.lessons.open_lessons import OpenLessons
from blockrun_magic.wiring import blockrun_home, open_practice, open_studio, set_notebook

SMALL: dict[str, Any] = {"model": "cogview", "size": "512x512"}
PRICE = 15_750
RECORD: dict[str, Any] = {
    "endpoint": "/v1/images/generations",
    "uploads": [],
    "prompt": "a fox",
    "model": "zai/cogview-4",
    "size": "512x512",
    "quality": None,
    "n": 1,
    "image": [],
    "mask": None,
}


class FakeNotebook:
    """A notebook that uses practice."""

    def __init__(self) -> None:
        self.loop_thread = LoopThread()
        self.studio = open_studio()
        self.cache_only = False
        self.names: list[str | None] = []

    @property
    def lessons(self) -> OpenLessons:
        """Return the lessons of the studio."""
        return self.studio.lessons

    def studio_and_gateway(self, name: str | None = None) -> tuple[Studio, Gateway]:
        """Return the studio and the practice gateway."""
        self.names.append(name)
        return self.studio, open_practice()[0]

    def is_cache_only(self) -> bool:
        """Return the notebook's mode."""
        return self.cache_only

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start the coroutine on the loop."""
        return self.loop_thread.submit(work)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run the coroutine on the loop."""
        return self.loop_thread.run(work)


@pytest.fixture
def practice(monkeypatch: pytest.MonkeyPatch) -> Iterator[PracticeServer]:
    """Return a shared practice gateway."""
    with PracticeServer() as server:
        monkeypatch.setenv("BLOCKRUN_PRACTICE_URL", server.url)
        yield server


@pytest.fixture
def notebook(practice: PracticeServer) -> Iterator[FakeNotebook]:
    """Return the notebook of this process."""
    fake = FakeNotebook()
    set_notebook(fake)
    yield fake
    set_notebook(None)
    fake.loop_thread.close(fake.studio.close())


def test_calls_are_the_notebooks(notebook: FakeNotebook) -> None:
    """Every call, awaited or not, uses the notebook's studio, gateway and session limit."""
    notebook.studio.ledger.set_caps(session=3 * PRICE - 1)
    first = generate("a fox", **SMALL)
    second = asyncio.run(agenerate("a hen", **SMALL))
    with pytest.raises(BudgetError):
        generate("an owl", **SMALL)

    assert {"practice"} == {result.receipt.realm for result in (first, second)}
    assert {None} == {*notebook.names}
    assert 2 * PRICE == notebook.studio.ledger.committed("practice").session
    assert 2 == len(list_payments().to_records())


def test_a_running_loop_is_no_obstacle_in_a_notebook(notebook: FakeNotebook) -> None:
    """`generate` works in a cell while Jupyter's own loop runs."""

    async def cell() -> ImageResult:
        return generate("a fox", **SMALL)

    assert "practice" == asyncio.run(cell()).receipt.realm


def test_the_mode_of_the_notebook_holds(notebook: FakeNotebook) -> None:
    """If the notebook may use stored images only, the API buys none."""
    notebook.cache_only = True
    with pytest.raises(StoreError):
        generate("a fox", **SMALL)


def test_a_studio_of_your_own_belongs_to_the_session(notebook: FakeNotebook, tmp_path: Path) -> None:
    """In a notebook, a separate studio uses the cells' gateway, open lessons and mode."""
    _strict(tmp_path)
    own = open_studio()

    async def call(prompt: str) -> str:
        return (await agenerate(prompt, studio=own, **SMALL)).receipt.realm

    async def calls() -> None:
        notebook.lessons.open(open_lesson(tmp_path / "fox.pictures"))
        with pytest.raises(LessonError):
            await call("a fox")
        notebook.lessons.close()
        assert "practice" == await call("a fox")
        notebook.cache_only = True
        with pytest.raises(StoreError):
            await call("a hen")
        await own.close()

    asyncio.run(calls())


def test_a_script_uses_the_remembered_gateway(practice: PracticeServer) -> None:
    """A remembered gateway applies to scripts, and their calls share one session limit."""
    remember_gateway(blockrun_home(), "practice")
    studio = open_studio()
    studio.ledger.set_caps(session=2 * PRICE)
    results = [generate(prompt, **SMALL) for prompt in ("a fox", "a hen", "a fox")]
    with pytest.raises(BudgetError):
        generate("an owl", **SMALL)
    studio.ledger.close()

    assert {"practice"} == {result.receipt.realm for result in results}
    assert [PRICE, PRICE, 0] == [result.cost_micros for result in results]


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": 0},
        {"n": "1"},
        {"max_price": "a lot"},
        {"max_price": ""},
        {"gateway": "nowhere"},
        {"model": 7},
        {"size": 7},
    ],
    ids=str,
)
def test_bad_arguments_are_two_lines(practice: PracticeServer, arguments: dict[str, Any]) -> None:
    """Invalid arguments cause an error of ours, and nothing is bought."""
    with pytest.raises(BlockrunError):
        generate("a fox", **{"gateway": "practice", **SMALL, **arguments})


def test_a_prompt_that_is_no_text(practice: PracticeServer) -> None:
    """A prompt that is not text causes an error of ours."""
    with pytest.raises(BlockrunError):
        generate(None, gateway="practice")  # type: ignore[arg-type]


def test_usage_errors_have_a_hint() -> None:
    """The error for an invalid price has a hint."""
    with pytest.raises(UsageError) as caught:
        generate("a fox", gateway="practice", max_price="ten")

    assert caught.value.hint


def _damaged(folder: Path) -> None:
    (folder / "fox.pictures").mkdir()
    (folder / "fox.pictures" / "lesson.json").write_text("{", "utf-8")


def _without_index(folder: Path) -> None:
    (folder / "fox.pictures").mkdir()
    (folder / "fox.pictures" / f"{'ab' * 32}.png").write_bytes(b"")


def _strict(folder: Path) -> None:
    (folder / "fox.pictures").mkdir()
    index = {"format": 1, "name": "fox", "missing": "error", "answers": []}
    (folder / "fox.pictures" / "lesson.json").write_text(json.dumps(index), "utf-8")


LESSONS = {"damaged": _damaged, "without an index": _without_index, "strict": _strict}


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
@pytest.mark.parametrize("gateway", ["practice", None])
def test_a_lesson_stops_a_script(
    lesson: Callable[[Path], None],
    gateway: str | None,
    practice: PracticeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A strict lesson, or one that cannot be read, forbids purchases from every gateway."""
    lesson(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LessonError) as refused:
        generate("a fox", gateway=gateway, **SMALL)

    assert Money.nothing_signed() == refused.value.money
    assert [] == list(list_payments(money="practice"))


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_a_lesson_stops_a_notebook(
    lesson: Callable[[Path], None], notebook: FakeNotebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lesson refuses a call, `resume` and a reservation, until it is closed."""
    purchase = notebook.studio.ledger.create_purchase("practice", "practice", "sha256:00", 1, RECORD, private=False)
    lesson(tmp_path)
    monkeypatch.chdir(tmp_path)
    at = notebook.studio_and_gateway()[1]
    with pytest.raises(LessonError):
        generate("a fox", **SMALL)
    with pytest.raises(LessonError):
        notebook.run(notebook.studio.resume(purchase, at))
    with pytest.raises(LessonError):
        notebook.studio.ledger.reserve(purchase, PRICE)
    with pytest.raises(LessonError):
        notebook.studio.ledger.hold("practice", PRICE)
    assert [] == list(list_payments(money="practice"))

    notebook.studio.lessons.close()
    assert "practice" == generate("a fox", **SMALL).receipt.realm


def test_beside_a_lesson_a_script_practices(
    practice: PracticeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Practice makes images that the lesson lacks, unless a gateway is named."""
    _strict(tmp_path)
    path = tmp_path / "fox.pictures" / "lesson.json"
    path.write_text(path.read_text("utf-8").replace("error", "practice"), "utf-8")
    monkeypatch.chdir(tmp_path)

    assert practice.url
    assert "practice" == generate("a fox", **SMALL).receipt.realm
