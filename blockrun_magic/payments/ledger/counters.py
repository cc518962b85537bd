"""Counters of the limits: they change in the transaction that changes a payment.

The view `counted` lists the counters of each payment. A notebook's payment counts in the sessions that reserved it; in
every day while it is at risk; and in the day of its settlement. A member's counts for every subject and window in which
it was reserved. A counter is a sum over this view.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from blockrun_magic.database.engine import Connection, Database, placeholders
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, Caps, Usage
from blockrun_magic.payments.ledger.windows import EACH, Standing, Window, limit_reached, rank, standings_of

__all__ = [
    "add_reservation",
    "counted",
    "counted_within",
    "counts_of_new",
    "drop_dead_holds",
    "read_caps",
    "read_limits",
    "read_limits_and_setting",
    "read_standings",
    "read_usage",
    "session_lock",
    "set_total",
    "write_limit",
    "wrong_counters",
]

_DAY = 86_400
_NOTEBOOK = ""
"""The subject of a single user's limits: per image, session and day."""

_COUNTED = """
    SELECT subject, realm, period, key, sum(amount) AS amount FROM counted
    WHERE authorization_id = ? GROUP BY 1, 2, 3, 4"""

_Counts = dict[tuple[str, str, str, str], int]
"""Micro-USDC by subject, realm, period and key."""


@contextmanager
def counted(connection: Connection, payment_id: int, new: _Counts | None = None) -> Iterator[None]:
    """Update the counters with the changes of a payment inside the context; a `new` payment is in no counter yet."""
    before = _counts_of(connection, payment_id) if new is None else {}
    yield
    _change(connection, before, _counts_of(connection, payment_id) if new is None else new)


@contextmanager
def counted_within(
    connection: Connection,
    payment_id: int,
    amount: int,
    limits: Mapping[tuple[str, str], int],
    subjects: Sequence[str],
    windows: Sequence[Window],
    new: _Counts | None = None,
) -> Iterator[None]:
    """Do the same for a reservation of `amount` more; raises LimitReached if that exceeds one of `limits`.

    The change locks the counters, so that no other process reserves before the comparison.
    """
    before = _counts_of(connection, payment_id) if new is None else {}
    yield
    after = _counts_of(connection, payment_id) if new is None else new
    counts = _change(connection, before, after, "RETURNING *")
    without = {(subject, period): sum_ - amount for (subject, _, period, _), sum_ in counts.items()}
    for standing in standings_of(subjects, windows, limits, without, {}) if limits else ():
        if standing.left is not None and amount > standing.left:
            raise limit_reached(amount, standing)


def _change(connection: Connection, before: _Counts, after: _Counts, returning: str = "") -> _Counts:
    """Change the counters by the difference; with `returning`, return the new values of those that have grown."""
    changes = [(key, after.get(key, 0) - before.get(key, 0)) for key in before.keys() | after.keys()]
    # All transactions lock the counters in the same order, so they cannot deadlock.
    changes.sort(key=_order)
    more = [(*key, change) for key, change in changes if change > 0]
    counts: _Counts = {}
    if more:
        marks = ", ".join(["(?, ?, ?, ?, ?)"] * len(more))
        rows = connection.execute(
            f"""INSERT INTO counters (subject, realm, period, key, amount) VALUES {marks}
            ON CONFLICT (subject, realm, period, key) DO UPDATE SET amount = counters.amount + excluded.amount
            {returning}""",
            [value for row in more for value in row],
        )
        counts = {tuple(row)[:4]: row["amount"] for row in rows} if returning else {}
    if less := [(change, *key) for key, change in changes if change < 0]:
        connection.executemany(
            "UPDATE counters SET amount = amount + ? WHERE subject = ? AND realm = ? AND period = ? AND key = ?", less
        )
    return counts


def _order(change: tuple[tuple[str, str, str, str], int]) -> tuple[Any, ...]:
    return rank(change[0][0]), change[0]


