"""Structure of the package: imports go downward, and each module lists its public names."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import blockrun_magic

ROOT = Path(blockrun_magic.__file__).parent
PACKAGE = "blockrun_magic"
MAX_MODULES = 12
MAX_LINES = 300
MAX_FUNCTION_LINES = 40

FLOORS = (
    ("errors", "text", "safejson", "files", "threads", "garbage", "unexpected", "database"),
    ("payments",),
    ("gateway",),
    ("images", "serving"),
    ("practice",),
    ("studio",),
    ("wiring",),
    ("proxy",),
    ("notebook", "api", "classroom"),
    ("__init__", "__main__"),
)
"""Floors from the bottom up: a room (a folder or module of the package) imports from its own floor and those below."""

DOWNSTAIRS = {
    "practice": (
        *FLOORS[0],
        "payments",
        "gateway.catalog.catalog",
        "gateway.catalog.snapshot",
        "gateway.request",
        "serving",
        "practice",
    ),
}
"""Rooms with fewer allowed imports: practice plays the merchant, so it imports no client."""

ONLY_IN = {
    "httpx": ("gateway.client", "gateway.reading", "gateway.network", "classroom.hub"),
    "IPython": ("notebook", "__init__"),
    "ipywidgets": ("notebook",),
    "anywidget": ("notebook",),
    "traitlets": ("notebook",),
    "nest_asyncio2": ("notebook",),
    "starlette": ("serving", "practice", "proxy", "classroom"),
    "jinja2": ("classroom.page",),
    "prometheus_client": ("classroom.metrics",),
    "uvicorn": ("serving",),
    **dict.fromkeys(("eth_account", "eth_keys", "eth_utils", "coincurve", "Crypto"), ("payments.signing_library",)),
    "sqlite3": ("database", "practice"),
    "psycopg": ("database",),
}
"""Libraries, each with the only modules that may import it."""


@dataclass(frozen=True)
class Import:
    """An import: the importing module, the imported one and the line; own names lack the package's name."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    """Return every module by its name inside the package: "payments.x402", "payments", "__init__"."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


MODULES = modules()


@dataclass
class Sources:
    """Facts about all modules, collected from their syntax trees."""

    own: list[Import] = field(default_factory=list)
    foreign: list[Import] = field(default_factory=list)
    functions: dict[str, int] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)

    def read(self, name: str, tree: ast.Module) -> None:
        """Add a module."""
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions[f"{name}.{node.name}"] = (node.end_lineno or 0) - node.lineno + 1
            for found in imports(name, node):
                (self.own if found.imported in MODULES else self.foreign).append(found)
        offers = any(isinstance(node, ast.Assign) and "__all__" in ast.unparse(node.targets[0]) for node in tree.body)
        if not offers and len(tree.body) > 1:
            self.silent.append(name)


