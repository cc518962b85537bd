"""Messages can be rewritten without a change in the tests: they assert types, amounts, states and names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import blockrun_magic

PACKAGE = Path(blockrun_magic.__file__).parent
TESTS = Path(__file__).parents[1]
NO_MESSAGE = re.compile(r"\n|\bSELECT\b|\bFROM\b|\bWHERE\b")
KNOWN = "There is no wallet to pay with."
MIN_WORDS = 4
"""The number of words in a row that count as a sentence."""


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the texts in a tree, including parts of f-strings."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    """Return the syntax trees of the package and the tests, read once for these tests."""
    paths = [path for root in (PACKAGE, TESTS) for path in sorted(root.rglob("*.py"))]
    return {path: ast.parse(path.read_text("utf-8")) for path in paths}


@pytest.fixture(scope="module")
def messages(trees: dict[Path, ast.Module]) -> str:
    """Return the messages of the package, one a line, without docstrings, help pages and SQL."""
    found = []
    for path, tree in trees.items():
        if PACKAGE not in path.parents:
            continue
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            text.value for text in texts(tree) if id(text) not in documentation and not NO_MESSAGE.search(text.value)
        ]
    return "\n".join(found)


def asserted(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the texts in `assert`, `match=` and the parameters of a test."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield from texts(node.test)
        elif isinstance(node, ast.keyword) and node.arg == "match":
            yield from texts(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "parametrize":
            yield from (text for argument in node.args[1:] for text in texts(argument))


def test_no_test_asserts_a_sentence_of_ours(trees: dict[Path, ast.Module], messages: str) -> None:
    """Tests may assert the name of a command, a flag or a value, but not a whole sentence of ours."""
    sentences = [
        f"{path.relative_to(TESTS)}:{text.lineno}: {text.value}"
        for path, tree in trees.items()
        if TESTS in path.parents and not {"browser", "fakes"} & set(path.parts)
        for text in asserted(tree)
        if not set("%-") & set(text.value)
        and len(text.value.split()) >= MIN_WORDS
        and text.value.strip(" .,:;") in messages
    ]

    assert [] == sentences


def test_the_search_finds_a_sentence(messages: str) -> None:
    """The search finds a known message."""
    assert KNOWN in messages


def test_a_docstring_names_the_thing(trees: dict[Path, ast.Module]) -> None:
    """The docstring of a module or class begins with a noun or a verb, not with a question word."""
    questions = ("What", "Whether", "Where", "Who", "Which", "How", "When")
    begins = [
        f"{path}: {first}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef)
        if (first := (ast.get_docstring(node) or "").partition("\n")[0]).startswith(questions)
    ]

    assert [] == begins