def counts_of_new(
    realm: str, amount: int, session: str, subjects: Sequence[str] | None, windows: Sequence[Window] = ()
) -> _Counts:
    """Return the counters of a new reservation, as the view `counted` lists them; a notebook's has no `subjects`."""
    if subjects is None:
        return {(_NOTEBOOK, realm, "session", session): amount, (_NOTEBOOK, realm, "at risk", ""): amount}
    return {(subject, realm, window.period, window.key): amount for subject in subjects for window in windows}


def _counts_of(connection: Connection, payment_id: int) -> _Counts:
    return {tuple(row)[:4]: row[4] for row in connection.execute(_COUNTED, (payment_id,))}


def add_reservation(
    connection: Connection,
    payment_id: int,
    session: str,
    reserved_at: float,
    amount: int,
    subjects: Sequence[str] = (),
    windows: Sequence[Window] = (),
) -> None:
    """Reserve `amount` more micro-USDC for a payment: in the limits of `session`, or of `subjects` in `windows`."""
    connection.execute(
        """INSERT INTO reservations (authorization_id, session, reserved_at, amount, subjects, windows)
        VALUES (?, ?, ?, ?, ?, ?)""",
        (
            *(payment_id, session, reserved_at, amount),
            json.dumps(subjects) if subjects else None,
            json.dumps({window.period: window.key for window in windows}) if windows else None,
        ),
    )


def set_total(connection: Connection, payment_id: int, amount: int) -> None:
    """Make the reservations of a payment add up to `amount`, by reducing the newest ones."""
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


def wrong_counters(connection: Connection) -> dict[tuple[str, ...], tuple[int, int]]:
    """Return the counters that differ from the payments, each with its value and the sum of the payments."""
    # One statement sees one state of the database, even while other processes write.
    rows = connection.execute("""
        SELECT subject, realm, period, key, sum(stored), sum(added_up) FROM (
            SELECT subject, realm, period, key, amount AS stored, 0 AS added_up FROM counters
            UNION ALL SELECT subject, realm, period, key, 0, amount FROM counted
        ) AS both_sums GROUP BY 1, 2, 3, 4 HAVING sum(stored) <> sum(added_up)""")
    return {tuple(row)[:4]: (row[4], row[5]) for row in rows}


# -- the limits of a notebook


