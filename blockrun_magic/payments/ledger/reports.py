"""Reports of payments: sums by period, by model and by day, for one realm of money."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO, overload

from blockrun_magic.database.engine import Row, placeholders
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.ledger.years.sums import DAY, add_up, payment_lines, settled_lines
from blockrun_magic.payments.money import parse_usd, to_decimal
from blockrun_magic.payments.realm import Realm
from blockrun_magic.text import format_usd

__all__ = [
    "OwnedPayment",
    "PaymentList",
    "Spending",
    "list_payments",
    "paid_for",
    "payments_of_owners",
    "spending_by_day",
    "spending_by_model",
    "spending_by_owner",
    "spending_by_request",
    "spending_summary",
    "stored_files",
]

_SUMS = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in ("settled", "payments", "at_risk", "estimated"))


_UNDECIDED = "state NOT IN ('settled', 'released')"


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums in micro-USDC, and the number of payments in them; `estimated` is part of `settled`."""

    settled: int
    payments: int
    at_risk: int
    estimated: int = 0


@dataclass(frozen=True, slots=True)
class OwnedPayment:
    """Amount (micro-USDC) and time (Unix seconds) of the last change of an owner's payment."""

    owner: str
    at: float
    amount: int
    settled: bool


def spending_summary(ledger: Ledger, realm: str, when: str) -> Spending:
    """Return the spend in `realm` of this "session", of "today" (UTC), or of "all" time."""
    lines, values = _lines(ledger, realm, when)
    [row] = ledger.query(f"SELECT {_SUMS} FROM ({lines}) AS lines", values)
    return Spending(row["settled"], row["payments"], row["at_risk"], row["estimated"])


def spending_by_model(ledger: Ledger, realm: str, when: str) -> list[tuple[str, int, int, int]]:
    """Return (model, payments, settled micro-USDC, micro-USDC at risk), the most expensive first."""
    if when == "all":
        add_up(ledger)
    lines, values = _lines(ledger, realm, when, model=True)
    query = f"SELECT model, {_SUMS} FROM ({lines}) AS lines GROUP BY 1 ORDER BY settled DESC, 1"
    return [(row["model"], row["payments"], row["settled"], row["at_risk"]) for row in ledger.query(query, values)]


def spending_by_owner(ledger: Ledger, realm: str, since: float = 0.0) -> dict[str, Spending]:
    """Return the cost of each owner's purchases since a moment (Unix seconds), and all money at risk."""
    rows = ledger.query(
        f"""SELECT
            owner,
            coalesce(sum(amount) FILTER (WHERE state = 'settled'), 0) AS settled,
            count(*) FILTER (WHERE state = 'settled') AS payments,
            coalesce(sum(amount) FILTER (WHERE {_UNDECIDED}), 0) AS at_risk
        FROM authorizations WHERE realm = ? AND (updated_at >= ? OR {_UNDECIDED}) GROUP BY owner""",
        (realm, since),
    )
    return {row["owner"]: Spending(row["settled"], row["payments"], row["at_risk"]) for row in rows}


def payments_of_owners(ledger: Ledger, realm: str, since: float, owner: str | None = None) -> list[OwnedPayment]:
    """Return the payments since a moment (Unix seconds) that were not released, of everyone or of one owner.

    Payments without an owner are left out.
    """
    mine, values = ("owner <> ''", []) if owner is None else ("owner = ?", [owner])
    rows = ledger.query(
        f"""SELECT owner, updated_at, amount, state FROM authorizations
        WHERE realm = ? AND updated_at >= ? AND state <> 'released' AND {mine}""",
        (realm, since, *values),
    )
    return [OwnedPayment(row["owner"], row["updated_at"], row["amount"], row["state"] == "settled") for row in rows]


