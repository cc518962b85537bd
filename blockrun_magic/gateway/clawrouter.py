"""Health of a ClawRouter: whether it runs, its wallet and its balance.

Source: gateway protocol, section 7. Its texts are shortened, and control characters are removed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

from blockrun_magic.errors import GatewayError
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.text import sanitize

__all__ = ["Health", "clawrouter_health"]

_SECONDS = 3.0
_ADDRESS = re.compile(r"[0-9A-Za-z]{32,64}")


@dataclass(frozen=True, slots=True)
class Health:
    """A running ClawRouter: its wallet and chain (None if an API key pays), and its balance if it is known."""

    wallet: str | None
    chain: str | None
    balance: int | None = None


async def clawrouter_health(client: Client, gateway: Gateway, *, full: bool = False) -> Health | None:
    """Return the health of the ClawRouter at `gateway`, or None if none answers within seconds.

    `full` also asks for the balance, in micro-USDC.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await client.get(gateway, "/health?full=true" if full else "/health")
    except (GatewayError, TimeoutError):
        return None
    body = answer.json()
    if answer.status != 200 or not isinstance(body, Mapping) or body.get("status") != "ok":
        return None
    if not {"wallet", "paymentChain", "authMode"} & body.keys():
        return None
    wallet, chain = body.get("wallet"), body.get("paymentChain")
    return Health(
        wallet=wallet if isinstance(wallet, str) and _ADDRESS.fullmatch(wallet) else None,
        chain=sanitize(chain, 20) if isinstance(chain, str) else None,
        balance=_dollars(body.get("balance")),
    )


def _dollars(text: object) -> int | None:
    try:
        return parse_usd(text) if isinstance(text, str) else None
    except ValueError:
        return None
