"""Authorization status at the practice gateway."""

from __future__ import annotations

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.payments.x402.networks import PRACTICE

__all__ = ["cashed_amount"]


async def _practice_time(client: Client, gateway: Gateway) -> float | None:
    if gateway.realm != PRACTICE.realm:
        return None
    try:
        return (await client.get(gateway, "/v1/models")).date
    except BlockrunError:
        return None


async def _asked_practice(client: Client, gateway: Gateway, payer: str, nonce: str) -> tuple[bool | None, str | None]:
    if gateway.realm != PRACTICE.realm:
        return None, None
    try:
        answer = await client.get(gateway, f"/practice/authorization/{payer}/{nonce}")
    except BlockrunError:
        return None, None
    body = answer.json()
    if answer.status != 200 or not isinstance(body, dict) or not isinstance(body.get("used"), bool):
        return None, None
    transaction = body.get("transaction")
    return body["used"], transaction if isinstance(transaction, str) else None


async def cashed_amount(client: Client, gateway: Gateway, payer: str, nonce: str) -> int | None:
    """Return the micro-USDC that the practice gateway moved for an authorization, or None."""
    try:
        body = (await client.get(gateway, f"/practice/authorization/{payer}/{nonce}")).json()
    except BlockrunError:
        return None
    value = body.get("value") if isinstance(body, dict) else None
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else None
