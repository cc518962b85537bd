"""Text from outside takes time in proportion to its length: no pattern and no parser is slower on its worst input."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from harness.growth import FACTOR, Input, inputs, worst_growth
from harness.patterns import Found, alphabet, patterns

THOROUGH = "EXAMPLES" in os.environ
"""`make fuzz` tries every pair of an alphabet; otherwise only single tokens are pumped between others."""
PATTERNS = list(patterns())


def caller(pattern: re.Pattern[Any], method: str) -> Callable[[str], object]:
    """Return what uses `pattern` on a text as the package does."""
    use = getattr(pattern, method)
    is_bytes = isinstance(pattern.pattern, bytes)

    def call(text: str) -> object:
        found = use(text.encode("latin-1", "replace") if is_bytes else text)
        return sum(1 for _ in found) if method == "finditer" else found

    return call


def candidates(pattern: re.Pattern[Any]) -> list[Input]:
    """Return the inputs to try on a pattern."""
    tokens = alphabet(pattern)
    if THOROUGH:
        return list(inputs(tokens, around=tokens))
    return [*inputs(tokens, around=tokens[:3], pairs=False), *inputs(tokens[:7], around=tokens[:1])]


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (rb"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<svg", "match"),
        (r"(?=[A-Za-z]*[0-9+/=_-])[A-Za-z0-9+/=_-]{100,}", "finditer"),
        (r'"[^"\\]*(?:\\.[^"\\]*)*"', "finditer"),
        (r"^(?P<indent>\s*)(?:[\w, ]+=\s*)?%(?P<magic>imagegen)", "match"),
        (r"[a-z]+(?:[\s,]+[a-z]+){11,23}", "search"),
        (r"""(?:"[^"]*"|'[^']*'|x+)*y""", "match"),
        (r"<open>.*?</close>", "finditer"),
        (r"(a+)+b", "match"),
    ],
)
def test_the_search_finds_what_is_slow(pattern: str | bytes, method: str) -> None:
    """The test is no test if it finds nothing: patterns that froze a kernel are found."""
    compiled: re.Pattern[Any] = re.compile(pattern, re.DOTALL)
    growth, _ = worst_growth(caller(compiled, method), candidates(compiled))

    assert FACTOR < growth


def test_the_walk_finds_the_patterns() -> None:
    """Patterns of modules, of tables and of single lines are found."""
    assert 50 < len(PATTERNS)


@pytest.mark.parametrize("found", PATTERNS, ids=[f"{found.where}-{number}" for number, found in enumerate(PATTERNS)])
def test_a_pattern_is_linear(found: Found) -> None:
    """Twice the text takes at most two and a half times as long."""
    for method in found.methods:
        growth, culprit = worst_growth(caller(found.pattern, method), candidates(found.pattern))

        assert growth <= FACTOR, (method, culprit)
