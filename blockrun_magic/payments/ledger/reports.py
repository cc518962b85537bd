"""Reports of payments: sums by period, by model and by day, for one realm of money."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO, overload

from blockrun_magic.database.engine import Row, placeholders
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.states import AT_RISK, State
from blockrun_magic.payments.money import parse_usd, to_decimal
from blockrun_magic.payments.realm import Realm
from blockrun_magic.text import format_usd

__all__ = [
    "PaymentList",
    "Spending",
    "list_payments",
    "spending_by_day",
    "spending_by_model",
    "spending_by_owner",
    "spending_summary",
    "stored_files",
]

_DAY = 86_400
_ANY_REALM = "coalesce(authorizations.realm, '')"


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums in micro-USDC, and how many payments they are made of; `estimated` is part of `settled`."""

    settled: int
    payments: int
    at_risk: int
    estimated: int = 0


def spending_summary(ledger: Ledger, realm: str, when: str) -> Spending:
    """Return what was spent in `realm` in this "session", "today" (UTC) or "all" the time."""
    rows, values = _rows(ledger, realm, when, "SELECT state, estimated, amount, 1 AS payments FROM authorizations")
    [row] = ledger.query(
        f"""SELECT
            coalesce(sum(amount) FILTER (WHERE state = ?), 0) AS settled,
            coalesce(sum(payments) FILTER (WHERE state = ?), 0) AS payments,
            coalesce(sum(amount) FILTER (WHERE state IN ({placeholders(AT_RISK)})), 0) AS at_risk,
            coalesce(sum(amount) FILTER (WHERE state = ? AND estimated), 0) AS estimated
        FROM ({rows})""",
        (State.SETTLED, State.SETTLED, *AT_RISK, State.SETTLED, *values),
    )
    return Spending(row["settled"], row["payments"], row["at_risk"], row["estimated"])


def spending_by_model(ledger: Ledger, realm: str, when: str) -> list[tuple[str, int, int, int]]:
    """Return (model, payments, settled micro-USDC, micro-USDC at risk), the dearest first."""
    query = """SELECT json_extract(request, '$.model') AS model, state, amount, 1 AS payments
        FROM authorizations JOIN purchases ON purchases.id = purchase_id"""
    rows, values = _rows(ledger, realm, when, query)
    found = ledger.query(
        f"""SELECT
            model,
            coalesce(sum(payments) FILTER (WHERE state = ?), 0) AS payments,
            coalesce(sum(amount) FILTER (WHERE state = ?), 0) AS settled,
            coalesce(sum(amount) FILTER (WHERE state IN ({placeholders(AT_RISK)})), 0) AS at_risk
        FROM ({rows}) WHERE payments > 0 AND state <> ?
        GROUP BY 1 ORDER BY settled DESC, 1""",
        (State.SETTLED, State.SETTLED, *AT_RISK, *values, State.RELEASED),
    )
    return [(row["model"], row["payments"], row["settled"], row["at_risk"]) for row in found]


def spending_by_owner(ledger: Ledger, realm: str) -> dict[str, Spending]:
    """Return what the purchases of each owner cost in all."""
    found = ledger.query(
        f"""SELECT
            owner,
            coalesce(sum(amount) FILTER (WHERE state = ?), 0) AS settled,
            count(*) FILTER (WHERE state = ?) AS payments,
            coalesce(sum(amount) FILTER (WHERE state IN ({placeholders(AT_RISK)})), 0) AS at_risk
        FROM authorizations WHERE realm = ? GROUP BY owner""",
        (State.SETTLED, State.SETTLED, *AT_RISK, realm),
    )
    return {row["owner"]: Spending(row["settled"], row["payments"], row["at_risk"]) for row in found}


def _rows(ledger: Ledger, realm: str, when: str, query: str) -> tuple[str, tuple[str | float, ...]]:
    """Return `query` for the payments of a period, and its values. At risk counts today, whenever it was signed."""
    query = f"{query} WHERE authorizations.realm = ? AND"
    if when == "session":
        return f"{query} session = ?", (realm, ledger.session)
    if when == "today":
        now = ledger.clock()
        settled = f"{query} state = 'settled' AND authorizations.updated_at >= ?"
        # So that the index of open payments is used, not that of the realm, which has all.
        at_risk = f"{query} state NOT IN ('settled', 'released')".replace("authorizations.realm", _ANY_REALM)
        return f"{settled} UNION ALL {at_risk}", (realm, now - now % _DAY, realm)
    return f"{query} TRUE", (realm,)


