"""The plan of a batch as a table: its requests, their prices, and the sum."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from blockrun_magic.notebook.display.cards import format_amount, short

if TYPE_CHECKING:
    from blockrun_magic.notebook.cells.plan import RequestPlan

__all__ = ["plan_html"]

_MAX_ROWS = 12


def plan_html(plan: RequestPlan, prices: Sequence[int | None], realm: str) -> str:
    """Return a table of the requests of `plan` with `prices` in micro-USDC, and their sum."""
    rows = [
        f"<tr><td>{escape(short(prompt, 40))}</td><td>{escape(model)}</td><td>{escape(size)}</td>"
        f"<td>{'?' if price is None else escape(format_amount(price, realm))}</td></tr>"
        for (prompt, model, size), price in list(zip(plan.variants, prices, strict=True))[:_MAX_ROWS]
    ]
    hidden = len(plan.variants) - len(rows)
    if hidden:
        rows.append(f'<tr><td colspan="4">and {hidden} more</td></tr>')
    total = "?" if None in prices else format_amount(sum(price or 0 for price in prices), realm)
    count = plan.n * len(plan.variants)
    return (
        '<table class="brm-plan-table"><thead><tr><th>prompt</th><th>model</th><th>size</th><th>price</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>"
        f'<tfoot><tr><th colspan="3">{count} images</th><td>{escape(total)}</td></tr></tfoot></table>'
    )
