"""Play money: the practice gateway acts as its chain, with its own clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.chain.chain import SignedTransfer
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.payments.money import parse_usd

__all__ = ["PracticeChain"]

_REORG_MARGIN = 30
"""Seconds of margin, as on real chains."""


@dataclass(frozen=True, slots=True)
class PracticeChain:
    """The `Chain` of the practice gateway."""

    client: Client
    gateway: Gateway

    @property
    def source(self) -> str:
        """The gateway, as a text for users."""
        return "the practice gateway"

    async def time(self) -> float | None:
        """Return the time in the `Date` header of an answer."""
        try:
            return (await self.client.get(self.gateway, "/v1/models")).date
        except BlockrunError:
            return None

    async def is_used(self, signed: SignedTransfer) -> tuple[bool | None, str | None]:
        """Return whether an authorization was cashed, and its transaction."""
        body = await self._authorization(signed)
        if not isinstance(body.get("used"), bool):
            return None, None
        transaction = body.get("transaction")
        return body["used"], transaction if isinstance(transaction, str) else None

    async def is_expired_unused(self, signed: SignedTransfer) -> bool:
        """Return whether an authorization was not cashed, and its time is over by the gateway's clock."""
        there = await self.time()
        if there is None or there < (signed.valid_before or 0) + _REORG_MARGIN:
            return False
        return (await self.is_used(signed))[0] is False

    async def cashed(self, signed: SignedTransfer) -> tuple[int | None, str | None]:
        """Return the micro-USDC that moved, and the transaction."""
        body = await self._authorization(signed)
        value, transaction = body.get("value"), body.get("transaction")
        amount = int(value) if isinstance(value, int | str) and str(value).isdecimal() else None
        return amount, transaction if isinstance(transaction, str) else None

    async def balance(self, payer: str) -> int | None:
        """Return the play money of an address; raises BlockrunError."""
        answer = await self.client.get(self.gateway, f"/v1/balance?address={payer}")
        body = answer.json()
        if answer.status != 200 or not isinstance(body, dict):
            return None
        try:
            return parse_usd(str(body.get("balance")))
        except ValueError:
            return None

    async def _authorization(self, signed: SignedTransfer) -> dict[str, Any]:
        """Return the gateway's record of an authorization; empty if it does not answer."""
        try:
            answer = await self.client.get(self.gateway, f"/practice/authorization/{signed.payer}/{signed.nonce}")
        except BlockrunError:
            return {}
        body = answer.json()
        return body if answer.status == 200 and isinstance(body, dict) else {}
