"""A buying button and its price, the most that a press signs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.panel.form.prices import LISTED, Prices, price_keys, price_words
from blockrun_magic.notebook.panel.press import GoButton
from blockrun_magic.notebook.panel.widgets import html
from blockrun_magic.payments.money import format_usd

if TYPE_CHECKING:
    from blockrun_magic.notebook.cells.flags import Flags
    from blockrun_magic.notebook.cells.plan import RequestPlan
    from blockrun_magic.notebook.context import Context

__all__ = ["Offer", "Order"]

_PAUSE = 0.3
"""Seconds without a change before the gateway is asked for a price: the user may still be choosing."""


@dataclass(frozen=True, slots=True)
class Order:
    """The order of one press: the flags, the plan, and the price on the button in micro-USDC, if it had one.

    `parent` is the key of the gallery's image that is edited.
    """

    flags: Flags
    plan: RequestPlan
    agreed: int | None
    parent: str | None = None


class Offer:
    """A `button` called `verb`, and the `price` beside it."""

    def __init__(self, verb: str, tooltip: str, context: Context, prices: Prices) -> None:
        self.button = GoButton(verb, tooltip)
        self.price = html("", "brm-price")
        self._verb = verb
        self._context = context
        self._prices = prices
        self._asking = 0

    def withdraw(self) -> None:
        """Show no price: the form cannot be bought as it is."""
        self._asking += 1
        self._show((), "")

    async def show(self, plan: RequestPlan, *, again: bool = False) -> None:
        """Show the price of `plan`: the list price at once, then the gateway's; with `again`, ask it again."""
        self._asking = asking = self._asking + 1
        keys = price_keys(plan)
        studio, gateway = self._context.session.studio_and_gateway()
        if again:
            self._prices.forget(gateway, keys)
        prices, note = self._prices.known(studio, gateway, keys)
        self._show(prices, note, plan.n)
        if note != LISTED:
            return
        await asyncio.sleep(_PAUSE)
        if asking != self._asking:
            return  # the form has changed again
        try:
            await self._prices.ask(studio, gateway, keys)
        except BlockrunError as error:
            note = f"{LISTED}; {error.message}"
        else:
            prices, note = self._prices.known(studio, gateway, keys)
        if asking == self._asking:
            self._show(prices, note, plan.n)

    def _show(self, prices: Sequence[int | None], note: str, n: int = 1) -> None:
        words = price_words(n, prices, self._context.session.gateway.realm)
        small = f' <span class="brm-quiet">{escape(note)}</span>' if note else ""
        self.price.value = f'<span role="status">{escape(words)}</span>{small}'
        quoted = [price for price in prices if price is not None]
        total = sum(quoted) if quoted and len(quoted) == len(prices) else None
        self.button.agreed = total
        self.button.description = self._verb if total is None else f"{self._verb} · {format_usd(total)}"
