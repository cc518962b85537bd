"""Metrics for Prometheus: requests, orders by state, money and limits of the class; no label contains a name.

Each scrape reads the sums from the database, so that all processes of a service report the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.routing import Route

from blockrun_magic.classroom.page.overview import Overview
from blockrun_magic.threads import run_io

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from blockrun_magic.classroom.storage.records import Records

__all__ = ["Metrics"]

_PREFIX = "blockrun_classroom"
_KINDS = ("join", "me", "models", "price", "orders", "images")
_STATES = ("queued", "working", "unknown", "done", "refused", "failed", "cancelled")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SUBJECTS = ("class", "all")


class Metrics:
    """The metrics of one process."""

    def __init__(self, records: Records) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ClassCollector(records))
        self._requests = Counter(
            f"{_PREFIX}_requests", "Requests by kind and status.", ("kind", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            f"{_PREFIX}_request_seconds",
            "Seconds to a response, including the wait for an order.",
            ("kind",),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    @property
    def route(self) -> Route:
        """The route of /metrics."""
        return Route("/metrics", self._report, methods=["GET"])

    def observed(self, app: ASGIApp) -> ASGIApp:
        """Return `app`, with its requests counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            kind, began, status = _kind(scope), time.perf_counter(), 0

            async def noted(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                self._requests.labels(kind, str(status)).inc()
                self._seconds.labels(kind).observe(time.perf_counter() - began)

        return counted

    async def _report(self, _: Request) -> Response:
        content = await run_io(generate_latest, self._registry)
        return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


class _ClassCollector(Collector):
    """Sums of the class, read from the database."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def describe(self) -> list[Metric]:
        """Return nothing, so that registration does not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the current sums."""
        records = self._records
        overview = Overview(records)
        amounts = overview.amounts().values()
        yield CounterMetricFamily(
            f"{_PREFIX}_spent_usd", "US dollars spent.", value=_usd(sum(person.spent for person in amounts))
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_at_risk_usd",
            "US dollars at risk.",
            value=_usd(sum(person.at_risk for person in amounts)),
        )
        yield GaugeMetricFamily(f"{_PREFIX}_people", "People of the class.", value=len(records.members.all()))
        orders = GaugeMetricFamily(f"{_PREFIX}_orders", "Orders by state.", labels=("state",))
        counts = overview.states()
        for state in _STATES:
            orders.add_metric((state,), counts.get(state, 0))
        yield orders
        left = GaugeMetricFamily(f"{_PREFIX}_left_usd", "US dollars left of a limit.", labels=("subject", "period"))
        for at in records.ledger.standing(records.realm, _SUBJECTS):
            if at.left is not None:
                left.add_metric((at.subject, at.period), _usd(at.left))
        yield left


def _kind(scope: Scope) -> str:
    """Return the kind of a request's path, one of a few words."""
    parts = str(scope["path"]).removeprefix(str(scope.get("root_path", ""))).strip("/").split("/")
    if parts[0] == "v1" and len(parts) > 1 and parts[1] in _KINDS:
        return parts[1]
    return "page" if parts[0] == "teacher" else "other"


def _usd(micros: int) -> float:
    return micros / 1_000_000
