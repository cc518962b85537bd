"""Services that every purchase uses, opened once and passed to the studio."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError, WalletError, WalletMissing
from blockrun_magic.gateway.catalog.cache import CatalogCache
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.chain.account import account_credit
from blockrun_magic.gateway.chain.status import Balance, balance
from blockrun_magic.gateway.clawrouter import clawrouter_health
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Capability, Gateway, Payer
from blockrun_magic.gateway.request import PriceKey
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.wallets.api_key import ApiKey
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.studio.payment.retry import RateGate, RetryPolicy
from blockrun_magic.threads import run_cpu

if TYPE_CHECKING:
    from blockrun_magic.gateway.classroom.account import ClassroomAccount

__all__ = ["PurchaseServices", "Wallets", "balance_of", "prepare", "purchase_services"]


@dataclass(frozen=True, slots=True)
class Wallets:
    """Means of payment: a wallet where we sign, an API key at an account, a pass in a classroom.

    All raise WalletError when missing.
    """

    wallet_for: Callable[[Gateway], Wallet | SolanaWallet]
    api_key: Callable[[], ApiKey] | None = None
    classroom: Callable[[], ClassroomAccount] | None = None

    def check(self, gateway: Gateway) -> None:
        """Raise WalletError when there is no key to pay with at `gateway`, or when it stays locked; sends nothing."""
        if gateway.paid_by is Payer.SIGNATURE:
            self.wallet_for(gateway).unlock()
        elif gateway.paid_by is Payer.CLASSROOM:
            self.account().check(gateway)
        else:
            self.headers(gateway)

    def prepare(self, gateway: Gateway) -> None:
        """Load the libraries of the first signature; errors of the wallet are raised later, when it pays."""
        with suppress(BlockrunError):
            self.wallet_for(gateway).prepare()

    def headers(self, gateway: Gateway) -> SecretHeaders:
        """Return the headers that authorize a prepaid request: an account's key, a pass, otherwise none."""
        if gateway.paid_by is Payer.CLASSROOM:
            return self.account().headers(gateway)
        if gateway.paid_by is not Payer.CREDIT:
            return SecretHeaders()
        if self.api_key is None:
            raise WalletMissing("There is no API key to pay with.", "Open the studio with one.")
        return self.api_key().headers()

    def account(self) -> ClassroomAccount:
        """Return the student's account at the classroom."""
        if self.classroom is None:
            raise WalletMissing("There is no classroom account.", "Open the studio with one.")
        return self.classroom()


@dataclass(frozen=True, slots=True)
class PurchaseServices:
    """Client, ledger, store, wallets and catalogs; `clock` returns Unix seconds."""

    client: Client
    ledger: Ledger
    store: Store
    wallets: Wallets
    catalogs: CatalogCache
    retry: RetryPolicy
    clock: Callable[[], float]
    turns: defaultdict[tuple[str, PriceKey], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """One purchase at a time asks for a price; the others then use its answer."""
    gates: defaultdict[str, RateGate] = field(default_factory=lambda: defaultdict(RateGate))
    """The rate limit of each gateway, by its name."""


def purchase_services(
    *,
    client: Client,
    ledger: Ledger,
    store: Store,
    wallets: Wallets,
    catalogs: Path | None = None,
    retry: RetryPolicy | None = None,
    clock: Callable[[], float] = time.time,
) -> PurchaseServices:
    """Return the services over `client`, `ledger` and `store`; `catalogs` is the folder for live catalogs."""
    cache = CatalogCache(client, SNAPSHOT, catalogs, clock, wallets.headers)
    return PurchaseServices(client, ledger, store, wallets, cache, retry or RetryPolicy(), clock)


async def prepare(services: PurchaseServices, gateway: Gateway) -> None:
    """Prepare the first purchase at `gateway`: load the signing library and open a connection."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(services.client.connect(gateway))
        if gateway.paid_by is Payer.SIGNATURE:
            tasks.create_task(run_cpu(services.wallets.prepare, gateway))


async def balance_of(services: PurchaseServices, gateway: Gateway) -> Balance | None:
    """Return the balance of the wallet or account that pays at `gateway`, or None when it is unknown."""
    if gateway.paid_by is Payer.PROXY:
        health = await clawrouter_health(services.client, gateway, full=True)
        micros = None if health is None else health.balance
        return None if micros is None else Balance(micros, "ClawRouter, about its own wallet")
    if gateway.paid_by is Payer.CREDIT:
        return await _credit(services, gateway)
    if gateway.paid_by is Payer.CLASSROOM:
        return await _class_balance(services, gateway)
    if Capability.BALANCE not in gateway.capabilities:
        return None
    address = await run_cpu(lambda: services.wallets.wallet_for(gateway).address)
    return await balance(services.client, gateway, address)


async def _class_balance(services: PurchaseServices, gateway: Gateway) -> Balance | None:
    """Return the least amount left in a student's limits, or None if no limit is known."""
    membership = await services.wallets.account().membership(gateway)
    left = min((limit.left for limit in membership.limits if limit.left is not None), default=None)
    return None if left is None else Balance(left, "your class, about your limits")


async def _credit(services: PurchaseServices, gateway: Gateway) -> Balance | None:
    """Return an account's credit, or None if it is unknown."""
    try:
        headers = services.wallets.headers(gateway)
    except WalletError:
        return None
    credit = await account_credit(services.client, gateway, headers)
    if credit is None:
        return None
    blocked = f" (blocked: {credit.blocked})" if credit.blocked else ""
    return Balance(credit.remaining, f"the account{blocked}")
