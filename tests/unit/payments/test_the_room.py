"""SQL stays in the ledger's room, and errors are never rebuilt or searched for their text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import blockrun_magic

ROOT = Path(blockrun_magic.__file__).parent
LEDGER = ROOT / "payments" / "ledger"
SOURCES = sorted(ROOT.rglob("*.py"))

_OTHER_ROOMS = {"practice", "classroom", "database"}
"""Folders with databases of their own."""


def _calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("name", ["query", "transaction"])
def test_no_sql_outside_the_ledger(name: str) -> None:
    """Whoever asks the ledger asks a named question."""
    elsewhere = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        if LEDGER not in path.parents
        and not {"practice", "classroom", "database"} & set(path.parts)  # with rooms of their own
        for call in _calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr == name
    ]

    assert [] == elsewhere


def test_no_error_is_rebuilt() -> None:
    """`type(error)(…)` would lose what the error carries: `error.money` is set instead."""
    rebuilt = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        for call in _calls(path)
        if isinstance(call.func, ast.Call) and isinstance(call.func.func, ast.Name) and call.func.func.id == "type"
    ]

    assert [] == rebuilt
