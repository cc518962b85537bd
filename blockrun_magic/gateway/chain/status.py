"""Authorization status and balances: what a gateway's chain says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from blockrun_magic.gateway.chain import solana
from blockrun_magic.gateway.chain.evm import _abi_word, _agreed_call, _state_after, block_time, cashed_transfer
from blockrun_magic.gateway.chain.practice import _asked_practice, _practice_time, cashed_amount
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import RPC_QUORUM, Gateway
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.payments.x402.networks import NETWORKS, PRACTICE, Network, SolanaNetwork

__all__ = [
    "Balance",
    "Finding",
    "authorization_used",
    "balance",
    "chain_time",
    "expired_unused",
    "find_payment",
    "is_authorization_used",
    "is_expired_unused",
]


_AUTHORIZATION_STATE = "0xe94a0102"


_BALANCE_OF = "0x70a08231"


_CLOCK_SKEW = 600


_REORG_MARGIN = 30
"""Seconds: what a chain's last blocks say may still be reorganized, and servers differ."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Balance of a wallet in micro-USDC, and its source."""

    micros: int
    source: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A witness's report on a payment: whether it was cashed (None: unknown), the amount, and the transaction."""

    used: bool | None
    transaction: str | None = None
    amount: int | None = None


async def find_payment(client: Client, gateway: Gateway, payment: Payment) -> Finding:
    """Ask the witness of a payment; `amount` is None if it is unknown which of its payloads was cashed."""
    used, transaction = await is_authorization_used(client, gateway, payment)
    if not used:
        return Finding(used)
    amounts = {payload.amount for payload in payment.payloads} or {payment.amount}
    if len(amounts) == 1:
        return Finding(used, transaction, amounts.pop())
    network = NETWORKS.get(payment.network or "")
    assert payment.payer and payment.nonce  # noqa: S101, PT018  it was just found by them
    if network is PRACTICE:
        moved = await cashed_amount(client, gateway, payment.payer, payment.nonce)
    else:
        since, until = payment.created_at - _CLOCK_SKEW, (payment.valid_before or payment.created_at) + _CLOCK_SKEW
        transfer = network and await cashed_transfer(client, network, payment.payer, payment.nonce, since, until)
        moved, transaction = (transfer.amount, transfer.transaction) if transfer else (None, transaction)
    return Finding(used, transaction, moved if moved in amounts else None)


async def chain_time(client: Client, gateway: Gateway) -> float | None:
    """Return the time by the clock of the witness of a gateway's payments (Unix seconds), or None."""
    network = gateway.networks[0] if gateway.networks else None
    if network is PRACTICE:
        return await _practice_time(client, gateway)
    return await block_time(client, network) if isinstance(network, Network) else None


async def is_authorization_used(client: Client, gateway: Gateway, payment: Payment) -> tuple[bool | None, str | None]:
    """Return whether a payment was cashed (None: unknown) and its transaction if known."""
    if not (payment.network and payment.payer and payment.nonce):
        return None, None
    chain = _solana_of(gateway, payment)
    if chain is not None:
        return await solana.transfer_made(client, chain, payment.payer, payment.nonce, int(payment.created_at))
    return await authorization_used(client, gateway, payment.network, payment.payer, payment.nonce)


async def is_expired_unused(client: Client, gateway: Gateway, payment: Payment) -> bool:
    """Return whether witnesses say that a payment was not cashed, and never can be."""
    if not (payment.network and payment.payer and payment.nonce):
        return False
    chain = _solana_of(gateway, payment)
    if chain is not None:
        ends = payment.last_height
        who, since = (payment.payer, payment.nonce), int(payment.created_at)
        return ends is not None and await solana.transfer_expired_unused(client, chain, *who, since, ends)
    authorization = payment.network, payment.payer, payment.nonce, payment.valid_before or 0
    return await expired_unused(client, gateway, *authorization)


def _solana_of(gateway: Gateway, payment: Payment) -> SolanaNetwork | None:
    ours = (chain for chain in gateway.networks if isinstance(chain, SolanaNetwork))
    return next((chain for chain in ours if chain.id == payment.network), None)


def _evm_network(gateway: Gateway, network_id: str) -> Network | None:
    """Return the network of a payment, with the RPC servers that the gateway was given for it."""
    ours = (network for network in gateway.networks if isinstance(network, Network))
    return next((network for network in ours if network.id == network_id), NETWORKS.get(network_id))


async def authorization_used(
    client: Client, gateway: Gateway, network_id: str, payer: str, nonce: str
) -> tuple[bool | None, str | None]:
    """Return whether an EIP-3009 authorization was cashed (None: unknown) and its transaction if known."""
    network = _evm_network(gateway, network_id)
    if network is None:
        return None, None
    if network is PRACTICE:
        return await _asked_practice(client, gateway, payer, nonce)
    data = _AUTHORIZATION_STATE + _abi_word(payer) + nonce.removeprefix("0x")
    answer = await _agreed_call(client, network, data)
    return (None if answer is None else answer != 0), None


async def expired_unused(
    client: Client, gateway: Gateway, network_id: str, payer: str, nonce: str, valid_before: int
) -> bool:
    """Return whether witnesses say that the authorization was not cashed, and never can be.

    Time is the witnesses' own, never this machine's: while our clock is ahead, a signature that looks expired
    here can still be cashed. On a chain each server is asked about the state *at* a block of its own that is
    younger than the authorization, by so much that no reorganization puts an older one in its place: no later
    block can hold a transfer of it, and a server that lags behind has no such block.
    """
    network = _evm_network(gateway, network_id)
    over = valid_before + _REORG_MARGIN
    if network is None:
        return False
    if network is PRACTICE:
        there = await _practice_time(client, gateway)
        if there is None or there < over:
            return False
        return (await _asked_practice(client, gateway, payer, nonce))[0] is False
    data = _AUTHORIZATION_STATE + _abi_word(payer) + nonce.removeprefix("0x")
    states = await asyncio.gather(*(_state_after(client, url, network.asset, data, over) for url in network.rpc_urls))
    return states.count(0) >= RPC_QUORUM and states.count(0) == sum(state is not None for state in states)


async def balance(client: Client, gateway: Gateway, payer: str) -> Balance | None:
    """Return the wallet's USDC on the gateway's network, or None when it is unknown."""
    network = gateway.networks[0]
    if network is PRACTICE:
        answer = await client.get(gateway, f"/v1/balance?address={payer}")
        body = answer.json()
        if answer.status != 200 or not isinstance(body, dict):
            return None
        try:
            return Balance(parse_usd(str(body.get("balance"))), "the practice gateway")
        except ValueError:
            return None
    if isinstance(network, SolanaNetwork):
        value = await solana.balance(client, network, payer)
    else:
        value = await _agreed_call(client, network, _BALANCE_OF + _abi_word(payer))
    return None if value is None else Balance(value, f"{network.label}, two public RPC servers agreeing")
