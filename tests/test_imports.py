"""The package is built in floors: a module may use its own floor and those below, never one above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import blockrun_magic

PACKAGE = Path(blockrun_magic.__file__).parent
FLOORS = (
    {"errors", "suggest"},
    {"payments"},
    {"gateway"},
    {"pictures"},
    {"practice"},
    {"studio"},
    {"wiring"},
    {"api"},
    {"notebook"},
    {"__init__"},
)
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return a module's file as it is written in the package: "gateway/client"."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def floor_of(part: str) -> int:
    """Return the floor of a module or folder at the top of the package."""
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def imported(path: Path) -> set[str]:
    """Return the full names of all that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"

            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def importers_of(package: str) -> set[str]:
    """Return the modules that import `package` or anything inside it."""
    return {
        name_of(path)
        for path in MODULES
        if any(name == package or name.startswith(f"{package}.") for name in imported(path))
    }


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_nothing_from_a_floor_above(path: Path) -> None:
    """Money knows nothing of notebooks: every import goes down, or stays on its floor."""
    own = floor_of(name_of(path).split("/")[0])
    ours = (name.split(".") for name in imported(path) if name.split(".")[0] == "blockrun_magic")
    tops = {parts[1] if (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists() else "__init__"
            for parts in ours}  # fmt: skip
    above = {top for top in tops if floor_of(top) > own}

    assert set() == above


def test_httpx_is_imported_in_one_place() -> None:
    """Only the client talks HTTP, so that there is one place to look at for what leaves the machine."""
    assert {"gateway/client"} == importers_of("httpx")


def test_only_the_notebook_knows_ipython() -> None:
    """Everything below the notebook runs where IPython is not installed."""
    elsewhere = {name for name in importers_of("IPython") if name.split("/")[0] not in {"notebook", "__init__"}}

    assert set() == elsewhere


@pytest.mark.parametrize("path", [path for path in MODULES if not path.stem.startswith("__")], ids=name_of)
def test_a_module_says_what_is_public(path: Path) -> None:
    """Every module has an `__all__`, and every name in it is defined there."""
    module = ast.parse(path.read_text("utf-8"))
    lists = [
        node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    ]

    assert 1 == len(lists)

    defined = {name for node in module.body for name in defined_by(node)}

    assert set() == set(ast.literal_eval(lists[0])) - defined


def defined_by(node: ast.stmt) -> set[str]:
    """Return the names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
