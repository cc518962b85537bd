"""Rules of the payments code: SQL stays in the ledger's folder, and errors are never rebuilt or searched for text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import blockrun_magic

ROOT = Path(blockrun_magic.__file__).parent
LEDGER = ROOT / "payments" / "ledger"
SOURCES = sorted(ROOT.rglob("*.py"))

_OTHER_ROOMS = {"practice", "classroom", "database"}
"""Folders with databases of their own."""


@pytest.fixture(scope="module")
def nodes() -> dict[Path, list[ast.AST]]:
    """Return the syntax trees of the package, read once for these tests."""
    return {path: list(ast.walk(ast.parse(path.read_text("utf-8")))) for path in SOURCES}


def _calls(nodes: list[ast.AST]) -> Iterator[ast.Call]:
    yield from (node for node in nodes if isinstance(node, ast.Call))


@pytest.mark.parametrize("name", ["query", "transaction"])
def test_no_sql_outside_the_ledger(nodes: dict[Path, list[ast.AST]], name: str) -> None:
    """Other modules call named methods of the ledger."""
    elsewhere = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        if LEDGER not in path.parents
        and not {"practice", "classroom", "database"} & set(path.parts)  # these have databases of their own
        for call in _calls(nodes[path])
        if isinstance(call.func, ast.Attribute) and call.func.attr == name
    ]

    assert [] == elsewhere


def test_no_error_is_rebuilt(nodes: dict[Path, list[ast.AST]]) -> None:
    """`type(error)(…)` would lose the error's fields: code sets `error.money` instead."""
    rebuilt = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        for call in _calls(nodes[path])
        if isinstance(call.func, ast.Call) and isinstance(call.func.func, ast.Name) and call.func.func.id == "type"
    ]

    assert [] == rebuilt


def test_no_text_of_an_error_is_searched_or_changed(nodes: dict[Path, list[ast.AST]]) -> None:
    """Code uses an error's type and its fields; `message` and `hint` are for people."""
    texts = {"message", "hint"}

    def is_text(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr in texts

    uses = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        for path in SOURCES
        for node in nodes[path]
        if (isinstance(node, ast.Compare) and any(is_text(each) for each in (node.left, *node.comparators)))
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_text(node.func.value))
        or (
            isinstance(node, ast.Assign | ast.AugAssign)
            and any(
                is_text(target) and ast.unparse(target) not in ("self.message", "self.hint", "progress.hint")
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            )
        )
    ]

    assert [] == uses


def test_the_notebook_asks_the_studio_and_not_its_ledger(nodes: dict[Path, list[ast.AST]]) -> None:
    """Cells, commands and panel use `studio.records`; only the session opens the ledger."""
    asks = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "notebook").rglob("*.py"))
        if path.name != "session.py"
        for node in nodes[path]
        if (isinstance(node, ast.Attribute) and node.attr == "ledger")
        or (isinstance(node, ast.ImportFrom) and node.module in _LEDGER_MODULES)
    ]

    assert [] == asks


_LEDGER_MODULES = {f"blockrun_magic.payments.ledger.{name}" for name in ("ledger", "queries", "reports", "purchases")}
