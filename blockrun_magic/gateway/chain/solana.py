"""Queries to Solana's public servers: a blockhash to sign with, the outcome of a payment, a balance.

A payment is found by the random nonce in its memo, in the transaction list of our own token account. For decisions
about money, two servers have to agree (Solana's JSON-RPC: getLatestBlockhash, getEpochInfo, getSignaturesForAddress,
getTokenAccountBalance).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from blockrun_magic.errors import GatewayUnreachable, Money
from blockrun_magic.gateway.chain.chain import PublicChain, SignedTransfer
from blockrun_magic.gateway.chain.rpc import call
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import RPC_QUORUM
from blockrun_magic.payments.x402.networks import Network
from blockrun_magic.payments.x402.solana import RecentBlockhash, names_transaction, token_account

__all__ = ["SolanaChain", "balance", "recent_blockhash", "transfer_expired_unused", "transfer_made"]

_T = TypeVar("_T")

BLOCKHASH_TTL = 150
"""Blocks for which a blockhash is valid."""
_CONFIRMED = {"commitment": "confirmed"}
_FINALIZED = {"commitment": "finalized"}
_MAX_LIST = 1000
_HISTORY_MARGIN = 120
"""Seconds before the signature to which a complete list must reach back."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """List of a token account at one server: our payment's transaction, if listed, and whether the list is complete."""

    transaction: str | None
    complete: bool


@dataclass(frozen=True, slots=True)
class SolanaChain(PublicChain):
    """Solana as a `Chain`."""

    async def time(self) -> float | None:
        """Return None, because a blockhash dates a transaction, and no time does."""
        return None

    async def is_used(self, signed: SignedTransfer) -> tuple[bool | None, str | None]:
        """Return whether the transaction is on the chain, and its id."""
        return await transfer_made(self.client, self.network, signed.payer, signed.nonce, int(signed.since))

    async def is_expired_unused(self, signed: SignedTransfer) -> bool:
        """Return whether two servers past its last height agree that there is no such transaction."""
        who, since, ends = (signed.payer, signed.nonce), int(signed.since), signed.last_height
        return ends is not None and await transfer_expired_unused(self.client, self.network, *who, since, ends)

    async def cashed(self, signed: SignedTransfer) -> tuple[int | None, str | None]:  # noqa: ARG002
        """Return no amount: a nonce has only one transaction here, so the signed amount is known."""
        return None, None

    async def balance(self, payer: str) -> int | None:
        """Return the balance of the payer's token account."""
        return await balance(self.client, self.network, payer)


async def recent_blockhash(client: Client, network: Network) -> RecentBlockhash:
    """Return a recent blockhash, and the height at which it expires.

    A server that understates this height could make a valid payment look expired. So two servers must name heights that
    differ by less than a blockhash's life, and the higher one counts. Raises GatewayUnreachable.
    """
    heard: list[RecentBlockhash] = []
    for answer in asyncio.as_completed(
        [call(client, url, "getLatestBlockhash", [_CONFIRMED]) for url in network.rpc_urls]
    ):
        if (found := _blockhash(await answer)) is None:
            continue
        near = [one for one in heard if abs(one.last_height - found.last_height) <= BLOCKHASH_TTL]
        if near:
            return RecentBlockhash(near[0].value, max(near[0].last_height, found.last_height) + BLOCKHASH_TTL)
        heard.append(found)
    raise GatewayUnreachable(
        f"{network.label} cannot be reached: no two of its servers named a recent block.",
        "Run the cell again later, or set BLOCKRUN_SOLANA_RPC to servers of your choice.",
        Money.nothing_signed(),
        sent=False,
    )


