"""Costs of an order for the service: SQL statements and calls in other threads, which are equal on every machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from blockrun_magic import threads
from blockrun_magic.practice.server import images
from blockrun_magic.practice.server.server import PracticeServer
from harness.classroom import PRICE, running_class
from harness.postgresql import Cluster
from harness.quick_gateway import send_small_images

_STATEMENTS, _CALLS = 60, 15
_ORDERS = 5


class _Counter:
    """Counts the SQL statements and the calls in other threads of this process."""

    def __init__(self) -> None:
        self.statements = self.calls = 0
        self._lock = threading.Lock()

    @contextmanager
    def counting(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Count during the block."""
        with monkeypatch.context() as patched:
            for kind, name in ((psycopg.Connection, "execute"), (psycopg.Cursor, "executemany")):
                patched.setattr(kind, name, self._counted(getattr(kind, name), "statements"))
            patched.setattr(threads, "_submit", self._counted(threads._submit, "calls"))
            yield

    def _counted(self, call: Callable[..., Any], what: str) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> psycopg.Cursor[Any] | Future[Any]:
            with self._lock:
                setattr(self, what, getattr(self, what) + 1)
            answer: psycopg.Cursor[Any] | Future[Any] = call(*args, **kwargs)
            return answer

        return counted


def test_what_an_order_costs(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order with limits and a group, after a first one; the lowest of several counts, without other work."""
    counts = []
    monkeypatch.setattr(images, "_paint", images._paint)
    send_small_images()
    with (
        PracticeServer(latency=0) as gateway,
        running_class(tmp_path / "home", gateway, database=cluster.empty_database()) as room,
    ):
        room.owner.set_policy("class", rate=1000)
        room.owner.set_limit("each", "total", 100 * PRICE)
        room.owner.set_limit("class", "day", 1000 * PRICE)
        student = room.student("ada", groups=("red",))
        assert 200 == student.put("the first of its kind").status_code
        for number in range(_ORDERS):
            counter = _Counter()
            with counter.counting(monkeypatch):
                assert 200 == student.put(f"fox {number}").status_code
            counts.append((counter.statements, counter.calls))
        assert room.agrees

    assert min(statements for statements, _ in counts) <= _STATEMENTS
    assert min(calls for _, calls in counts) <= _CALLS
