"""Whether a signature was cashed, asked of those who know: the practice gateway, or the chain.

On an EVM chain the token contract's own `authorizationState` decides (EIP-3009), read through public
RPC servers of which two must agree: one server's word does not decide about money.
"""

from __future__ import annotations

import asyncio
import re

from blockrun_magic.gateway.chain import rpc
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import RPC_QUORUM
from blockrun_magic.payments.x402.networks import Network

__all__ = []

_RESULT = re.compile(r"0x[0-9a-fA-F]{64}")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,16}")


async def _state_after(client: Client, url: str, contract: str, data: str, time: float) -> int | None:
    """Return the state at the server's latest block, or None when that is not younger than `time`."""
    block = await rpc.call(client, url, "eth_getBlockByNumber", ["latest", False])
    number, when = (block.get("number"), block.get("timestamp")) if isinstance(block, dict) else (None, None)
    if not (isinstance(number, str) and _QUANTITY.fullmatch(number)):
        return None
    if not (isinstance(when, str) and _QUANTITY.fullmatch(when) and int(when, 16) >= time):
        return None
    return await _call(client, url, contract, data, number)


async def _agreed_call(client: Client, network: Network, data: str) -> int | None:
    """Return what the token contract answers, once two RPC servers gave the same; else None."""
    calls = [_call(client, url, network.asset, data) for url in network.rpc_urls]
    answers = [answer for answer in await asyncio.gather(*calls) if answer is not None]
    agreed = {answer for answer in answers if answers.count(answer) >= RPC_QUORUM}
    return agreed.pop() if len(agreed) == 1 else None


async def _call(client: Client, url: str, contract: str, data: str, block: str = "latest") -> int | None:
    result = await rpc.call(client, url, "eth_call", [{"to": contract, "data": data}, block])
    return int(result, 16) if isinstance(result, str) and _RESULT.fullmatch(result) else None


def _abi_word(address: str) -> str:
    return address.removeprefix("0x").lower().rjust(64, "0")
