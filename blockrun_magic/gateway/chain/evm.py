"""Authorizations and transfers of USDC on EVM chains.

On an EVM chain, the token contract's own `authorizationState` decides (EIP-3009). Two public RPC servers must agree,
because one server must not decide about money.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from blockrun_magic.gateway.chain import rpc
from blockrun_magic.gateway.chain.chain import PublicChain, SignedTransfer
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import RPC_QUORUM
from blockrun_magic.payments.x402.networks import Network

__all__ = ["EvmChain", "Transfer", "block_time", "cashed_transfer", "outgoing_transfers"]

_TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
_AUTHORIZATION_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
"""The topics of the events `Transfer` and `AuthorizationUsed`: hashes of their signatures, as explorers show them."""
_AUTHORIZATION_STATE = "0xe94a0102"
_BALANCE_OF = "0x70a08231"
_CLOCK_SKEW = 600
_REORG_MARGIN = 30
"""Seconds of margin, because a chain's last blocks may be reorganized, and servers differ."""
_BLOCK_SECONDS = 2
_MARGIN = 30
"""Blocks on each side of a window: its ends are estimates, and clocks differ."""
_HEAD_SECONDS = 10.0
"""Seconds for which a server's latest block is used: servers forget the states of older ones."""
_heads: WeakKeyDictionary[Client, dict[str, tuple[float, tuple[int, int]]]] = WeakKeyDictionary()
"""The latest block by client and server, and the time when the server named it."""
_RESULT = re.compile(r"0x[0-9a-fA-F]{64}")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,16}")


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer of USDC that a transaction made; `amount` is in micro-USDC."""

    transaction: str
    amount: int


@dataclass(frozen=True, slots=True)
class EvmChain(PublicChain):
    """An EVM `Chain`."""

    async def time(self) -> float | None:
        """Return the time of the latest block."""
        return await block_time(self.client, self.network)

    async def is_used(self, signed: SignedTransfer) -> tuple[bool | None, str | None]:
        """Return whether an EIP-3009 authorization was cashed; its transaction is not in the contract's state."""
        used = await _agreed_call(self.client, self.network, _state_of(signed))
        return (None if used is None else used != 0), None

    async def is_expired_unused(self, signed: SignedTransfer) -> bool:
        """Return whether two servers agree that the authorization was not cashed and never can be.

        Each server is asked about the state *at* a block of its own that is younger than the authorization, by so
        much that no reorganization puts an older one in its place: no later block can hold a transfer of it, and a
        server that lags behind has no such block.
        """
        over, data, contract = (signed.valid_before or 0) + _REORG_MARGIN, _state_of(signed), self.network.asset
        asked = [_state_after(self.client, url, contract, data, over) for url in self.network.rpc_urls]
        states = await asyncio.gather(*asked)
        return states.count(0) >= RPC_QUORUM and states.count(0) == sum(state is not None for state in states)

    async def cashed(self, signed: SignedTransfer) -> tuple[int | None, str | None]:
        """Return amount and transaction of the transfer that cashed the authorization."""
        since, until = signed.since - _CLOCK_SKEW, (signed.valid_before or signed.since) + _CLOCK_SKEW
        transfer = await cashed_transfer(self.client, self.network, signed.payer, signed.nonce, since, until)
        return (transfer.amount, transfer.transaction) if transfer else (None, None)

    async def balance(self, payer: str) -> int | None:
        """Return the token contract's balance of an address."""
        return await _agreed_call(self.client, self.network, _BALANCE_OF + _abi_word(payer))


def _state_of(signed: SignedTransfer) -> str:
    return _AUTHORIZATION_STATE + _abi_word(signed.payer) + signed.nonce.removeprefix("0x")


async def block_time(client: Client, network: Network) -> float | None:
    """Return the time of the latest block of `network` (Unix seconds), or None when no server answers."""
    for url in network.rpc_urls:
        head = await _head(client, url)
        if head is not None:
            return float(head[1])
    return None


async def cashed_transfer(
    client: Client, network: Network, payer: str, nonce: str, since: float, until: float
) -> Transfer | None:
    """Return the transfer that cashed an authorization between two Unix times, if two servers agree."""
    topics = [_AUTHORIZATION_USED, "0x" + _abi_word(payer), nonce]
    asked = [_cashed_at(client, url, network, topics, payer, since, until) for url in network.rpc_urls]
    transfers = [transfer for transfer in await asyncio.gather(*asked) if transfer is not None]
    agreed = {transfer for transfer in transfers if transfers.count(transfer) >= RPC_QUORUM}
    return agreed.pop() if len(agreed) == 1 else None


async def outgoing_transfers(
    client: Client, network: Network, payer: str, since: float, until: float
) -> tuple[Transfer, ...] | None:
    """Return the transfers of USDC out of `payer` between two Unix times, if two servers agree.

    Returns None until the blocks of two servers are past the window.
    """
    topics = [_TRANSFER, "0x" + _abi_word(payer)]
    asked = [_logs(client, url, network, topics, since, until, over=True) for url in network.rpc_urls]
    lists = [
        tuple(sorted((Transfer(str(log.get("transactionHash")), _value(log)) for log in logs), key=str))
        for logs in await asyncio.gather(*asked)
        if logs is not None
    ]
    agreed = {found for found in lists if lists.count(found) >= RPC_QUORUM}
    return agreed.pop() if len(agreed) == 1 else None


