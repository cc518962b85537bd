"""Signers: wallets that sign payment requirements on any chain, dated by a clock that is checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from blockrun_magic.errors import ClockError, Money
from blockrun_magic.gateway.chain.evm import block_time
from blockrun_magic.gateway.chain.solana import recent_blockhash
from blockrun_magic.gateway.client import Client
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.payments.x402.networks import EVM, SVM, Network
from blockrun_magic.payments.x402.protocol import MAX_WINDOW, PaymentPayload, PaymentRequirements, sign_payment
from blockrun_magic.payments.x402.solana import sign_transfer
from blockrun_magic.payments.x402.solana_polls import poll_proof
from blockrun_magic.threads import run_cpu

__all__ = ["Signer", "check_chain_clock", "check_clock", "is_clock_right", "lasting_as", "signer_of"]

_MAX_SKEW = 120.0
"""Seconds by which our clock may differ from the gateway's: a signature is valid for a limited time from now."""
_MAX_DRIFT = 60.0
"""Change of our clock, in seconds, after which it is compared with a chain's again."""
_SECONDS = 3.0
"""Seconds to wait for a chain's time."""
_compared: dict[str, tuple[float, float]] = {}
"""Our clock and the monotonic one at the time when they were compared with the clock of a network."""


class Signer(Protocol):
    """Signer of one wallet's payments."""

    @property
    def address(self) -> str:
        """The address that pays."""

    @property
    def shares_nonces(self) -> bool:
        """Whether several payloads can have one nonce, so that the chain takes only one of them."""

    def prepare(self) -> None:
        """Load the libraries that sign."""

    def signing_at_once(self, requirements: PaymentRequirements, now: int) -> Callable[[], PaymentPayload] | None:
        """Return the same as `signing`, or None if a chain has to be asked first."""

    async def signing(
        self, requirements: PaymentRequirements, now: int, nonce: bytes | None = None
    ) -> Callable[[], PaymentPayload]:
        """Return the function that signs `requirements` at the Unix time `now`, to be called in a thread.

        The nonce is random unless one is given.
        """

    async def prove_poll(self, address: str, now: int) -> SecretHeaders:
        """Return headers that prove a poll of the job at `address` without a payment; empty except on Solana."""


@dataclass(frozen=True, slots=True)
class _EvmSigner:
    wallet: Wallet
    shares_nonces: bool = True

    @property
    def address(self) -> str:
        return self.wallet.address

    def prepare(self) -> None:
        self.wallet.prepare()

    def signing_at_once(self, requirements: PaymentRequirements, now: int) -> Callable[[], PaymentPayload] | None:
        return partial(sign_payment, requirements, self.wallet, now)

    async def signing(
        self, requirements: PaymentRequirements, now: int, nonce: bytes | None = None
    ) -> Callable[[], PaymentPayload]:
        return partial(sign_payment, requirements, self.wallet, now, nonce)

    async def prove_poll(self, address: str, now: int) -> SecretHeaders:  # noqa: ARG002
        return SecretHeaders()


@dataclass(frozen=True, slots=True)
class _SolanaSigner:
    wallet: SolanaWallet
    client: Client
    shares_nonces: bool = False

    @property
    def address(self) -> str:
        return self.wallet.address

    def prepare(self) -> None:
        self.wallet.prepare()

    def signing_at_once(self, requirements: PaymentRequirements, now: int) -> None:  # noqa: ARG002
        return None

    async def signing(
        self, requirements: PaymentRequirements, now: int, nonce: bytes | None = None
    ) -> Callable[[], PaymentPayload]:
        recent = await recent_blockhash(self.client, requirements.network)
        return partial(sign_transfer, requirements, self.wallet, recent, now, nonce)

    async def prove_poll(self, address: str, now: int) -> SecretHeaders:
        return await run_cpu(poll_proof, self.wallet, address, now)


def signer_of(wallet: Wallet | SolanaWallet, client: Client) -> Signer:
    """Return the signer of `wallet`; `client` asks Solana for the block that dates a signature."""
    return _SIGNERS[wallet.namespace](wallet, client)


_SIGNERS: Mapping[str, Callable[[Any, Client], Signer]] = {
    EVM: lambda wallet, _client: _EvmSigner(wallet),
    SVM: _SolanaSigner,
}
"""Signers by the kind of chain of a wallet."""


def check_clock(gateway: str, date: float | None, started: float, ended: float) -> None:
    """Raise ClockError if a response dated `date` cannot have arrived between `started` and `ended` of our clock.

    All are Unix seconds. A date of None proves nothing.
    """
    if date is not None and not is_clock_right(date, started, ended):
        off = max(started - date, date - ended)
        side = "ahead of" if started > date else "behind"
        raise ClockError(
            f"This machine's clock is {_duration(off)} {side} the clock of {gateway}.",
            "Set the clock of this machine, then run the cell again.",
            Money.nothing_signed(),
        )


async def check_chain_clock(client: Client, network: Network, clock: Callable[[], float]) -> bool:
    """Return whether our clock was compared with that of a chain; raises ClockError if they differ.

    It is compared once, and again after our clock was changed or the machine slept.
    """
    started, monotonic = clock(), time.monotonic()
    wall, then = _compared.get(network.id, (0.0, 0.0))
    if abs((started - wall) - (monotonic - then)) < _MAX_DRIFT:
        return True
    try:
        async with asyncio.timeout(_SECONDS):
            date = await block_time(client, network)
    except TimeoutError:
        return False
    if date is None:
        return False
    check_clock(network.label, date, started, clock())
    _compared[network.id] = clock(), time.monotonic()
    return True


def is_clock_right(date: float | None, started: float, ended: float) -> bool:
    """Return whether a response dated `date` can have arrived between `started` and `ended` of our clock."""
    return date is None or max(started - date, date - ended) <= _MAX_SKEW


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 60:.0f} minutes"


def lasting_as(payment: Payment, terms: PaymentRequirements, now: int) -> PaymentRequirements:
    """Return new terms whose signature stays valid as long as the earlier ones of the same nonce.

    The money is at risk that long anyway. If the newest payload expired first, it could no longer be sent, and the
    others would be refused for their price.
    """
    left = (payment.valid_before or 0) - now
    return replace(terms, window=min(max(terms.window, left), MAX_WINDOW))
