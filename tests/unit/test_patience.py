"""Tests do not depend on the speed of the machine: every wait has one limit, far above what a busy machine needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from harness import PATIENCE

TESTS = Path(__file__).parents[1]
A_MINUTE = 60
WAITS = {"communicate", "exception", "join", "result", "wait", "wait_for"}
"""Methods whose last argument is a time limit."""
HTTP = {f"httpx.{name}" for name in ("get", "post", "put", "delete", "request", "stream", "Client", "AsyncClient")}
"""Calls with a default limit of five seconds."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call in the tests, with its file and line."""
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(TESTS)}:{node.lineno}: {ast.unparse(node)}", node


def limits(call: ast.Call) -> Iterator[float]:
    """Yield the time limits of a call, in seconds."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
    if isinstance(call.func, ast.Attribute) and call.func.attr in WAITS:
        given += call.args[-1:]
    for value in given:
        if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
            yield value.value


def test_a_wait_is_a_look_or_a_long_one() -> None:
    """A limit below a second belongs to a repeated check; every other limit is at least a minute."""
    short = [place for place, call in calls() for seconds in limits(call) if 1 <= seconds < A_MINUTE]

    assert A_MINUTE <= PATIENCE
    assert [] == short


def test_an_http_call_names_its_limit() -> None:
    """Every HTTP call names its limit: the default of five seconds is too short on a busy machine."""
    hurried = [
        place
        for place, call in calls()
        if ast.unparse(call.func) in HTTP and not {"timeout", None} & {keyword.arg for keyword in call.keywords}
    ]

    assert [] == hurried


def test_the_search_finds_calls() -> None:
    """The search finds calls and their limits."""
    [call] = [node for node in ast.walk(ast.parse("thread.join(5)")) if isinstance(node, ast.Call)]

    assert [5] == list(limits(call))
    assert 1000 < sum(1 for _ in calls())
