"""`%blockrun`: the gateway, the wallet, spend and limits at a glance."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError, WalletError, WalletMissing
from blockrun_magic.gateway.gateways import Payer
from blockrun_magic.notebook.commands.arguments import Arguments
from blockrun_magic.notebook.commands.classroom.card import classroom_card
from blockrun_magic.notebook.config_file import ask_above
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, format_amount
from blockrun_magic.notebook.display.overview import Overview, Spend, overview_card
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.realm import Realm
from blockrun_magic.wiring import ENVIRON, blockrun_home, wallet_for

if TYPE_CHECKING:
    from blockrun_magic.gateway.chain.status import Balance
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.studio import Studio

__all__ = ["describe_payer", "overview"]

_BALANCE_TIMEOUT = 2.0


def overview(context: Context, _arguments: Arguments) -> Card:
    """Return the gateway, the wallet, spend and limits at a glance."""
    from blockrun_magic.payments.ledger.reports import spending_summary

    studio, gateway = context.session.studio_and_gateway()
    if gateway.paid_by is Payer.CLASSROOM:
        return classroom_card(context, gateway)
    realm, caps = gateway.realm, studio.ledger.caps()
    now, day = (spending_summary(studio.ledger, realm, when) for when in ("session", "today"))
    at_risk = spending_summary(studio.ledger, realm, "all").at_risk
    micros, balance = _balance(context, gateway)
    ask = ask_above(blockrun_home())
    rows = [
        ("gateway", f"{gateway.label}, {context.session.gateway_reason}"),
        ("wallet", describe_payer(context)),
        *([("balance", balance)] if balance else []),
        *(("note", clause) for clause in gateway.limitations),
        *([("at risk", _at_risk(studio, at_risk))] if at_risk else []),
        ("limit per image", format_usd(caps.image)),
        *([("a cell asks above", format_usd(ask))] if ask is not None else []),
    ]
    spend = (
        Spend("this session", now.settled, now.at_risk, caps.session),
        Spend("today (UTC)", day.settled, day.at_risk, caps.day),
    )
    return overview_card(Overview(realm, rows, spend, _next_steps(gateway, micros, at_risk)))


def _balance(context: Context, gateway: Gateway) -> tuple[int | None, str]:
    """Return the balance in micro-USDC and in words, if it is known within two seconds."""
    studio = context.session.studio

    async def ask() -> Balance | None:
        with suppress(TimeoutError, BlockrunError):
            return await asyncio.wait_for(studio.balance(gateway), _BALANCE_TIMEOUT)
        return None

    balance = context.session.run(ask())
    if balance is None:
        return None, ""
    return balance.micros, f"{format_amount(balance.micros, gateway.realm)}, according to {balance.source}"


def _at_risk(studio: Studio, at_risk: int) -> str:
    """Return the sum at risk, and until when it can still be charged."""
    until = [payment.valid_before for payment in studio.ledger.open_payments() if payment.valid_before]
    amount = format_usd(at_risk)
    if not until:
        return f"{amount}; see `%blockrun jobs`"
    return f"{amount} until {time.strftime('%H:%M', time.localtime(max(until)))}; see `%blockrun jobs`"


def _next_steps(gateway: Gateway, balance: int | None, at_risk: int) -> list[str]:
    """Return what to do next where something is missing."""
    steps = []
    if not gateway.prepaid:
        try:
            wallet_for(gateway)
        except WalletMissing:
            return ["`%blockrun wallet create` makes a wallet; `%blockrun use practice` is free."]
        except WalletError as error:
            return [error.hint]
        if balance == 0 and gateway.realm != Realm.PRACTICE:
            steps.append(f"`%blockrun wallet qr` shows where to send {gateway.money}.")
    if at_risk:
        steps.append("`%blockrun jobs` checks what became of the money at risk.")
    return steps


def describe_payer(context: Context) -> str:
    """Return who pays at the gateway: a wallet of ours, ClawRouter's, or an account."""
    from blockrun_magic.payments.wallets.api_key import find_api_key

    gateway = context.session.gateway
    if gateway.paid_by is Payer.PROXY:
        return _proxy_words(context, gateway)
    if gateway.paid_by is Payer.CLASSROOM:
        return f"your class at {gateway.base_url}"
    try:
        if gateway.paid_by is Payer.CREDIT:
            return f"the account of the API key in {find_api_key(ENVIRON, Path.home()).source}"
        found = wallet_for(gateway)
    except WalletError as error:
        return error.message
    return f"{found.address} ({found.source}{', locked' if found.locked else ''})"


def _proxy_words(context: Context, gateway: Gateway) -> str:
    from blockrun_magic.gateway.clawrouter import clawrouter_health

    health = context.session.run(clawrouter_health(context.session.studio.client, gateway, full=True))
    if health is None:
        return f"no ClawRouter answers at {gateway.base_url}"
    held = "" if health.balance is None else f", holds {format_usd(health.balance)}"
    return f"ClawRouter's own: {health.wallet or 'an API key'}{f' on {health.chain}' if health.chain else ''}{held}"
