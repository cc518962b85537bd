"""Authorization status and balances, from the chain of a gateway's payments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from blockrun_magic.gateway.chain.chain import Chain, SignedTransfer
from blockrun_magic.gateway.chain.evm import EvmChain
from blockrun_magic.gateway.chain.practice import PracticeChain
from blockrun_magic.gateway.chain.solana import SolanaChain
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.x402.networks import EVM, NETWORKS, PRACTICE, SVM, Network

__all__ = [
    "Balance",
    "Finding",
    "balance",
    "chain_of",
    "chain_time",
    "find_payment",
    "is_expired_unused",
]

_CHAINS: Mapping[str, Callable[[Client, Network], Chain]] = {EVM: EvmChain, SVM: SolanaChain}
"""The kinds of chain with public servers."""


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


def chain_of(client: Client, gateway: Gateway, network_id: str) -> Chain | None:
    """Return the chain of a network, with the servers configured for the gateway; None for an unknown one.

    Only the practice gateway is asked about play money.
    """
    ours = (network for network in gateway.networks if network.id == network_id)
    network = next(ours, NETWORKS.get(network_id))
    if network is None:
        return None
    if network is PRACTICE:
        return PracticeChain(client, gateway) if gateway.realm == PRACTICE.realm else None
    return _CHAINS[network.namespace](client, network)


async def find_payment(client: Client, gateway: Gateway, payment: Payment) -> Finding:
    """Ask the witness of a payment; `amount` is None if it is unknown which of its payloads was cashed."""
    witness = _witness(client, gateway, payment)
    if witness is None:
        return Finding(None)
    chain, signed = witness
    used, transaction = await chain.is_used(signed)
    if not used:
        return Finding(used)
    amounts = {payload.amount for payload in payment.payloads} or {payment.amount}
    if len(amounts) == 1:
        return Finding(used, transaction, amounts.pop())
    moved, named = await chain.cashed(signed)
    return Finding(used, named or transaction, moved if moved in amounts else None)


async def chain_time(client: Client, gateway: Gateway) -> float | None:
    """Return the time by the clock of the witness of a gateway's payments (Unix seconds), or None."""
    chain = chain_of(client, gateway, gateway.networks[0].id) if gateway.networks else None
    return None if chain is None else await chain.time()


async def is_expired_unused(client: Client, gateway: Gateway, payment: Payment) -> bool:
    """Return whether witnesses agree that a payment was not cashed and never can be."""
    witness = _witness(client, gateway, payment)
    if witness is None:
        return False
    chain, signed = witness
    return await chain.is_expired_unused(signed)


def _witness(client: Client, gateway: Gateway, payment: Payment) -> tuple[Chain, SignedTransfer] | None:
    """Return the chain of a payment, and the transfer to ask about; None without a witness or a signature."""
    if not (payment.network and payment.payer and payment.nonce):
        return None
    chain = chain_of(client, gateway, payment.network)
    if chain is None:
        return None
    ends = payment.valid_before, payment.last_height
    return chain, SignedTransfer(payment.payer, payment.nonce, payment.created_at, *ends)


async def balance(client: Client, gateway: Gateway, payer: str) -> Balance | None:
    """Return the wallet's USDC on the gateway's network, or None when it is unknown."""
    chain = chain_of(client, gateway, gateway.networks[0].id)
    value = None if chain is None else await chain.balance(payer)
    return None if chain is None or value is None else Balance(value, chain.source)
