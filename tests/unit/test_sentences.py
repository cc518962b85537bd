"""Messages can be rewritten without a test: tests assert types, amounts, states and names, not our sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import blockrun_magic

PACKAGE = Path(blockrun_magic.__file__).parent
TESTS = Path(__file__).parents[1]
NO_MESSAGE = re.compile(r"\n|\bSELECT\b|\bFROM\b|\bWHERE\b")
KNOWN = "There is no wallet to pay with."
FEWEST_WORDS = 4
"""So many words of ours in a row are a sentence."""


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the texts in a tree, parts of f-strings included."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def messages() -> str:
    """Return the messages of the package, one a line: its texts, but docstrings, pages of help and SQL."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            text.value for text in texts(tree) if id(text) not in documentation and not NO_MESSAGE.search(text.value)
        ]
    return "\n".join(found)


def asserted(path: Path) -> Iterator[ast.Constant]:
    """Yield the texts that a test compares with: in `assert`, `match=` and its parameters."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Assert):
            yield from texts(node.test)
        elif isinstance(node, ast.keyword) and node.arg == "match":
            yield from texts(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.parametrize"):
            yield from (text for argument in node.args[1:] for text in texts(argument))


def test_no_test_asserts_a_sentence_of_ours() -> None:
    """A test may check that a message names a command, a flag or a value; users look for the panel's labels."""
    ours = messages()
    sentences = [
        f"{path.relative_to(TESTS)}:{text.lineno}: {text.value}"
        for path in sorted(TESTS.rglob("*.py"))
        if not {"browser", "fakes"} & set(path.parts)
        for text in asserted(path)
        if not set("%-") & set(text.value)
        and len(text.value.split()) >= FEWEST_WORDS
        and text.value.strip(" .,:;") in ours
    ]

    assert [] == sentences


def test_the_search_finds_a_sentence() -> None:
    """The test is no test if it finds nothing."""
    assert KNOWN in messages()


def test_a_docstring_names_the_thing() -> None:
    """The docstring of a module or class begins with a noun or a verb, not with a question word."""
    questions = ("What", "Whether", "Where", "Who", "Which", "How", "When")
    begins = [
        f"{path}: {first}"
        for root in (PACKAGE, TESTS)
        for path in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef)
        if (first := (ast.get_docstring(node) or "").partition("\n")[0]).startswith(questions)
    ]

    assert [] == begins
