"""The gateway at a glance, what requests would cost there, and who pays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blockrun_magic.errors import WalletError
from blockrun_magic.notebook.commands.arguments import Arguments
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Table, format_amount
from blockrun_magic.payments.money import format_usd

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway

__all__ = ["describe_payer", "overview"]


def overview(context: Context, _arguments: Arguments) -> Card:
    """Return gateway, wallet, spend and caps at a glance."""
    from blockrun_magic.payments.ledger.reports import spending_summary

    studio, gateway = context.session.studio_and_gateway()
    realm, caps = gateway.realm, studio.ledger.caps()
    now, day = (spending_summary(studio.ledger, realm, when) for when in ("session", "today"))
    at_risk = spending_summary(studio.ledger, realm, "all").at_risk
    rows = [
        ("gateway", f"{gateway.label}, {context.session.gateway_reason}"),
        ("wallet", describe_payer(context)),
        *(("but", clause) for clause in gateway.limitations),
        ("this session", f"{format_amount(now.settled, realm)} of {format_usd(caps.session)}"),
        ("today (UTC)", f"{format_amount(day.settled, realm)} of {format_usd(caps.day)}"),
        ("at risk", f"{format_amount(at_risk, realm)} sent with an open end; see `%blockrun jobs`"),
        ("cap per image", format_usd(caps.image)),
    ]
    return Table(("", ""), rows, title="blockrun", note="`%blockrun help` lists all commands.", left=2)


def describe_payer(context: Context) -> str:
    """Return who pays at the gateway: a wallet of ours, ClawRouter's, or an account."""
    from blockrun_magic.gateway.gateways import Payer
    from blockrun_magic.payments.wallets.api_key import find_api_key
    from blockrun_magic.wiring import wallet_for

    gateway = context.session.gateway
    if gateway.paid_by is Payer.PROXY:
        return _proxy_words(context, gateway)
    try:
        if gateway.paid_by is Payer.CREDIT:
            return f"the account of the API key in {find_api_key(os.environ).source}"
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
