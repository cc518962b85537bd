"""Reports of each person's spend, for the page, for a table and for a CSV file."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TextIO

from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.classroom.storage.records import Records
from blockrun_magic.payments.ledger.reports import spending_by_owner
from blockrun_magic.payments.money import to_decimal

__all__ = ["Row", "cell", "line", "report_rows", "write_report"]

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")  # noqa: RUF001  so does a spreadsheet
_SIGNS = frozenset(_FORMULAS)
_BLANKS = ("Cc", "Cf", "Zl", "Zp", "Zs")
_SEPARATORS = frozenset(',;|\t\r\n"')
_COLUMNS = ("name", "role", "groups", "orders", "images", "spent_usd", "at_risk_usd", "last_order_at", "member_id")


@dataclass(frozen=True, slots=True)
class Row:
    """One person: amounts in micro-USDC, `spent` without `at_risk`; the last order in Unix seconds."""

    member: Member
    orders: int
    images: int
    spent: int
    at_risk: int
    last_order_at: float | None

    @property
    def name(self) -> str:
        """The name to show."""
        return self.member.label


def report_rows(records: Records) -> list[Row]:
    """Return a row for everyone, oldest first."""
    spent = spending_by_owner(records.ledger, records.realm)
    counts = records.orders.counts(records.realm)
    rows = []
    for member in records.members.all():
        orders, images, last = counts.get(member.id, (0, 0, None))
        money = spent.get(member.subject)
        settled, at_risk = (money.settled, money.at_risk) if money else (0, 0)
        rows.append(Row(member, orders, images, settled, at_risk, last))
    return rows


def write_report(rows: list[Row], file: TextIO) -> None:
    """Write a CSV with a line for each person; amounts are exact dollars."""
    from datetime import UTC, datetime

    lines = [line(*_COLUMNS)]
    for row in rows:
        last = row.last_order_at
        moment = "" if last is None else datetime.fromtimestamp(last, UTC).isoformat(timespec="seconds")
        who = cell(row.name), row.member.role, cell(" ".join(row.member.groups))
        amounts = f"{to_decimal(row.spent):f}", f"{to_decimal(row.at_risk):f}"
        lines.append(line(*who, row.orders, row.images, *amounts, moment, row.member.id))
    file.writelines(lines)


def cell(text: str) -> str:
    """Return a text that no spreadsheet reads as a formula, even after leading blanks."""
    plain = text.replace("\x00", "")
    seen = next((letter for letter in plain if unicodedata.category(letter) not in _BLANKS), "")
    return f"'{plain}" if plain.startswith(_FORMULAS) or seen in _SIGNS else plain


def line(*values: object) -> str:
    """Return a line of CSV; cells with a separator of any spreadsheet are quoted."""
    return ",".join(map(_quoted, map(str, values))) + "\r\n"


def _quoted(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""')) if _SEPARATORS & set(text) else text
