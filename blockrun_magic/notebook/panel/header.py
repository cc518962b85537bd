"""The head of the panel: practice or real money, the payer, and the spend against the limits."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.gateways import PRACTICE_NAME, Payer
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import format_amount
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.classroom import SENTENCE, class_parts
from blockrun_magic.notebook.panel.dispatcher import Callback, Dispatcher
from blockrun_magic.notebook.panel.hints import panel_lines
from blockrun_magic.notebook.panel.widgets import button, close_tree, html, row, show_if
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.realm import Realm
from blockrun_magic.threads import run_io

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.notebook.display.overview import Spend

__all__ = ["Header"]

_PRACTICE, _REAL = "Practice", "Real money"
_SENTENCES = {
    Realm.PRACTICE: "PRACTICE: play money. Nothing costs anything, and every image is stamped PRACTICE.",
    Realm.TESTNET: "TEST MONEY: worth nothing.",
    Realm.REAL: "Real money: each image is paid in USDC from your wallet, within your limits.",
}


class Header:
    """The switch, the wallet and the bars; `changed` is called when another gateway was chosen."""

    def __init__(self, context: Context, dispatcher: Dispatcher, changed: Callback) -> None:
        self._context = context
        self._changed = changed
        self._balance = ""
        self._class: tuple[str, list[Spend]] | None = None
        self._real_gateway = "base"
        self._switch = light.ToggleButtons(options=[_PRACTICE, _REAL])
        self._switch.add_class("brm-switch")
        self._sentence = html("", "brm-band")
        self._wallet = html("", "brm-wallet")
        self._again = button("↻", "Refresh the balance", "brm-small")
        self._bars = html("", "brm-bars")
        self._render(*self._read(wallet=False))  # reading a key loads the signing library, so it is done later
        dispatcher.on_change(self._switch, self._choose)
        dispatcher.on_click(self._again, self.refresh)
        self.box = light.VBox(
            [row(self._switch, self._sentence), row(self._wallet, self._again, self._bars, classes=("brm-money",))]
        )
        self.box.add_class("brm-header")

    async def refresh(self) -> None:
        """Show everything again, with the balance as it is now."""
        await self.show()
        studio, gateway = self._context.session.studio_and_gateway()
        try:
            balance = await studio.balance(gateway)
        except BlockrunError as error:
            self._balance = error.message
        else:
            amount = "" if balance is None else format_amount(balance.micros, gateway.realm)
            self._balance = "balance unknown" if balance is None else f"{amount}, according to {balance.source}"
        await self.show()

    async def _choose(self) -> None:
        session = self._context.session
        target = PRACTICE_NAME if self._switch.value == _PRACTICE else self._real_gateway
        if (session.gateway.realm == Realm.PRACTICE) == (target == PRACTICE_NAME):
            return
        try:
            # The practice gateway may have to be started, which takes a moment.
            await run_io(session.selection.use, target)
        finally:
            self._balance = ""
            await self.show()
        doing = self._changed()
        if doing is not None:
            await doing

    async def show(self) -> None:
        """Show the current spend of this kernel and of all, from the ledger or, in a class, from the class."""
        self._class = await class_parts(self._context.session)
        self._render(*await run_io(self._read))

    def _read(self, *, wallet: bool = True) -> tuple[Gateway, str, str]:
        """Return the gateway, the wallet and the bars; it reads the ledger and, with `wallet`, key files."""
        studio, gateway = self._context.session.studio_and_gateway()
        if gateway.paid_by is Payer.CLASSROOM:
            who, spends = self._class or ("", [])
            return (
                gateway,
                who,
                "".join(
                    _bar(each.label, each.settled, each.at_risk, each.limit, gateway.realm, each.more)
                    for each in spends
                ),
            )
        caps = studio.records.limits()
        bars = "".join(
            _bar(words, sums.settled, sums.at_risk, cap, gateway.realm)
            for words, sums, cap in (
                ("This session", studio.records.spending(gateway.realm, "session"), caps.session),
                ("Today (UTC)", studio.records.spending(gateway.realm, "today"), caps.day),
            )
        )
        return gateway, self._wallet_html() if wallet else "", bars

    def _render(self, gateway: Gateway, wallet: str, bars: str) -> None:
        if gateway.realm != Realm.PRACTICE:
            self._real_gateway = gateway.name
        in_class = gateway.paid_by is Payer.CLASSROOM
        self._switch.value = _PRACTICE if gateway.realm == Realm.PRACTICE else _REAL
        show_if(self._switch, not in_class)  # the class pays for a student; the Wallet tab has other gateways
        sentence = SENTENCE if in_class else _SENTENCES[gateway.realm]
        self._sentence.value = f'<div class="brm-{gateway.realm}">{escape(sentence)}</div>'
        self._wallet.value = wallet
        self._bars.value = bars

    def _wallet_html(self) -> str:
        gateway = self._context.session.gateway
        try:
            address = self._context.session.studio.wallets.wallet_for(gateway).address
        except BlockrunError as error:
            message, advice = panel_lines(error)
            return f'<div class="brm-error"><b>{escape(message)}</b><br>{escape(advice)}</div>'
        short = f"{address[:6]}…{address[-4:]}"
        balance = self._balance or "asking for the balance …"
        return (
            f'<div><code title="The wallet that pays: {escape(address)}">{escape(short)}</code> '
            f'<span class="brm-quiet" role="status">{escape(balance)}</span></div>'
        )

    def close(self) -> None:
        """Remove the widgets."""
        close_tree(self.box)


def _bar(words: str, settled: int, at_risk: int, cap: int, realm: str, more: str = "") -> str:
    """Return a bar of a limit, with the spend (full), the money at risk (striped), and the sums as text."""
    text = f"{words}: {format_amount(settled, realm)} of {format_usd(cap)}"
    if at_risk:
        text += f", {format_usd(at_risk)} at risk"
    text += more
    done, risk = (min(100.0, 100 * part / cap) if cap else 100.0 for part in (settled, at_risk))
    return (
        f'<div class="brm-meter"><div role="meter" aria-label="{escape(text)}" aria-valuemin="0" aria-valuemax="{cap}"'
        f' aria-valuenow="{min(cap, settled + at_risk)}" class="brm-bar"><div style="width:{done:.2f}%"></div>'
        f'<div class="brm-risk" style="width:{min(risk, 100 - done):.2f}%"></div></div>'
        f'<div class="brm-quiet">{escape(text)}</div></div>'
    )
