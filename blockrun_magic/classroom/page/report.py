"""The table of all orders for spreadsheets, with exact amounts, and without cells that look like formulas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from blockrun_magic.classroom.page.records import OrderView
from blockrun_magic.classroom.page.rendering import clock_time
from blockrun_magic.classroom.storage.reports import cell, line
from blockrun_magic.payments.money import to_decimal

__all__ = ["write_orders"]

_COLUMNS = (
    *("order", "person_id", "person", "when", "state", "kind", "model", "size", "n", "charged_usd", "at_risk_usd"),
    *("prompt", "problem"),
)


def write_orders(orders: Iterable[OrderView], file: TextIO, zone: str) -> None:
    """Write a line for each order; times are in the time zone `zone`."""
    lines = [line(*_COLUMNS)]
    for order in orders:
        who = order.id, order.person_id, cell(order.person)
        facts = order.state, order.kind, cell(order.model), cell(order.size), order.n
        amounts = f"{to_decimal(order.charged):f}", f"{to_decimal(order.at_risk):f}"
        texts = cell(order.prompt or ""), cell(order.problem or "")
        lines.append(line(*who, clock_time(order.created_at, zone), *facts, *amounts, *texts))
    file.writelines(lines)
