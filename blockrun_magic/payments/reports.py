"""What was spent, added up by the ledger: by when, by model, by realm of money."""

from __future__ import annotations

from dataclasses import dataclass

from blockrun_magic.payments.database import marks
from blockrun_magic.payments.ledger import Ledger
from blockrun_magic.payments.states import AT_RISK, State

__all__ = ["Spending", "spending", "spending_by_model"]

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums in micro-USDC, and how many payments they are made of; `estimated` is part of `settled`."""

    settled: int
    payments: int
    at_risk: int
    estimated: int = 0


def spending(ledger: Ledger, realm: str, when: str) -> Spending:
    """Return what was spent in `realm` in this "session", "today" (UTC) or "all" the time."""
    rows, values = _rows(ledger, realm, when)
    [row] = ledger.query(
        f"""SELECT
            coalesce(sum(amount) FILTER (WHERE state = ?), 0) AS settled,
            coalesce(sum(payments) FILTER (WHERE state = ?), 0) AS payments,
            coalesce(sum(amount) FILTER (WHERE state IN ({marks(AT_RISK)})), 0) AS at_risk,
            coalesce(sum(amount) FILTER (WHERE state = ? AND estimated), 0) AS estimated
        FROM ({rows})""",  # noqa: S608  marks and fixed words only
        (State.SETTLED, State.SETTLED, *AT_RISK, State.SETTLED, *values),
    )
    return Spending(row["settled"], row["payments"], row["at_risk"], row["estimated"])


def spending_by_model(ledger: Ledger, realm: str, when: str) -> list[tuple[str, int, int, int]]:
    """Return (model, payments, settled micro-USDC, micro-USDC at risk), the dearest first."""
    rows, values = _rows(ledger, realm, when)
    found = ledger.query(
        f"""SELECT
            model,
            coalesce(sum(payments) FILTER (WHERE state = ?), 0) AS payments,
            coalesce(sum(amount) FILTER (WHERE state = ?), 0) AS settled,
            coalesce(sum(amount) FILTER (WHERE state IN ({marks(AT_RISK)})), 0) AS at_risk
        FROM ({rows}) WHERE payments > 0 AND state <> ?
        GROUP BY 1 ORDER BY settled DESC, 1""",  # noqa: S608  marks and fixed words only
        (State.SETTLED, State.SETTLED, *AT_RISK, *values, State.RELEASED),
    )
    return [(row["model"], row["payments"], row["settled"], row["at_risk"]) for row in found]


def _rows(ledger: Ledger, realm: str, when: str) -> tuple[str, tuple[str | float, ...]]:
    """Return the query for what is added up, and its values: the payments of a session, or sums of whole days."""
    if when == "session":
        query = """
            SELECT json_extract(request, '$.model') AS model, state, estimated, amount, 1 AS payments
            FROM authorizations JOIN purchases ON purchases.id = purchase_id
            WHERE authorizations.realm = ? AND session = ?"""
        return query, (realm, ledger.session)
    query = "SELECT model, state, estimated, amount, payments FROM sums WHERE realm = ? AND day >= ?"
    return query, (realm, ledger.clock() // _DAY if when == "today" else 0)
