"""Counters of the limits: they change in the transaction that changes a payment.

The view `counted` says what each payment counts for: its reservations in the sessions that made them; while it is at
risk, in every day that passes; once it is settled, in the day on which that was recorded. A counter is a sum over it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blockrun_magic.payments.ledger.connection import is_session_alive
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, Caps, Usage

__all__ = [
    "add_reservation",
    "counted",
    "drop_dead_holds",
    "read_caps",
    "read_usage",
    "set_total",
    "write_caps",
    "wrong_counters",
]

_DAY = 86_400
_ALL = "all"
"""The owner of the limits that every payment falls under; a classroom has more owners."""

_COUNTED = """
    SELECT owner, realm, period, key, sum(amount) AS amount FROM counted
    WHERE authorization_id = ? GROUP BY 1, 2, 3, 4"""
_ADD = """
    INSERT INTO counters VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET amount = amount + excluded.amount"""

_Counts = dict[tuple[str, str, str, str], int]


@contextmanager
def counted(connection: sqlite3.Connection, payment_id: int) -> Iterator[None]:
    """Bring the counters up to date with what is done to a payment inside."""
    before = _counts_of(connection, payment_id)
    yield
    after = _counts_of(connection, payment_id)
    for key in before.keys() | after.keys():
        change = after.get(key, 0) - before.get(key, 0)
        if change > 0:
            connection.execute(_ADD, (*key, change))
        elif change:
            connection.execute(
                "UPDATE counters SET amount = amount + ? WHERE owner = ? AND realm = ? AND period = ? AND key = ?",
                (change, *key),
            )


def _counts_of(connection: sqlite3.Connection, payment_id: int) -> _Counts:
    return {tuple(row[:4]): row[4] for row in connection.execute(_COUNTED, (payment_id,))}


def add_reservation(
    connection: sqlite3.Connection, payment_id: int, session: str, reserved_at: float, amount: int
) -> None:
    """Reserve `amount` more micro-USDC for a payment, in the limits of `session`."""
    connection.execute(
        "INSERT INTO reservations (authorization_id, session, reserved_at, amount) VALUES (?, ?, ?, ?)",
        (payment_id, session, reserved_at, amount),
    )


def set_total(connection: sqlite3.Connection, payment_id: int, amount: int) -> None:
    """Make the reservations of a payment add up to `amount`: what is too much goes from the newest."""
    query = "SELECT id, amount FROM reservations WHERE authorization_id = ? ORDER BY id"
    left = amount
    rows = connection.execute(query, (payment_id,)).fetchall()
    for row in rows:
        part = min(left, row["amount"])
        left -= part
        connection.execute("UPDATE reservations SET amount = ? WHERE id = ?", (part, row["id"]))
    if left and rows:
        connection.execute("UPDATE reservations SET amount = amount + ? WHERE id = ?", (left, rows[0]["id"]))
    connection.execute("UPDATE authorizations SET amount = ? WHERE id = ?", (amount, payment_id))


def wrong_counters(connection: sqlite3.Connection) -> dict[tuple[str, ...], tuple[int, int]]:
    """Return the counters that differ from the payments: what they say, and what the payments add up to."""
    query = "SELECT owner, realm, period, key, sum(amount) FROM counted GROUP BY 1, 2, 3, 4"
    true: dict[tuple[str, ...], int] = {tuple(row[:4]): row[4] for row in connection.execute(query)}
    stored: dict[tuple[str, ...], int] = {
        tuple(row[:4]): row[4] for row in connection.execute("SELECT * FROM counters")
    }
    return {
        key: (stored.get(key, 0), true.get(key, 0))
        for key in true.keys() | stored.keys()
        if stored.get(key, 0) != true.get(key, 0)
    }


def read_usage(connection: sqlite3.Connection, ledger: Path, realm: str, session: str, now: float) -> Usage:
    """Return what a session and the UTC day of `now` have spent, put at risk or hold, in micro-USDC."""
    own, held = _held(connection, ledger, realm, session)
    today = str(int(now // _DAY))
    counters = {
        (row["period"], row["key"]): row["amount"]
        for row in connection.execute(
            """SELECT period, key, amount FROM counters WHERE owner = ? AND realm = ? AND (
                (period = 'session' AND key = ?) OR (period = 'day' AND key = ?) OR period = 'at risk')""",
            (_ALL, realm, session, today),
        )
    }
    at_risk = counters.get(("at risk", ""), 0)
    return Usage(
        session=counters.get(("session", session), 0) + own,
        day=counters.get(("day", today), 0) + at_risk + held,
        at_risk=at_risk,
        held=held,
    )


def _held(connection: sqlite3.Connection, ledger: Path, realm: str, session: str) -> tuple[int, int]:
    """Return what `session` holds, and what all sessions do whose process lives; a hold ends with its process."""
    rows = connection.execute("SELECT session, amount FROM holds WHERE realm = ?", (realm,)).fetchall()
    alive = {name for name in {row["session"] for row in rows} if name == session or is_session_alive(ledger, name)}
    own = sum(row["amount"] for row in rows if row["session"] == session)
    return own, sum(row["amount"] for row in rows if row["session"] in alive)


def drop_dead_holds(connection: sqlite3.Connection, ledger: Path, session: str) -> None:
    """Remove the holds of sessions whose process has ended."""
    for (name,) in connection.execute("SELECT session FROM holds GROUP BY session").fetchall():
        if name != session and not is_session_alive(ledger, name):
            connection.execute("DELETE FROM holds WHERE session = ?", (name,))


def read_caps(connection: sqlite3.Connection, defaults: Caps = DEFAULT_CAPS) -> Caps:
    """Return the limits in force: those that were set, else `defaults`."""
    rows = connection.execute("SELECT period, amount FROM limits WHERE owner = ?", (_ALL,)).fetchall()
    limits = {row["period"]: row["amount"] for row in rows}
    return Caps(
        image=limits.get("image", defaults.image),
        session=limits.get("session", defaults.session),
        day=limits.get("day", defaults.day),
    )


def write_caps(connection: sqlite3.Connection, limits: dict[str, int]) -> None:
    """Change some of the limits."""
    for period, amount in limits.items():
        connection.execute("INSERT OR REPLACE INTO limits VALUES (?, ?, ?)", (_ALL, period, amount))
