"""A kernel's session: the chosen gateway stays chosen, and a damaged lesson blocks purchases."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from pathlib import Path

import pytest

from blockrun_magic.errors import BlockrunError, LedgerError, LessonError
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.notebook.session import Session
from blockrun_magic.notebook.settings import Settings
from blockrun_magic.studio import Studio
from blockrun_magic.wiring import blockrun_home


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Return a session whose working directory is empty."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    opened = Session(Settings())
    yield opened
    opened.close()


def test_a_damaged_lesson_stops_every_cell(session: Session) -> None:
    """A damaged lesson stops every cell until the lesson is closed."""
    Path("fox.pictures").mkdir()
    Path("fox.pictures/lesson.json").write_text('{"format": 1, "answers": [')
    for _ in range(3):
        with pytest.raises(LessonError):
            session.studio_and_gateway()

    session.lessons.close()
    _, gateway = session.studio_and_gateway("practice")

    assert "practice" == gateway.realm


@pytest.mark.parametrize("name", ["nowhere", "http://example.com", "practise"])
def test_a_gateway_that_cannot_be_used_is_not_replaced(session: Session, name: str) -> None:
    """After a failed `use`, nothing is bought until a usable gateway is chosen."""
    with pytest.raises(BlockrunError):
        session.selection.use(name)
    for _ in range(2):
        with pytest.raises(BlockrunError):
            session.studio_and_gateway()

    session.selection.use("practice")
    assert "practice" == session.studio_and_gateway()[1].realm


def test_practice_stays_chosen_when_its_ledger_is_damaged(session: Session) -> None:
    """With a damaged practice ledger, cells fail instead of buying on Base; a new ledger repairs practice."""
    path = blockrun_home() / "magic" / "practice.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(os.urandom(5000))
    with pytest.raises(LedgerError):
        session.selection.use("practice")
    with pytest.raises(LedgerError):
        session.studio_and_gateway()

    gateway = session.selection.use("practice", reset_ledger=True)

    assert gateway is session.studio_and_gateway()[1]


def test_open_payments_are_looked_up_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open payments are looked up again in the same session, at growing intervals."""
    now: list[float] = [1000.0]
    asked: list[tuple[float, str]] = []

    def reconcile(_: Studio, gateway: Gateway) -> Coroutine[None, None, int]:
        asked.append((now[0], gateway.name))
        return asyncio.sleep(0, 0)

    monkeypatch.setattr(Studio, "reconcile", reconcile)
    monkeypatch.setattr(session.studio.ledger, "open_payments", lambda: ["a payment"])
    monkeypatch.setattr("blockrun_magic.notebook.session.monotonic", lambda: now[0])
    for _ in range(400):
        session.studio_and_gateway("practice")
        now[0] += 1

    assert [at for at, _ in asked] == [1000.0, 1060.0, 1180.0]
