"""The networks we pay on: our own table, from which a gateway may choose.

The EIP-712 domain and the token address come only from here: a 402 that names another asset is refused before
anything is signed. Base, Arc, Base Sepolia and Solana have Circle's USDC; the practice network does not exist, so
nothing signed for it can be settled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from blockrun_magic.payments.realm import Realm

__all__ = [
    "ARC",
    "BASE",
    "BASE_SEPOLIA",
    "EVM",
    "NETWORKS",
    "PRACTICE",
    "SOLANA",
    "SVM",
    "EvmNetwork",
    "Network",
    "SolanaNetwork",
    "network_named",
]

EVM = "eip155"
"""The CAIP-2 namespace of the EVM chains."""
SVM = "solana"
"""The CAIP-2 namespace of Solana's clusters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(ABC):
    """One chain and its USDC, which has six decimals everywhere."""

    namespace: ClassVar[str]
    """The kind of chain, as CAIP-2 names it (`EVM` or `SVM`), which decides how to sign and to query."""
    shares_nonces: ClassVar[bool]
    """Whether several signatures can have one nonce, so that the chain takes only one of them."""

    id: str
    """CAIP-2 identifier, as x402 v2 writes it: "eip155:8453"."""
    v1_name: str
    """The name x402 v1 uses for the same network: "base"."""
    label: str
    asset: str
    """The address of USDC on this chain."""
    realm: Realm
    """The kind of money that its USDC is."""
    rpc_urls: tuple[str, ...] = ()
    """Public JSON-RPC servers of the chain, which report transfers: each of another operator, none the gateway's."""

    @property
    @abstractmethod
    def domain(self) -> Mapping[str, str | int]:
        """The EIP-712 domain of the token contract; empty for a chain without one."""

    @abstractmethod
    def payment_uri(self, address: str, micros: int | None) -> str:
        """Return a wallet app's request to send USDC to `address`; without `micros`, the app asks for the amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmNetwork(Network):
    """One EVM chain and its USDC contract, with the EIP-712 domain to sign under."""

    namespace: ClassVar[str] = EVM
    shares_nonces: ClassVar[bool] = True

    chain_id: int
    domain_name: str
    domain_version: str

    @property
    def domain(self) -> Mapping[str, str | int]:
        """The EIP-712 domain of the token contract."""
        return {
            "name": self.domain_name,
            "version": self.domain_version,
            "chainId": self.chain_id,
            "verifyingContract": self.asset,
        }

    def payment_uri(self, address: str, micros: int | None) -> str:
        """Return a request of EIP-681."""
        amount = "" if micros is None else f"&uint256={micros}"
        return f"ethereum:{self.asset}@{self.chain_id}/transfer?address={address}{amount}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SolanaNetwork(Network):
    """One Solana cluster and its USDC mint, in base58, which belongs to the SPL Token program."""

    namespace: ClassVar[str] = SVM
    shares_nonces: ClassVar[bool] = False

    @property
    def domain(self) -> Mapping[str, str | int]:
        """Nothing, because the whole transaction is signed."""
        return {}

    def payment_uri(self, address: str, micros: int | None) -> str:
        """Return a request of Solana Pay."""
        from blockrun_magic.payments.money import to_decimal

        amount = "" if micros is None else f"amount={to_decimal(micros)}&"
        return f"solana:{address}?{amount}spl-token={self.asset}"


BASE = EvmNetwork(
    id="eip155:8453",
    v1_name="base",
    label="Base",
    chain_id=8453,
    asset="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    domain_name="USD Coin",
    domain_version="2",
    realm=Realm.REAL,
    rpc_urls=("https://mainnet.base.org", "https://base-rpc.publicnode.com", "https://base.drpc.org"),
)
BASE_SEPOLIA = EvmNetwork(
    id="eip155:84532",
    v1_name="base-sepolia",
    label="Base Sepolia",
    chain_id=84532,
    asset="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    domain_name="USDC",
    domain_version="2",
    realm=Realm.TESTNET,
    rpc_urls=("https://sepolia.base.org", "https://base-sepolia-rpc.publicnode.com"),
)
ARC = EvmNetwork(
    id="eip155:5042",
    v1_name="arc",
    label="Arc",
    chain_id=5042,
    # USDC is the native coin; this contract gives it the interface of a token with six decimals.
    asset="0x3600000000000000000000000000000000000000",
    domain_name="USDC",
    domain_version="2",
    realm=Realm.REAL,
    rpc_urls=("https://rpc.mainnet.arc.io", "https://arc.drpc.org", "https://rpc.blockdaemon.mainnet.arc.io"),
)
PRACTICE = EvmNetwork(
    id="eip155:402402402402",
    v1_name="blockrun-practice",
    label="practice",
    chain_id=402402402402,
    # No key or contract belongs to this address, which spells "PRACTICE PLAY MONEY!" in ASCII.
    asset="0x505241435449434520504C4159204d4F4E455921",
    domain_name="Practice USDC",
    domain_version="1",
    realm=Realm.PRACTICE,
)
SOLANA = SolanaNetwork(
    id="solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    v1_name="solana",
    label="Solana",
    asset="EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
    realm=Realm.REAL,
    rpc_urls=(
        "https://api.mainnet-beta.solana.com",
        "https://solana-rpc.publicnode.com",
        "https://solana.drpc.org",
    ),
)

NETWORKS: dict[str, EvmNetwork] = {network.id: network for network in (BASE, ARC, BASE_SEPOLIA, PRACTICE)}
"""The EVM networks, by id."""


def network_named(name: str) -> EvmNetwork | None:
    """Return the EVM network that x402 v1 or v2 calls `name`, or None when it is not ours."""
    known = NETWORKS.get(name)
    if known is not None:
        return known
    return next((network for network in NETWORKS.values() if network.v1_name == name), None)
