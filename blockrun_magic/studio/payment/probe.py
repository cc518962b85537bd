"""Probe that decides whether a new gateway quotes prices or would buy at once.

ClawRouter has no quotes: it pays for every request. So a new address first gets requests that cannot buy anything.
Unless the answers prove that it quotes, it is not asked for a price.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from blockrun_magic.errors import GatewayError, GatewayUnreachable, Money, UsageError
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import PRESETS, Gateway
from blockrun_magic.gateway.request import ENDPOINTS
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.realm import Realm
from blockrun_magic.threads import run_io

__all__ = ["asking", "check_quotes", "may_buy", "remember_quotes", "remember_seller"]

_SECONDS = 5.0
_QUOTES, _BUYS = "quotes", "buys"
_PAYMENT_REQUIRED = 402
_ABSENT = frozenset({404, 405, 410, 501})
_MARKS = frozenset({"wallet", "paymentChain", "authMode", "solana", "status", "balance", "isEmpty", "isLow"})
"""Fields of ClawRouter's `/health`, in one version or another."""
_turns: WeakKeyDictionary[Ledger, defaultdict[str, asyncio.Lock]] = WeakKeyDictionary()
"""Locks of each studio, by the addresses that have not asked for a payment yet."""


@asynccontextmanager
async def asking(client: Client, ledger: Ledger, gateway: Gateway) -> AsyncIterator[None]:
    """Allow unpaid requests to `gateway` inside the context; raises UsageError unless it quotes.

    Until an address has asked for a payment, it gets one request at a time, because each might buy.
    """
    if not may_buy(gateway) or await run_io(ledger.setting, _name(gateway)) == _QUOTES:
        yield
        return
    async with _turns.setdefault(ledger, defaultdict(asyncio.Lock))[gateway.base_url]:
        await check_quotes(client, ledger, gateway)
        yield


async def check_quotes(client: Client, ledger: Ledger, gateway: Gateway) -> None:
    """Raise UsageError unless `gateway` is known to quote, or proves it; sends nothing that could buy."""
    if not may_buy(gateway):
        return
    recorded = await run_io(ledger.setting, _name(gateway))
    if recorded == _QUOTES:
        return
    if recorded == _BUYS:
        raise _unclear(gateway)
    health = await _get(client, gateway, "/health")
    if health is not None and _is_clawrouter(health):
        raise _unclear(gateway)
    endpoint = await _get(client, gateway, ENDPOINTS["generate"])
    if endpoint is not None and endpoint.status == _PAYMENT_REQUIRED:
        return
    plain = health is not None and endpoint is not None and {health.status, endpoint.status} <= _ABSENT
    if not plain:
        raise _unclear(gateway)


def may_buy(gateway: Gateway) -> bool:
    """Return whether a server at the address of `gateway` may spend real money without a signature of ours."""
    return gateway.realm == Realm.REAL and not _is_preset(gateway)


def remember_quotes(ledger: Ledger, gateway: Gateway) -> None:
    """Record that `gateway` has asked for a payment, as ClawRouter never does."""
    if may_buy(gateway) and ledger.setting(_name(gateway)) != _QUOTES:
        ledger.set_setting(_name(gateway), _QUOTES)


def remember_seller(ledger: Ledger, gateway: Gateway) -> None:
    """Record that `gateway` answered a request without asking for a payment; it is not asked again."""
    ledger.set_setting(_name(gateway), _BUYS)


async def _get(client: Client, gateway: Gateway, path: str) -> Response | None:
    try:
        async with asyncio.timeout(_SECONDS):
            return await client.get(gateway, path)
    except GatewayUnreachable as error:
        if not error.sent:
            raise error.with_money(Money.nothing_signed()) from None
        return None
    except (GatewayError, TimeoutError):
        return None


def _is_clawrouter(health: Response) -> bool:
    body = health.json()
    return isinstance(body, Mapping) and bool(_MARKS & body.keys())


def _is_preset(gateway: Gateway) -> bool:
    return any(gateway.base_url == preset.base_url for preset in PRESETS.values())


def _name(gateway: Gateway) -> str:
    return f"x402.{gateway.base_url}"


def _unclear(gateway: Gateway) -> UsageError:
    return UsageError(
        f"{gateway.name} does not show whether it quotes prices or buys at once like ClawRouter.",
        "For a ClawRouter set BLOCKRUN_PROXY_PORT to its port, then `%blockrun use clawrouter`; for an x402 gateway,"
        " make it answer GET on its image endpoint with 402.",
        Money.nothing_signed(),
    )