async def transfer_made(
    client: Client, network: Network, payer: str, nonce: str, since: int
) -> tuple[bool | None, str | None]:
    """Return whether the payment with this nonce is on the chain (None if no two servers agree), and its transaction.

    `since` is the Unix time of its signature.
    """
    asked = [_list(client, url, payer, nonce, since, _CONFIRMED) for url in network.rpc_urls]
    lists = [found for found in await asyncio.gather(*asked) if found is not None]
    there = [found.transaction for found in lists if found.transaction is not None]
    if len(there) >= RPC_QUORUM and len(set(there)) == 1:
        return True, there[0]
    absent = sum(found.complete for found in lists if found.transaction is None)
    return (False if absent >= RPC_QUORUM and not there else None), None


async def transfer_expired_unused(
    client: Client, network: Network, payer: str, nonce: str, since: int, last_height: int
) -> bool:
    """Return whether two servers past the final block `last_height` agree that no server lists such a payment."""
    asked = [_list_after(client, url, payer, nonce, since, last_height) for url in network.rpc_urls]
    lists = [found for found in await asyncio.gather(*asked) if found is not None]
    return sum(found.complete for found in lists) >= RPC_QUORUM and all(found.transaction is None for found in lists)


async def balance(client: Client, network: Network, payer: str) -> int | None:
    """Return the wallet's USDC in micro-USDC if two servers agree, else None."""
    account = token_account(payer)
    asked = [call(client, url, "getTokenAccountBalance", [account, _CONFIRMED]) for url in network.rpc_urls]
    amounts = [_amount(answer) for answer in await asyncio.gather(*asked)]
    return _agreed(amount for amount in amounts if amount is not None)


async def _list_after(client: Client, url: str, payer: str, nonce: str, since: int, last_height: int) -> _Listed | None:
    """Return the server's list at a final block above `last_height`, or None without one yet."""
    epoch = await call(client, url, "getEpochInfo", [_FINALIZED])
    height, slot = (epoch.get("blockHeight"), epoch.get("absoluteSlot")) if isinstance(epoch, dict) else (None, None)
    if not (isinstance(height, int) and isinstance(slot, int) and height > last_height):
        return None
    # One address may have several servers: the one that lists must have the block of the one that counted.
    return await _list(client, url, payer, nonce, since, _FINALIZED | {"minContextSlot": slot})


async def _list(
    client: Client, url: str, payer: str, nonce: str, since: int, options: dict[str, Any]
) -> _Listed | None:
    params = [token_account(payer), options | {"limit": _MAX_LIST}]
    rows = await call(client, url, "getSignaturesForAddress", params)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    oldest = rows[-1].get("blockTime") if rows else None
    complete = len(rows) < _MAX_LIST or (isinstance(oldest, int) and oldest < since - _HISTORY_MARGIN)
    for row in rows:
        # A memo is listed as "[32] 6f0c...": its length, then itself.
        ours = row.get("err") is None and str(row.get("memo") or "").split(" ")[-1] == nonce
        if ours and isinstance(name := row.get("signature"), str) and names_transaction(name):
            return _Listed(name, complete)
    return _Listed(None, complete)


def _blockhash(answer: Any) -> RecentBlockhash | None:
    value = answer.get("value") if isinstance(answer, dict) else None
    if not isinstance(value, dict):
        return None
    name, height = value.get("blockhash"), value.get("lastValidBlockHeight")
    if not isinstance(name, str) or not isinstance(height, int) or isinstance(height, bool) or height <= 0:
        return None
    return RecentBlockhash(name, height) if _is_hash(name) else None


def _is_hash(text: str) -> bool:
    from solders.hash import Hash

    try:
        return Hash.from_string(text) != Hash.default()
    except ValueError:
        return False


def _amount(answer: Any) -> int | None:
    value = answer.get("value") if isinstance(answer, dict) else None
    text = value.get("amount") if isinstance(value, dict) else None
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None


def _agreed(answers: Iterable[_T]) -> _T | None:
    given = list(answers)
    agreed = {answer for answer in given if given.count(answer) >= RPC_QUORUM}
    return agreed.pop() if len(agreed) == 1 else None
