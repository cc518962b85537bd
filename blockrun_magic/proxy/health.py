"""Report of `/health`, in ClawRouter's format: payer, chain and balance."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import BlockrunError
from blockrun_magic.payments.money import format_usd
from blockrun_magic.threads import run_io

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.studio import Studio

__all__ = ["SERVER", "Health"]

SERVER = "blockrun-magic"
_MAX_AGE = 30.0
_TIMEOUT = 3.0


class Health:
    """The report; its balance is refreshed at most every half minute.

    It needs no key. With `shared`, other machines can read it, so it names neither wallet nor balance.
    """

    def __init__(self, studio: Studio, gateway: Gateway, *, shared: bool = False) -> None:
        self._studio = studio
        self._gateway = gateway
        self._shared = shared
        self._balance: str | None = None
        self._asked_at = -_MAX_AGE

    async def report(self) -> dict[str, Any]:
        """Return the report; `wallet` and `balance` are None if they are unknown or withheld."""
        if not self._shared and time.monotonic() - self._asked_at >= _MAX_AGE:
            self._asked_at = time.monotonic()
            self._balance = await self._ask_balance()
        return {
            "status": "ok",
            "server": SERVER,
            "pid": os.getpid(),
            "gateway": self._gateway.name,
            "realm": str(self._gateway.realm),
            "wallet": await run_io(self._wallet),
            "paymentChain": next((network.v1_name for network in self._gateway.networks), None),
            "balance": self._balance,
        }

    async def _ask_balance(self) -> str | None:
        with suppress(BlockrunError, TimeoutError):
            async with asyncio.timeout(_TIMEOUT):
                balance = await self._studio.balance(self._gateway)
                return None if balance is None else format_usd(balance.micros)
        return None

    def _wallet(self) -> str | None:
        with suppress(BlockrunError):
            return None if self._shared else self._studio.wallets.wallet_for(self._gateway).address
        return None