def spending_by_request(
    ledger: Ledger, realm: str, digests: Sequence[str]
) -> dict[tuple[str, str, int], tuple[int, int]]:
    """Return the cost of these requests and their money at risk, in micro-USDC, by (owner, digest, take)."""
    rows = ledger.query(
        f"""SELECT
            purchases.owner AS owner, digest, take,
            coalesce(sum(amount) FILTER (WHERE state = 'settled'), 0) AS settled,
            coalesce(sum(amount) FILTER (WHERE {_UNDECIDED}), 0) AS at_risk
        FROM purchases JOIN authorizations ON purchase_id = purchases.id
        WHERE purchases.realm = ? AND digest IN ({placeholders(digests)}) GROUP BY 1, 2, 3""",
        (realm, *digests),
    )
    return {(row["owner"], row["digest"], row["take"]): (int(row["settled"]), int(row["at_risk"])) for row in rows}


def _lines(ledger: Ledger, realm: str, when: str, *, model: bool = False) -> tuple[str, tuple[str | float, ...]]:
    """Return the query for a period's payments, and its values; money at risk counts today, even if signed earlier."""
    if when == "all":
        return settled_lines(ledger, realm, model=model)
    if when == "session":
        return payment_lines("authorizations.realm = ? AND session = ?", model=model), (realm, ledger.session)
    now = ledger.clock()
    today = "authorizations.realm = ? AND state = 'settled' AND authorizations.updated_at >= ?"
    # Written so that SQLite uses the index of open payments, not the larger one of the realm.
    at_risk = "coalesce(authorizations.realm, '') = ? AND state NOT IN ('settled', 'released')"
    lines = (payment_lines(condition, model=model) for condition in (today, at_risk))
    return " UNION ALL ".join(lines), (realm, now - now % DAY, realm)


class PaymentList(Sequence[Mapping[str, Any]]):
    """A list of payments as plain values, oldest first: time, request, amount and state."""

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
    """Return every payment of a period that is settled or at risk, as values."""
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
    lines, values = _lines(ledger, realm, when)
    if when != "all":  # by the day of the signature
        condition, since = _since(ledger, when)
        lines, values = payment_lines(f"authorizations.realm = ? AND authorizations.{condition}"), (realm, since)
    query = f"SELECT day, sum(settled) AS spent FROM ({lines}) AS lines GROUP BY 1 HAVING sum(settled) > 0 ORDER BY 1"
    return [(row["day"], row["spent"]) for row in ledger.query(query, values)]


def _since(ledger: Ledger, when: str) -> tuple[str, str | float]:
    if when == "session":
        return "session = ?", ledger.session
    now = ledger.clock()
    return "created_at >= ?", now - now % DAY if when == "today" else 0.0


def stored_files(ledger: Ledger) -> list[tuple[str, str]]:
    """Return the digests of the stored files of finished purchases, each with the id of such a purchase.

    The files of an edit's images are among them, with no id, unless an unfinished purchase still needs them.
    """
    files: list[tuple[str, str]] = [
        (file, purchase)
        for file, purchase in ledger.query(
            "SELECT file, purchase_id FROM pictures"
            " WHERE purchase_id NOT IN (SELECT id FROM purchases WHERE finished_at IS NULL)"
        )
    ]
    uploads = ledger.query(
        """SELECT json_extract(value, '$.file') AS file, min(finished_at IS NOT NULL) AS done
        FROM purchases, json_each(request, '$.uploads') GROUP BY 1"""
    )
    if needed := {row["file"] for row in uploads if not row["done"]}:
        files = [each for each in files if each[0] not in needed]
    return files + [(row["file"], "") for row in uploads if row["done"]]


def paid_for(ledger: Ledger, purchases: AbstractSet[str]) -> int:
    """Return the real micro-USDC that these purchases cost."""
    rows = ledger.query(
        """SELECT purchase_id, amount FROM authorizations
        WHERE coalesce(state, '') = 'settled' AND coalesce(realm, '') = ?""",
        (Realm.REAL,),
    )
    return sum(amount for purchase, amount in rows if purchase in purchases)
