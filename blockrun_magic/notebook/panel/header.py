"""The head of the panel: where requests go, who pays, what was spent and what may be."""

from __future__ import annotations

import asyncio
from html import escape

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.gateways import PRESETS
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import format_amount
from blockrun_magic.notebook.panel.dispatcher import Callback, Dispatcher
from blockrun_magic.notebook.panel.widgets import button, close_tree, field, html, row
from blockrun_magic.payments.ledger.reports import spending_summary
from blockrun_magic.payments.money import format_usd

__all__ = ["Header"]

_BAND = {
    "practice": "PRACTICE · play money: nothing here costs anything, and every picture is stamped PRACTICE",
    "testnet": "TEST MONEY · worth nothing",
}


class Header:
    """Gateway, wallet, balance and bars; `changed` is called when another gateway was chosen."""

    def __init__(self, context: Context, dispatcher: Dispatcher, changed: Callback) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._changed = changed
        self._balance = ""
        self._band = html("", "brm-band")
        self._gateway = field(widgets.Dropdown(description="Gateway", options=self._names()), "brm-short")
        self._wallet = html("", "brm-wallet")
        self._again = button("↻", "Ask for the balance again", "brm-small")
        self._bars = html("", "brm-bars")
        self._show()
        dispatcher.on_change(self._gateway, self._choose)
        dispatcher.on_click(self._again, self.refresh)
        self.box = widgets.VBox([self._band, row(self._gateway, self._wallet, self._again), self._bars])
        self.box.add_class("brm-header")

    def show_spend(self) -> None:
        """Show what the ledger says by now, of this kernel and of all."""
        self._show()

    async def refresh(self) -> None:
        """Show everything anew, after asking for the balance."""
        self._show()
        studio, gateway = self._context.session.studio_and_gateway()
        try:
            found = await studio.balance(gateway)
        except BlockrunError as error:
            self._balance = error.message
        else:
            self._balance = "balance unknown" if found is None else f"{format_usd(found.micros)}, says {found.source}"
        self._show()

    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("practice", *PRESETS, self._context.session.gateway.name)))

    async def _choose(self) -> None:
        session = self._context.session
        if self._gateway.value == session.gateway.name:
            return
        try:
            # The practice gateway may have to be started, which takes a moment.
            await asyncio.to_thread(session.use, self._gateway.value)
        finally:
            self._balance = ""
            self._show()
        doing = self._changed()
        if doing is not None:
            await doing

    def _show(self) -> None:
        studio, gateway = self._context.session.studio_and_gateway()
        self._gateway.options = self._names()
        self._gateway.value = gateway.name
        band = _BAND.get(gateway.realm, "")
        self._band.value = f'<div class="brm-{gateway.realm}">{escape(band)}</div>' if band else ""
        self._wallet.value = self._wallet_words()
        caps = studio.ledger.caps()
        self._bars.value = "".join(
            _bar(words, sums.settled, sums.at_risk, cap, gateway.realm)
            for words, sums, cap in (
                ("This session", spending_summary(studio.ledger, gateway.realm, "session"), caps.session),
                ("Today (UTC)", spending_summary(studio.ledger, gateway.realm, "today"), caps.day),
            )
        )

    def _wallet_words(self) -> str:
        gateway = self._context.session.gateway
        try:
            address = self._context.session.studio.wallet_for(gateway).address
        except BlockrunError as error:
            return f'<div class="brm-error"><b>{escape(error.message)}</b><br>{escape(error.lines[1])}</div>'
        return (
            f'<div><code title="the wallet that pays">{escape(address)}</code><br>'
            f'<span class="brm-quiet" role="status">{escape(self._balance or "asking for the balance …")}</span></div>'
        )

    def close(self) -> None:
        """Take the head's widgets away."""
        close_tree(self.box)


def _bar(words: str, settled: int, at_risk: int, cap: int, realm: str) -> str:
    """Return a bar of what is spent (full) and at risk (striped) against a cap, with the sums in words."""
    text = f"{words}: {format_amount(settled, realm)} of {format_usd(cap)}"
    if at_risk:
        text += f", {format_usd(at_risk)} at risk"
    done, risk = (min(100.0, 100 * part / cap) if cap else 100.0 for part in (settled, at_risk))
    return (
        f'<div class="brm-meter"><div role="meter" aria-label="{escape(text)}" aria-valuemin="0" aria-valuemax="{cap}"'
        f' aria-valuenow="{settled + at_risk}" class="brm-bar"><div style="width:{done:.2f}%"></div>'
        f'<div class="brm-risk" style="width:{min(risk, 100 - done):.2f}%"></div></div>'
        f'<div class="brm-quiet">{escape(text)}</div></div>'
    )