class PaymentList(Sequence[Mapping[str, Any]]):
    """Payments as plain values, oldest first: when, for what, how much, and whether it is settled."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._records = records

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> PaymentList: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | PaymentList:
        return PaymentList(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    @property
    def _total(self) -> int:
        return sum(parse_usd(record["usd"]) for record in self._records)

    def __repr__(self) -> str:
        return f"<{len(self)} payments, {format_usd(self._total)}>"

    def to_records(self) -> list[dict[str, Any]]:
        """Return a dict for each payment; `usd` is a `Decimal`, `time` an ISO 8601 text in UTC."""
        return [dict(record) for record in self._records]

    def to_dataframe(self) -> Any:
        """Return `to_records` as a pandas DataFrame; raises ImportError without pandas."""
        import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]

        return pd.DataFrame(self.to_records(), columns=list(_COLUMNS))

    def to_csv(self, file: TextIO) -> None:
        """Write a table with a header, as RFC 4180 has it."""
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(record | {"usd": f"{record['usd']:f}"} for record in self.to_records())


_COLUMNS = ("time", "model", "size", "n", "prompt", "usd", "state", "estimated", "gateway", "network", "transaction")


def list_payments(ledger: Ledger, realm: str, when: str) -> PaymentList:
    """Return every payment of a period that was settled or is at risk, as values."""
    condition, value = _since(ledger, when)
    rows = ledger.query(
        f"""SELECT authorizations.*, request FROM authorizations JOIN purchases ON purchases.id = purchase_id
        WHERE authorizations.realm = ? AND authorizations.{condition} AND state <> ?
        ORDER BY authorizations.created_at""",
        (realm, value, State.RELEASED),
    )
    return PaymentList([_record(row, json.loads(row["request"])) for row in rows])


def _record(row: Row, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "time": datetime.fromtimestamp(row["created_at"], UTC).isoformat(timespec="seconds"),
        "model": request.get("model"),
        "size": request.get("size"),
        "n": request.get("n"),
        "prompt": request.get("prompt"),
        "usd": to_decimal(row["amount"]),
        "state": row["state"],
        "estimated": bool(row["estimated"]),
        "gateway": row["gateway"],
        "network": row["network"],
        "transaction": row["transaction_hash"],
    }


def spending_by_day(ledger: Ledger, realm: str, when: str) -> list[tuple[float, int]]:
    """Return (Unix time, settled micro-USDC) of each UTC day of a period that had any."""
    condition, value = _since(ledger, when)
    rows = ledger.query(
        f"""SELECT CAST(created_at / {_DAY} AS INTEGER) * {_DAY} AS at, sum(amount) AS spent
        FROM authorizations WHERE realm = ? AND state = ? AND {condition}
        GROUP BY 1 HAVING spent > 0 ORDER BY 1""",
        (realm, State.SETTLED, value),
    )
    return [(row["at"], row["spent"]) for row in rows]


def _since(ledger: Ledger, when: str) -> tuple[str, str | float]:
    if when == "session":
        return "session = ?", ledger.session
    now = ledger.clock()
    return "created_at >= ?", now - now % _DAY if when == "today" else 0.0


def stored_files(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Return the digest of each stored file whose purchase is finished, and what each purchase cost for real.

    The files of an edit's images are among them, unless an unfinished purchase still needs them; they cost nothing.
    """
    rows = ledger.query(
        """SELECT file, purchase_id, CASE realm WHEN ? THEN coalesce((
            SELECT sum(amount) FROM authorizations WHERE purchase_id = pictures.purchase_id AND state = 'settled'
        ), 0) ELSE 0 END
        FROM pictures JOIN purchases ON purchases.id = purchase_id WHERE finished_at IS NOT NULL""",
        (Realm.REAL,),
    )
    files: dict[str, dict[str, int]] = {}
    for file, purchase, paid in rows:
        files.setdefault(file, {})[purchase] = paid
    uploads = ledger.query(
        """SELECT json_extract(value, '$.file') AS file, min(finished_at IS NOT NULL) AS done
        FROM purchases, json_each(request, '$.uploads') GROUP BY 1""",
        (),
    )
    for row in uploads:
        if row["done"]:
            files.setdefault(row["file"], {})
        else:
            files.pop(row["file"], None)
    return files