def imports(name: str, node: ast.AST) -> Iterator[Import]:
    """Yield the imports of a statement, including those inside functions and for type checkers."""
    if isinstance(node, ast.Import):
        yield from (Import(name, _inside(alias.name), node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{name}:{node.lineno} imports relatively"
        module = node.module or ""
        for alias in node.names:
            whole = _inside(f"{module}.{alias.name}")
            yield Import(name, whole if whole in MODULES else _inside(module), node.lineno)


def _inside(module: str) -> str:
    if module == PACKAGE:
        return "__init__"
    return module.removeprefix(f"{PACKAGE}.")


@pytest.fixture(scope="module")
def sources() -> Sources:
    """Return the facts about all modules, read once for these tests."""
    read = Sources()
    for name, path in MODULES.items():
        read.read(name, ast.parse(path.read_text("utf-8"), str(path)))
    return read


def floor_of(module: str) -> int:
    """Return the number of a module's floor."""
    room = module.partition(".")[0]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def within(module: str, rooms: tuple[str, ...]) -> bool:
    """Return whether a module is one of `rooms` or inside one."""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def test_every_module_has_a_floor() -> None:
    """Every room is listed with its floor, and every listed room exists."""
    known = {room for rooms in FLOORS for room in rooms}

    assert set() == {name.partition(".")[0] for name in MODULES} - known
    assert set() == known - {name.partition(".")[0] for name in MODULES} - {"api"}


def test_the_walk_sees_imports(sources: Sources) -> None:
    """The collection is not empty: it has imports of the package and of libraries."""
    assert len(sources.own) > 100
    assert {"httpx", "json", "PIL"} <= {found.imported.partition(".")[0] for found in sources.foreign}


def test_imports_go_downward(sources: Sources) -> None:
    """No module imports from a floor above, not even for type checkers."""
    upward = [str(found) for found in sources.own if floor_of(found.imported) > floor_of(found.importer)]

    assert [] == upward


@pytest.mark.parametrize("room", DOWNSTAIRS)
def test_a_room_that_keeps_to_itself(room: str, sources: Sources) -> None:
    """Such a room imports only the modules in its list."""
    others = [
        str(found)
        for found in sources.own
        if within(found.importer, (room,)) and not within(found.imported, DOWNSTAIRS[room])
    ]

    assert [] == others


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_has_its_place(library: str, sources: Sources) -> None:
    """Only the listed modules import a library: HTTP is the client's subject, IPython the notebook's, and so on."""
    elsewhere = [
        str(found)
        for found in sources.foreign
        if within(found.imported, (library,)) and not within(found.importer, ONLY_IN[library])
    ]

    assert [] == elsewhere


def test_front_ends_ask_the_studio() -> None:
    """Front ends do not use the studio's ledger, store or client."""
    reached = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, path in MODULES.items()
        if within(name, ("notebook", "proxy", "api", "wiring"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("ledger", "store", "client")
        and ast.unparse(node.value).rpartition(".")[2].strip("_") in ("studio", "where", "ours")
    ]

    assert [] == reached


def test_no_imports_in_a_circle(sources: Sources) -> None:
    """The imports between modules have no circle, including lazy ones."""
    needs = {name: {found.imported for found in sources.own if found.importer == name} - {name} for name in MODULES}
    while free := [name for name, found in needs.items() if not found & needs.keys()]:
        for name in free:
            del needs[name]

    assert {} == {name: sorted(found & needs.keys()) for name, found in needs.items()}


def test_a_package_imports_none_of_its_own_modules(sources: Sources) -> None:
    """A package imports none of its modules: two threads that import both could make Python report a deadlock."""
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    own = [
        str(found) for found in sources.own if found.importer in packages and within(found.imported, (found.importer,))
    ]

    assert [] == own


def test_a_room_has_a_dozen_modules_at_most() -> None:
    """A folder is short enough to read at a glance."""
    rooms = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")

    assert {} == {str(room.relative_to(ROOT)): count for room, count in rooms.items() if count > MAX_MODULES}


def test_a_file_has_300_lines_at_most() -> None:
    """A file covers one subject."""
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}

    assert {} == {name: lines for name, lines in lengths.items() if lines > MAX_LINES}


def test_a_function_has_40_lines_at_most(sources: Sources) -> None:
    """A function stays at one level of abstraction."""
    assert {} == {name: lines for name, lines in sources.functions.items() if lines > MAX_FUNCTION_LINES}


def test_only_the_ledger_asks_its_tables() -> None:
    """Other rooms call named methods of the ledger; practice has tables of its own."""
    names = "authorizations|purchases|payloads|pictures|reservations|holds|quotes|settings|limits|counters|sums"
    asking = re.compile(rf"\b(FROM|JOIN|INTO|UPDATE)\s+({names})\b")
    others = {name: path for name, path in MODULES.items() if not within(name, ("payments.ledger", "practice"))}

    assert [] == [name for name, path in others.items() if asking.search(path.read_text("utf-8"))]


def test_every_public_module_says_what_it_offers(sources: Sources) -> None:
    """Every module with content has an `__all__`, except `__main__`."""
    assert [] == [name for name in sources.silent if not name.endswith("__main__")]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_what_is_offered_is_there(name: str) -> None:
    """Each name in an `__all__` exists and is listed once."""
    module = importlib.import_module(PACKAGE if name == "__init__" else f"{PACKAGE}.{name}")
    offered = getattr(module, "__all__", [])

    assert [] == [word for word in offered if not hasattr(module, word)]
    assert len(set(offered)) == len(offered)


def test_importing_the_package_costs_nothing() -> None:
    """Importing the package and listing its names loads only the standard library and lazy_loader."""
    script = f"""
import sys
before = set(sys.modules)
import {PACKAGE}
dir({PACKAGE}), {PACKAGE}.__all__
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(loaded - sys.stdlib_module_names - {{"{PACKAGE}", "lazy_loader"}}))
"""

    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]" == answer.stdout.strip()
