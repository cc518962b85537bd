"""Sums of settled payments by model and day, so that a query of all time does not read every receipt.

Settled payments never change, so they are added up once, afterwards: a purchase writes nothing for it. A mark records
the last payment in the sums, and the earlier ones that were still open; those and all newer ones are read one by one. A
server has no sums, because payments do not become visible in the order of their ids.
"""

from __future__ import annotations

import json

from blockrun_magic.database.engine import Connection
from blockrun_magic.payments.ledger.ledger import Ledger

__all__ = ["DAY", "add_some", "add_up", "payment_lines", "settled_lines"]

DAY = 86_400
_MARK = "sums"
"""The setting with the mark: {"until": ID, "open": [ID, ...]}."""
_ENOUGH = 5_000
"""Number of payments from which an update of the sums is worthwhile; fewer are read one by one."""
_STEP = 10_000
"""Number of payments added up in one transaction, for which other kernels have to wait."""

_MARKED = f"FROM settings CROSS JOIN json_each(settings.value, '$.open') AS one WHERE name = '{_MARK}'"
_IS_LEFT = f"""(authorizations.id > coalesce((
        SELECT json_extract(value, '$.until') FROM settings WHERE name = '{_MARK}'), 0)
    OR authorizations.id IN (SELECT one.value {_MARKED}))"""

# Written so that SQLite does not use the index of settled payments, which has all of them.
_ADD = f"""
    INSERT INTO sums (realm, model, day, payments, settled, estimated)
    SELECT authorizations.realm, coalesce(json_extract(request, '$.model'), ''),
        CAST(authorizations.created_at / {DAY} AS INTEGER) * {DAY},
        count(*), sum(amount), sum(CASE WHEN estimated THEN amount ELSE 0 END)
    FROM authorizations CROSS JOIN purchases ON purchases.id = purchase_id
    WHERE {{them}} AND coalesce(state, '') = 'settled' GROUP BY 1, 2, 3
    ON CONFLICT (realm, model, day) DO UPDATE SET payments = payments + excluded.payments,
        settled = settled + excluded.settled, estimated = estimated + excluded.estimated"""

_SET_MARK = f"""INSERT INTO settings (name, value) VALUES ('{_MARK}', ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value"""


def payment_lines(condition: str, *, model: bool = False) -> str:
    """Return the query for one line per payment that was not released, with its part of each sum."""
    name, joined = "''", ""
    if model:
        name, joined = "json_extract(request, '$.model')", "CROSS JOIN purchases ON purchases.id = purchase_id"
    return f"""SELECT {name} AS model, CAST(authorizations.created_at / {DAY} AS INTEGER) * {DAY} AS day,
            CASE WHEN state = 'settled' THEN 1 ELSE 0 END AS payments,
            CASE WHEN state = 'settled' THEN amount ELSE 0 END AS settled,
            CASE WHEN state = 'settled' AND estimated <> 0 THEN amount ELSE 0 END AS estimated,
            CASE WHEN state = 'settled' THEN 0 ELSE amount END AS at_risk
        FROM authorizations {joined} WHERE state <> 'released' AND {condition}"""


def settled_lines(ledger: Ledger, realm: str, *, model: bool = False) -> tuple[str, tuple[str, ...]]:
    """Return the query for such lines of all payments in `realm`, most of them in sums, and its values."""
    if ledger.path is None:
        return payment_lines("authorizations.realm = ?", model=model), (realm,)
    # Written so that SQLite does not use the index of the realm, which has all payments.
    left = payment_lines(f"{_IS_LEFT} AND coalesce(authorizations.realm, '') = ?", model=model)
    sums = "SELECT model, day, payments, settled, estimated, 0 AS at_risk FROM sums WHERE realm = ?"
    return f"{left} UNION ALL {sums}", (realm, realm)


def add_up(ledger: Ledger) -> None:
    """Update the sums if enough payments are new; raises LedgerError."""
    while add_some(ledger):
        pass


def add_some(ledger: Ledger) -> bool:
    """Add up the next few thousand payments, and return whether there may be more; raises LedgerError."""
    if ledger.path is None or _newest(ledger) - _mark(ledger)[0] < _ENOUGH:
        return False
    with ledger.transaction(durable=False) as connection:
        mark, opened = _mark(ledger)
        until = min(mark + _STEP, _newest(ledger))
        _add(connection, "authorizations.id > ?1 AND authorizations.id <= ?2", (mark, until))
        if opened:
            _add(connection, "authorizations.id IN (SELECT value FROM json_each(?1))", (json.dumps(opened),))
        undecided = "SELECT id FROM authorizations WHERE state NOT IN ('settled', 'released')"
        still = [row["id"] for row in connection.execute(undecided) if row["id"] <= until]
        connection.execute(_SET_MARK, (json.dumps({"until": until, "open": still}),))
    return True


def _add(connection: Connection, them: str, values: tuple[object, ...]) -> None:
    connection.execute(_ADD.format(them=them), values)


def _newest(ledger: Ledger) -> int:
    return int(ledger.query("SELECT coalesce(max(id), 0) AS newest FROM authorizations")[0]["newest"])


def _mark(ledger: Ledger) -> tuple[int, list[int]]:
    mark = json.loads(ledger.setting(_MARK) or "{}")
    return mark.get("until", 0), mark.get("open", [])
