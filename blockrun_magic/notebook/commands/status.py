"""`%blockrun`: the gateway, the wallet, spend and limits at a glance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from IPython.display import display

from blockrun_magic.errors import BlockrunError, WalletError, WalletMissing
from blockrun_magic.gateway.gateways import Payer
from blockrun_magic.notebook.config_file import ask_above
from blockrun_magic.notebook.display.cards import Card, Message, format_amount
from blockrun_magic.notebook.display.output import active_capture, show
from blockrun_magic.notebook.display.overview import Overview, Spend, overview_card
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.realm import Realm
from blockrun_magic.threads import run_cpu, run_io
from blockrun_magic.wiring import ENVIRON, blockrun_home, wallet_for

if TYPE_CHECKING:
    from blockrun_magic.gateway.chain.status import Balance
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.notebook.context import Context
    from blockrun_magic.payments.user_records import UserRecords
    from blockrun_magic.studio import Studio

__all__ = ["describe_payer", "overview", "show_overview"]

_BALANCE_TIMEOUT = 2.0


def show_overview(context: Context) -> None:
    """Show the gateway, the wallet, spend and limits at a glance.

    The first one in a kernel shows at once everything that needs no network, and adds the balance later.
    """
    if not context.session.needs_no_studio or active_capture(context.shell) is not None:
        show(overview(context))
        return
    records, gateway = context.session.records_and_gateway()
    card = partial(_card, context, records, gateway)
    if not _has_payer(gateway):
        show(card())
    elif hasattr(context.shell, "interact"):  # a later line would appear in the middle of what the user types
        show(card())
        studio, gateway = context.session.studio_and_gateway()
        balance = context.session.run(_balance(studio, gateway))
        if balance is not None:
            show(Message(f"balance: {_in_words(balance, gateway)}"))
    else:
        place = display(card(waiting=True), display_id=True)
        context.session.submit(_add_balance(context, gateway, card, place))


def overview(context: Context, _arguments: Mapping[str, Any] = MappingProxyType({})) -> Card:
    """Return the gateway, the wallet, spend and limits at a glance, with the balance if it comes within two seconds."""
    studio, gateway = context.session.studio_and_gateway()
    if gateway.paid_by is Payer.CLASSROOM:
        from blockrun_magic.notebook.commands.classroom.card import classroom_card

        return classroom_card(context, gateway)
    return _card(context, studio.records, gateway, context.session.run(_balance(studio, gateway)))


def _card(
    context: Context, records: UserRecords, gateway: Gateway, balance: Balance | None = None, *, waiting: bool = False
) -> Card:
    """Return the overview of a gateway; with `waiting`, its balance is added later."""
    realm, caps = gateway.realm, records.limits()
    now, day = (records.spending(realm, when) for when in ("session", "today"))
    at_risk = day.at_risk  # it counts today, regardless of when it was signed
    ask = ask_above(blockrun_home())
    rows = [
        ("gateway", f"{gateway.label}, {context.session.selection.reason}"),
        ("wallet", describe_payer(context, gateway)),
        *([("balance", _in_words(balance, gateway))] if balance else []),
        *([("balance", "asking …")] if waiting else []),
        *(("note", clause) for clause in gateway.limitations),
        *([("at risk", _at_risk(records, at_risk))] if at_risk else []),
        ("limit per image", format_usd(caps.image)),
        *([("a cell asks above", format_usd(ask))] if ask is not None else []),
    ]
    spend = (
        Spend("this session", now.settled, now.at_risk, caps.session),
        Spend("today (UTC)", day.settled, day.at_risk, caps.day),
    )
    micros = None if balance is None else balance.micros
    return overview_card(Overview(realm, rows, spend, _next_steps(gateway, micros, at_risk)))


def _in_words(balance: Balance, gateway: Gateway) -> str:
    return f"{format_amount(balance.micros, gateway.realm)}, according to {balance.source}"


async def _balance(studio: Studio, gateway: Gateway) -> Balance | None:
    """Return the balance, if it is known within two seconds."""
    with suppress(TimeoutError, BlockrunError):
        return await asyncio.wait_for(studio.balance(gateway), _BALANCE_TIMEOUT)
    return None


async def _add_balance(context: Context, gateway: Gateway, card: Callable[[Balance | None], Card], place: Any) -> None:
    """Open the studio, ask for the balance, and add it to the card that is shown at `place`."""
    balance = None
    with suppress(BlockrunError):  # the next cell shows the studio's error
        studio, _ = await run_io(context.session.studio_and_gateway, gateway.name)
        balance = await _balance(studio, gateway)
    if hasattr(context.shell, "kernel"):
        # Output goes to the cell in this task's context.
        await run_cpu(copy_context().run, lambda: place.update(card(balance)))
    elif balance is not None:
        show(Message(f"balance: {_in_words(balance, gateway)}"))


def _at_risk(records: UserRecords, at_risk: int) -> str:
    """Return the sum at risk, and the time until which it can be charged."""
    until = [payment.valid_before for payment in records.open_payments() if payment.valid_before]
    amount = format_usd(at_risk)
    if not until:
        return f"{amount}; see `%blockrun jobs`"
    return f"{amount} until {time.strftime('%H:%M', time.localtime(max(until)))}; see `%blockrun jobs`"


def _next_steps(gateway: Gateway, balance: int | None, at_risk: int) -> list[str]:
    """Return the next steps, such as creating or funding a wallet."""
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
        steps.append("`%blockrun jobs` checks whether the money at risk was charged.")
    return steps


def _has_payer(gateway: Gateway) -> bool:
    """Return whether there is a wallet or a key whose balance can be asked for."""
    from blockrun_magic.payments.wallets.api_key import find_api_key

    try:
        return bool(find_api_key(ENVIRON, Path.home()) if gateway.prepaid else wallet_for(gateway))
    except WalletError:
        return False


def describe_payer(context: Context, gateway: Gateway) -> str:
    """Return the payer at the gateway: a wallet of ours, ClawRouter's, or an account."""
    from blockrun_magic.payments.wallets.api_key import find_api_key

    if gateway.paid_by is Payer.PROXY:
        return _proxy_words(context, gateway)
    if gateway.paid_by is Payer.CLASSROOM:
        return f"your class at {gateway.base_url}"
    try:
        if gateway.paid_by is Payer.CREDIT:
            return f"the account of the API key in {find_api_key(ENVIRON, Path.home()).source}"
        wallet = wallet_for(gateway)
    except WalletError as error:
        return error.message
    return f"{wallet.address} ({wallet.source}{', locked' if wallet.locked else ''})"


def _proxy_words(context: Context, gateway: Gateway) -> str:
    health = context.session.run(context.session.studio.clawrouter(gateway))
    if health is None:
        return f"no ClawRouter answers at {gateway.base_url}"
    held = "" if health.balance is None else f", holds {format_usd(health.balance)}"
    return f"ClawRouter's own: {health.wallet or 'an API key'}{f' on {health.chain}' if health.chain else ''}{held}"
