"""All regular expressions of the package, with their location, their use, and the alphabet of their inputs."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import blockrun_magic

__all__ = ["Found", "alphabet", "patterns"]

ROOT = Path(blockrun_magic.__file__).parent
METHODS = ("match", "search", "fullmatch", "finditer")
_LIKE = {"sub": "finditer", "subn": "finditer", "findall": "finditer", "split": "finditer"}
_MOST = 12
_USES = re.compile(r"\bre\.")
_WORD = re.compile(r"\w+")
_META = re.compile(r"(?:\\\w|[()\[\]|*+?{}.^$\\])+")


@dataclass(frozen=True)
class Found:
    """A pattern, its location, and the methods that are called on it."""

    where: str
    pattern: re.Pattern[Any]
    methods: tuple[str, ...]


def patterns() -> Iterator[Found]:
    """Yield every pattern once, including those in tables of modules and those inside a call."""
    texts = {path: path.read_text("utf-8") for path in sorted(ROOT.rglob("*.py")) if path.name != "__main__.py"}
    known = [each for path in texts for each in _of_module(_name(path))]
    variables = {variable for _, variable, _ in known}
    # Only files that use patterns are parsed, because this happens before every run of the tests.
    files = [_File(_name(path), text) for path, text in texts.items() if _USES.search(text) or _words(text) & variables]
    found: dict[re.Pattern[Any], tuple[str, set[str]]] = {}
    for module, variable, pattern in known:
        users = [file for file in files if file.module == module or (module, variable) in file.imports]
        # A pattern in a table is used under another name.
        used = {method for file in users for name, method in file.calls if name == variable} or {"match"}
        found.setdefault(pattern, (f"{module}.{variable}", set()))[1].update(used)
    for file in files:
        for line, pattern, method in file.inline:
            found.setdefault(pattern, (f"{file.module}:{line}", set()))[1].add(method)
    for pattern, (where, methods) in found.items():
        yield Found(where, pattern, tuple(sorted(methods)))


def _name(path: Path) -> str:
    return ".".join((ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text))


def _of_module(name: str) -> Iterator[tuple[str, str, re.Pattern[Any]]]:
    """Yield the patterns of a module: its name, the variable, and the pattern."""
    for variable, value in vars(importlib.import_module(name)).items():
        yield from ((name, variable, pattern) for pattern in _inside(value))


class _File:
    """One module's imports, its calls of pattern methods, and its patterns without a name."""

    def __init__(self, module: str, text: str) -> None:
        self.module = module
        self.imports: set[tuple[str, str]] = set()
        self.calls: list[tuple[str, str]] = []
        self.inline: list[tuple[int, re.Pattern[Any], str]] = []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module:
                self.imports.update((node.module, alias.name) for alias in node.names)
            self.calls.extend(_method_calls(node))
            inline = _inline(node)
            if inline is not None:
                self.inline.append(inline)


def _inside(value: Any) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list | set | frozenset):
        for each in value:
            yield from _inside(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _inside(each)


def _method_calls(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Attribute):
        method = _LIKE.get(node.attr, node.attr)
        if method in METHODS and isinstance(node.value, ast.Name | ast.Attribute):
            yield (node.value.id if isinstance(node.value, ast.Name) else node.value.attr), method


def _inline(node: ast.AST) -> tuple[int, re.Pattern[Any], str] | None:
    """Return line, pattern and method of a call like `re.sub("a+", ...)`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
        return None
    owner, method = node.func.value, _LIKE.get(node.func.attr, node.func.attr)
    first = node.args[0]
    if not (isinstance(owner, ast.Name) and owner.id == "re" and method in METHODS and isinstance(first, ast.Constant)):
        return None
    return node.lineno, re.compile(first.value), method


def alphabet(pattern: re.Pattern[Any]) -> list[str]:
    """Return the short texts of a pattern: its literals, and one or two members of each class."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    # The parser splits common beginnings of alternatives: words are also read from the pattern's own text.
    tokens = dict.fromkeys(word for word in _META.split(text) if len(word) > 1)
    _collect(_parser.parse(text, pattern.flags & ~re.UNICODE), tokens)
    return sorted(tokens, key=len, reverse=True)[:_MOST]  # words first: "<!--" finds more than its letters


def _collect(tree: Any, tokens: dict[str, None]) -> None:
    run = ""
    for operation, argument in tree:
        if operation is sre.LITERAL:
            run += chr(argument)
            tokens[chr(argument)] = None
            continue
        if len(run) > 1:
            tokens[run] = None
        run = ""
        _of_operation(operation, argument, tokens)
    if len(run) > 1:
        tokens[run] = None


def _of_operation(operation: Any, argument: Any, tokens: dict[str, None]) -> None:
    if operation is sre.IN:
        for member in _members(argument):
            tokens[member] = None
    elif operation in (sre.ANY, sre.NOT_LITERAL):
        tokens["x"] = None
    elif operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        _collect(argument[2], tokens)
    elif operation is sre.SUBPATTERN:
        _collect(argument[3], tokens)
    elif operation is sre.ATOMIC_GROUP:
        _collect(argument, tokens)
    elif operation in (sre.ASSERT, sre.ASSERT_NOT):
        _collect(argument[1], tokens)
    elif operation is sre.BRANCH:
        for branch in argument[1]:
            _collect(branch, tokens)


_CATEGORIES = {
    sre.CATEGORY_DIGIT: "7",
    sre.CATEGORY_WORD: "a",
    sre.CATEGORY_SPACE: " ",
    sre.CATEGORY_NOT_DIGIT: "b",
    sre.CATEGORY_NOT_WORD: "-",
    sre.CATEGORY_NOT_SPACE: "c",
}


def _members(members: Sequence[Any]) -> Iterator[str]:
    if members[0][0] is sre.NEGATE:
        yield "x"
        return
    for operation, argument in members[:6]:
        if operation is sre.LITERAL:
            yield chr(argument)
        elif operation is sre.RANGE:
            yield chr(argument[0])
        elif operation is sre.CATEGORY:
            yield _CATEGORIES[argument]