def read_usage(connection: Connection, database: Database, realm: str, session: str, now: float) -> Usage:
    """Return the micro-USDC that a session and the UTC day of `now` have spent, at risk or held."""
    today = str(int(now // _DAY))
    # One statement sees one state: an amount reserved from a hold is in exactly one of them.
    rows = connection.execute(
        """SELECT period, key, amount FROM counters WHERE subject = ? AND realm = ? AND (
            (period = 'session' AND key = ?) OR (period = 'day' AND key = ?) OR period = 'at risk')
        UNION ALL SELECT 'hold', session, amount FROM holds WHERE realm = ?""",
        (_NOTEBOOK, realm, session, today, realm),
    ).fetchall()
    counters = {(row[0], row[1]): row[2] for row in rows if row[0] != "hold"}
    own, held = _held([(row[1], row[2]) for row in rows if row[0] == "hold"], database, session)
    at_risk = counters.get(("at risk", ""), 0)
    return Usage(
        session=counters.get(("session", session), 0) + own,
        day=counters.get(("day", today), 0) + at_risk + held,
        at_risk=at_risk,
        held=held,
    )


def session_lock(session: str) -> str:
    """Return the name of the lock that a process holds while it lives."""
    name = "".join(letter for letter in session if letter.isalnum() or letter in "-_")[:80]
    return f"session-{name}"


def _held(holds: Sequence[tuple[str, int]], database: Database, session: str) -> tuple[int, int]:
    """Return the holds of `session`, and of all sessions whose process lives; a hold ends with its process."""
    alive = {name for name in {name for name, _ in holds} if name == session or database.is_locked(session_lock(name))}
    own = sum(amount for name, amount in holds if name == session)
    return own, sum(amount for name, amount in holds if name in alive)


def drop_dead_holds(connection: Connection, database: Database, session: str) -> None:
    """Remove the holds of sessions whose process has ended."""
    for (name,) in connection.execute("SELECT session FROM holds GROUP BY session").fetchall():
        if name != session and not database.is_locked(session_lock(name)):
            connection.execute("DELETE FROM holds WHERE session = ?", (name,))


def read_caps(connection: Connection, defaults: Caps = DEFAULT_CAPS) -> Caps:
    """Return the current limits of a notebook: those that were set, else `defaults`."""
    limits = read_limits(connection, [_NOTEBOOK])
    return Caps(
        image=limits.get((_NOTEBOOK, "image"), defaults.image),
        session=limits.get((_NOTEBOOK, "session"), defaults.session),
        day=limits.get((_NOTEBOOK, "day"), defaults.day),
    )


# -- the limits of many people


def read_limits(connection: Connection, subjects: Sequence[str] | None = None) -> dict[tuple[str, str], int]:
    """Return the limits in force of `subjects`, or of all, by subject and period."""
    query = "SELECT subject, period, amount FROM limits"
    if subjects is not None:
        query += f" WHERE subject IN ({placeholders(subjects)})"
    return {(row[0], row[1]): row[2] for row in connection.execute(query, subjects or ())}


def read_limits_and_setting(
    connection: Connection, subjects: Sequence[str], setting: str
) -> tuple[dict[tuple[str, str], int], str | None]:
    """Return the current limits of `subjects` and the value of a setting, in one statement for speed."""
    query = f"""
        SELECT subject, period, amount, NULL AS value FROM limits WHERE subject IN ({placeholders(subjects)})
        UNION ALL SELECT '', '', 0, value FROM settings WHERE name = ?"""
    rows = connection.execute(query, [*subjects, setting]).fetchall()
    value = next((row[3] for row in rows if row[3] is not None), None)
    return {(row[0], row[1]): row[2] for row in rows if row[3] is None}, value


def write_limit(connection: Connection, subject: str, period: str, amount: int | None) -> None:
    """Set a limit, or remove it with None."""
    if amount is None:
        connection.execute("DELETE FROM limits WHERE subject = ? AND period = ?", (subject, period))
        return
    connection.execute(
        """INSERT INTO limits (subject, period, amount) VALUES (?, ?, ?)
        ON CONFLICT (subject, period) DO UPDATE SET amount = excluded.amount""",
        (subject, period, amount),
    )


def read_standings(
    connection: Connection, realm: str, subjects: Sequence[str], windows: Sequence[Window]
) -> list[Standing]:
    """Return the standing of each of `subjects` in each of `windows`."""
    keys = {window.period: window.key for window in windows}
    current = " OR ".join(["(period = ? AND key = ?)"] * len(keys))
    query = f"""
        SELECT subject, period, amount FROM counters
        WHERE subject IN ({placeholders(subjects)}) AND realm = ? AND ({current})"""
    values = [*subjects, realm, *(value for pair in keys.items() for value in pair)]
    used = {(row["subject"], row["period"]): row["amount"] for row in connection.execute(query, values)}
    return standings_of(
        subjects, windows, read_limits(connection, [*subjects, EACH]), used, _at_risk(connection, realm, keys)
    )


def _at_risk(connection: Connection, realm: str, keys: dict[str, str]) -> dict[tuple[str, str], int]:
    """Return the amounts at risk by subject and period, in the windows named `keys`."""
    sums: dict[tuple[str, str], int] = {}
    rows = connection.execute(
        """SELECT reservations.amount AS amount, subjects, windows FROM authorizations
        JOIN reservations ON authorization_id = authorizations.id
        WHERE state NOT IN ('settled', 'released') AND realm = ? AND subjects IS NOT NULL""",
        (realm,),
    )
    for row in rows:
        windows = json.loads(row["windows"])
        for subject in json.loads(row["subjects"]):
            for period, key in windows.items():
                if keys.get(period) == key:
                    sums[subject, period] = sums.get((subject, period), 0) + row["amount"]
    return sums
