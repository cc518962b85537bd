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
    condition, value = _period(ledger, when)
    [row] = ledger.query(
        f"""SELECT
            coalesce(sum(amount) FILTER (WHERE state = ?), 0) AS settled,
            count(*) FILTER (WHERE state = ?) AS payments,
            coalesce(sum(amount) FILTER (WHERE state IN ({marks(AT_RISK)})), 0) AS at_risk,
            coalesce(sum(amount) FILTER (WHERE state = ? AND estimated), 0) AS estimated
        FROM authorizations WHERE realm = ? AND {condition}""",  # noqa: S608  marks and fixed words only
        (State.SETTLED, State.SETTLED, *AT_RISK, State.SETTLED, realm, value),
    )
    return Spending(row["settled"], row["payments"], row["at_risk"], row["estimated"])


def spending_by_model(ledger: Ledger, realm: str, when: str) -> list[tuple[str, int, int, int]]:
    """Return (model, payments, settled micro-USDC, micro-USDC at risk), the dearest first."""
    condition, value = _period(ledger, when)
    rows = ledger.query(
        f"""SELECT
            json_extract(request, '$.model') AS model,
            count(*) FILTER (WHERE state = ?) AS payments,
            coalesce(sum(amount) FILTER (WHERE state = ?), 0) AS settled,
            coalesce(sum(amount) FILTER (WHERE state IN ({marks(AT_RISK)})), 0) AS at_risk
        FROM authorizations JOIN purchases ON purchases.id = purchase_id
        WHERE authorizations.realm = ? AND authorizations.{condition} AND state <> ?
        GROUP BY 1 ORDER BY settled DESC, 1""",  # noqa: S608  marks and fixed words only
        (State.SETTLED, State.SETTLED, *AT_RISK, realm, value, State.RELEASED),
    )
    return [(row["model"], row["payments"], row["settled"], row["at_risk"]) for row in rows]


def _period(ledger: Ledger, when: str) -> tuple[str, str | float]:
    if when == "session":
        return "session = ?", ledger.session
    now = ledger.clock()
    return "created_at >= ?", now - now % _DAY if when == "today" else 0.0
