"""Wiring: paths of a home, one session for each process, and a practice ledger that can be replaced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blockrun_magic.errors import BlockrunError, LedgerError, UsageError
from blockrun_magic.wiring import blockrun_home, open_practice, open_studio, process_session


def test_a_relative_home_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path becomes absolute when it is first read, so a change of folder does not move the home."""
    (tmp_path / "below").mkdir()
    name = f"money-{tmp_path.name}"
    monkeypatch.chdir(tmp_path)
    first = blockrun_home({"BLOCKRUN_HOME": name})
    monkeypatch.chdir("below")

    assert tmp_path / name == first == blockrun_home({"BLOCKRUN_HOME": name})


def test_a_home_that_is_none_is_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of an unknown user causes a UsageError."""
    with pytest.raises(UsageError):
        blockrun_home({"BLOCKRUN_HOME": "~nobody-of-this-name/x"})


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null", "/dev/null/below"])
@pytest.mark.parametrize("call", [open_practice, open_studio])
def test_a_home_that_cannot_be_written_is_two_lines(call: Callable[..., object], home: str) -> None:
    """In a home that cannot be written, the studio and practice cause an error of ours."""
    with pytest.raises(BlockrunError):
        call({"BLOCKRUN_HOME": home})


DAMAGE: dict[str, Callable[[Path], object]] = {
    "random bytes": lambda path: path.write_bytes(os.urandom(9000)),
    "a text": lambda path: path.write_text("practice"),
    "a folder": Path.mkdir,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "bytes in the middle": lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 9000),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_practice_ledger_can_be_replaced(tmp_path: Path, damage: str) -> None:
    """A damaged practice ledger causes an error; `reset` starts a new one and renames the old file."""
    environ = {"BLOCKRUN_HOME": str(tmp_path)}
    path = tmp_path / "magic" / "practice.sqlite"
    _, stop = open_practice(environ)
    stop()
    for part in path.parent.glob("practice.sqlite-*"):
        part.unlink()
    if damage == "a folder":
        path.unlink()
    DAMAGE[damage](path)

    with pytest.raises(LedgerError):
        open_practice(environ)
    _, stop = open_practice(environ, reset=True)
    stop()

    assert [] != list(path.parent.glob("practice.sqlite.*.old"))


def test_one_session_for_all_calls(tmp_path: Path) -> None:
    """Two studios of one process count against the same session limit."""
    studios = [open_studio({"BLOCKRUN_HOME": str(tmp_path)}) for _ in range(2)]
    sessions = {studio.ledger.session for studio in studios}
    for studio in studios:
        studio.ledger.close()

    assert {process_session()} == sessions
