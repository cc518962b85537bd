"""Choosing where requests go: by name, by URL, or by what is found here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockrun_magic.errors import WalletError, WalletMissing
from blockrun_magic.gateway.gateways import PRESETS
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message
from blockrun_magic.wiring import blockrun_home, wallet_for

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway

__all__ = ["USE", "use"]

_GATEWAY = "|".join(("practice", *PRESETS, "auto", "URL"))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One gateway that could be used, and what speaks for or against it."""

    name: str
    usable: bool
    words: str


def use(context: Context, arguments: Arguments) -> Card:
    """Send requests to the gateway that is named, or with `auto` to the best that is found here."""
    from blockrun_magic.notebook.config_file import remember_gateway

    name = arguments[_GATEWAY]
    lines = []
    if name.lower() == "auto":
        found = _look_around(context)
        chosen = next(place for place in found if place.usable)
        lines = [f"{place.name}: {place.words}" for place in found]
        gateway = context.session.use(chosen.name, f"found by `%blockrun use auto`: {chosen.words}")
    else:
        gateway = context.session.use(name)
    lines.append(f"Requests go to {gateway.label}: {_money_words(gateway)}.")
    lines += [f"{clause[0].upper()}{clause[1:]}." for clause in gateway.limitations]
    if arguments["--remember"]:
        lines.append(f"Remembered in {remember_gateway(blockrun_home(), gateway.name)} for the kernels to come.")
    context.session.prewarm(gateway)
    context.session.refresh_catalog(gateway)
    return Message("\n".join(lines))


def _money_words(gateway: Gateway) -> str:
    if gateway.realm == "practice":
        return "play money only. Nothing here costs anything, and every picture is stamped PRACTICE"
    kind = "test money" if gateway.realm == "testnet" else "real money"
    return f"{kind}, {gateway.money}"


def _look_around(context: Context) -> list[_Candidate]:
    """Return the gateways in the order of preference: where we sign first, as only that is proven to the unit."""
    return [
        _wallet(context),
        _account(),
        _proxy(context),
        _Candidate("practice", True, "always here, free, play money"),
    ]


def _wallet(context: Context) -> _Candidate:
    try:
        wallet = wallet_for(context.session.gateway_named("base"))
    except WalletMissing:
        return _Candidate("base", False, "no wallet found")
    except WalletError as error:
        return _Candidate("base", False, error.message)
    return _Candidate("base", True, f"a wallet, from {wallet.source}; prices are quoted, charges proven")


def _account() -> _Candidate:
    from blockrun_magic.payments.wallets.api_key import find_api_key

    try:
        key = find_api_key(os.environ)
    except WalletMissing:
        return _Candidate("account", False, "no API key in BLOCKRUN_API_KEY")
    except WalletError as error:
        return _Candidate("account", False, error.message)
    return _Candidate("account", True, f"an API key, from {key.source}; prices are estimated")


def _proxy(context: Context) -> _Candidate:
    from blockrun_magic.gateway.clawrouter import clawrouter_health

    gateway = context.session.gateway_named("clawrouter")
    health = context.session.run(clawrouter_health(context.session.studio.client, gateway, full=True))
    if health is None:
        return _Candidate("clawrouter", False, f"no ClawRouter answers at {gateway.base_url}")
    return _Candidate("clawrouter", True, f"a ClawRouter answers at {gateway.base_url}; prices are estimated")


USE = Command(
    "use",
    "Choose the gateway that requests go to.",
    use,
    (
        Argument(
            _GATEWAY,
            "gateway",
            "The gateway: practice, base, another name, a URL, or auto for the best one found.",
            required=True,
        ),
        Argument("--remember", "switch", "Use it in every new kernel."),
    ),
)
