"""ClawRouter's log of signed payments, compared with our ledger.

One JSON object a line in `usage-YYYY-MM-DD.jsonl` (UTC): `{timestamp, model, tier: "IMAGE", cost, latencyMs}`.
`cost` is the last quote that ClawRouter signed, not the settlement. A failed request has no line, so a missing line
proves nothing; a slow edit has a line although nothing was settled, so the line of an edit without an image
proves nothing either (gateway protocol, sections 7 and 9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blockrun_magic.files import read_file
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.money import read_micros
from blockrun_magic.safejson import read_json

__all__ = ["Comparison", "LogEntry", "ProxyPayment", "compare", "read_usage"]

_MAX_FILE_BYTES = 32 * 1024 * 1024
_MAX_LINE = 16 * 1024
_DAY = 86_400
_CLOCK_SKEW = 2.0
"""Seconds by which the log's clock may differ from the ledger's."""
_EDIT = "/image2image"
_SLOWEST = 900.0
_LOG_DELAY = 60.0
"""Seconds after our own record of the answer until the log has certainly been written."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One image that ClawRouter paid for: the time (Unix seconds), the model and the amount."""

    at: float
    model: str
    micros: int


@dataclass(frozen=True, slots=True)
class ProxyPayment:
    """One payment that ClawRouter made for us, with the model and the endpoint of its request."""

    payment: Payment
    model: str
    endpoint: str = ""

    @property
    def provable(self) -> bool:
        """Whether a line of ClawRouter's log can prove that this payment was made."""
        return self.payment.state is State.SETTLED or not self.endpoint.endswith(_EDIT)

    @property
    def until(self) -> float:
        """The Unix time until which a line of the log may be this payment's."""
        ended = self.payment.updated_at if self.payment.state is State.SETTLED else float("inf")
        return min(ended, self.payment.created_at + _SLOWEST) + _LOG_DELAY

    def fits(self, entry: LogEntry) -> bool:
        """Return whether `entry` may belong to this payment: same model, within its time."""
        return entry.model == self.model and self.payment.created_at - _CLOCK_SKEW <= entry.at <= self.until


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ledger and the log compared: entries in both, and entries in only one of them."""

    agreed: tuple[tuple[ProxyPayment, LogEntry], ...]
    only_ours: tuple[ProxyPayment, ...]
    only_theirs: tuple[LogEntry, ...]

    @property
    def differing(self) -> tuple[tuple[ProxyPayment, LogEntry], ...]:
        """The pairs whose amounts differ."""
        return tuple((payment, entry) for payment, entry in self.agreed if payment.payment.amount != entry.micros)


def read_usage(folder: Path, since: float, until: float) -> list[LogEntry]:
    """Return the images in the logs of `folder` from `since` to `until` (Unix seconds), oldest first.

    Missing files, files that are too large, and lines that are not entries are skipped.
    """
    first = int((since - _CLOCK_SKEW) // _DAY)
    days = range(max(first, int(until // _DAY) - 400), int((until + _LOG_DELAY) // _DAY) + 1)
    files = (folder / f"usage-{datetime.fromtimestamp(day * _DAY, UTC):%Y-%m-%d}.jsonl" for day in days)
    entries = (entry for file in files for entry in _entries(file))
    return sorted(
        (entry for entry in entries if since - _CLOCK_SKEW <= entry.at <= until + _LOG_DELAY), key=lambda e: e.at
    )


def _entries(file: Path) -> Iterator[LogEntry]:
    try:
        lines = read_file(file, _MAX_FILE_BYTES).splitlines()
    except OSError:
        return
    for line in lines:
        try:
            entry = _entry(read_json(line)) if len(line) <= _MAX_LINE else None
        except (ValueError, ArithmeticError):
            continue
        if entry is not None:
            yield entry


def _entry(value: Any) -> LogEntry | None:
    if not isinstance(value, Mapping) or value.get("tier") != "IMAGE":
        return None
    cost, model, time = value.get("cost"), value.get("model"), value.get("timestamp")
    micros = None if isinstance(cost, str) else read_micros(cost, 10**12)
    if micros is None or not isinstance(model, str) or not isinstance(time, str):
        return None
    at = datetime.fromisoformat(time)
    return LogEntry((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), model[:200], micros)


def compare(ours: Sequence[ProxyPayment], theirs: Sequence[LogEntry]) -> Comparison:
    """Return the entries in both the ledger and the log, and those in only one of them.

    Settled payments are matched first: with a line of the same amount, otherwise with the nearest in time. An open
    payment takes a line only if no other line and no other open payment fits, and never if a line proves nothing
    about it.
    """
    left = list(theirs)
    agreed: list[tuple[ProxyPayment, LogEntry]] = []
    for spent in ours:
        if spent.payment.state is not State.SETTLED:
            continue
        fitting = [entry for entry in left if spent.fits(entry)]
        if fitting:
            nearest = min(fitting, key=lambda entry: _distance(spent, entry))
            left.remove(nearest)
            agreed.append((spent, nearest))
    undecided = [spent for spent in ours if spent.payment.state is not State.SETTLED]
    certain = []
    for spent in undecided:
        fitting = [entry for entry in left if spent.fits(entry)]
        rivals = [other for other in undecided if other is not spent and any(map(other.fits, fitting))]
        if len(fitting) == 1 and not rivals and spent.provable:
            certain.append((spent, fitting[0]))
    for _, entry in certain:
        left.remove(entry)
    agreed += certain
    matched = {spent.payment.id for spent, _ in agreed}
    return Comparison(tuple(agreed), tuple(spent for spent in ours if spent.payment.id not in matched), tuple(left))


def _distance(spent: ProxyPayment, entry: LogEntry) -> tuple[bool, float]:
    return entry.micros != spent.payment.amount, abs(entry.at - spent.payment.updated_at)