async def _cashed_at(
    client: Client, url: str, network: Network, topics: list[str], payer: str, since: float, until: float
) -> Transfer | None:
    used = await _logs(client, url, network, topics, since, until)
    if not used or len(used) != 1:
        return None
    transaction, index = used[0].get("transactionHash"), used[0].get("logIndex")
    receipt = await rpc.call(client, url, "eth_getTransactionReceipt", [transaction])
    logs = receipt.get("logs") if isinstance(receipt, dict) else None
    if not isinstance(logs, list) or not isinstance(index, str) or not _QUANTITY.fullmatch(index):
        return None
    # The token contract emits the transfer right after the mark of the authorization.
    wanted = (hex(int(index, 16) + 1), network.asset.lower(), [_TRANSFER, "0x" + _abi_word(payer)])
    for log in logs:
        if isinstance(log, dict) and isinstance(log.get("topics"), list):
            found = (log.get("logIndex"), str(log.get("address")).lower(), [str(t).lower() for t in log["topics"][:2]])
            if found == wanted and _value(log) >= 0:
                return Transfer(str(transaction), _value(log))
    return None


async def _logs(
    client: Client, url: str, network: Network, topics: list[str], since: float, until: float, *, over: bool = False
) -> list[dict[str, Any]] | None:
    """Return the token's logs with `topics` in a window of Unix times; None if the server cannot tell.

    With `over`, None until there is a block after the window.
    """
    head = await _head(client, url)
    if head is None or (over and head[1] <= until + _MARGIN * _BLOCK_SECONDS):
        return None
    number, time = head
    first = max(0, number - int((time - since) / _BLOCK_SECONDS) - _MARGIN)
    last = min(number, number - int((time - until) / _BLOCK_SECONDS) + _MARGIN)
    last = max(first, last)
    if over and not await _spans(client, url, (first, last), since, until):
        return None  # this chain's blocks do not come every two seconds
    question = {"address": network.asset, "topics": topics, "fromBlock": hex(first), "toBlock": hex(last)}
    logs = await rpc.call(client, url, "eth_getLogs", [question])
    return logs if isinstance(logs, list) and all(isinstance(log, dict) for log in logs) else None


async def _spans(client: Client, url: str, blocks: tuple[int, int], since: float, until: float) -> bool:
    """Return whether two blocks are outside of a window of Unix times, one on each side."""
    first, last = [await _block(client, url, hex(number)) for number in blocks]
    if first is None or last is None:
        return False
    return (first[0] == 0 or first[1] <= since) and last[1] >= until


async def _head(client: Client, url: str) -> tuple[int, int] | None:
    return await _block(client, url, "latest")


async def _block(client: Client, url: str, which: str) -> tuple[int, int] | None:
    """Return the number and the Unix time of a block."""
    block = await rpc.call(client, url, "eth_getBlockByNumber", [which, False])
    number, time = (block.get("number"), block.get("timestamp")) if isinstance(block, dict) else (None, None)
    if not (isinstance(number, str) and _QUANTITY.fullmatch(number)):
        return None
    if not (isinstance(time, str) and _QUANTITY.fullmatch(time)):
        return None
    return int(number, 16), int(time, 16)


def _value(log: Mapping[str, Any]) -> int:
    data = log.get("data")
    return int(data, 16) if isinstance(data, str) and _RESULT.fullmatch(data) else -1


async def _state_after(client: Client, url: str, contract: str, data: str, time: float) -> int | None:
    """Return the state at a recent block of the server, or None if its latest block is not after `time`."""
    known = _heads.setdefault(client, {})
    seen, head = known.get(url, (-_HEAD_SECONDS, (0, 0)))
    if head[1] < time or monotonic() - seen > _HEAD_SECONDS:
        latest = await _head(client, url)
        if latest is None or latest[1] < time:
            return None
        head = latest
        known[url] = monotonic(), head
    return await _call(client, url, contract, data, hex(head[0]))


async def _agreed_call(client: Client, network: Network, data: str) -> int | None:
    """Return the answer of the token contract if two RPC servers agree, else None."""
    calls = [_call(client, url, network.asset, data) for url in network.rpc_urls]
    answers = [answer for answer in await asyncio.gather(*calls) if answer is not None]
    agreed = {answer for answer in answers if answers.count(answer) >= RPC_QUORUM}
    return agreed.pop() if len(agreed) == 1 else None


async def _call(client: Client, url: str, contract: str, data: str, block: str = "latest") -> int | None:
    result = await rpc.call(client, url, "eth_call", [{"to": contract, "data": data}, block])
    return int(result, 16) if isinstance(result, str) and _RESULT.fullmatch(result) else None


def _abi_word(address: str) -> str:
    return address.removeprefix("0x").lower().rjust(64, "0")
