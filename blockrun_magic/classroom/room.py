"""One classroom: its settings, its records, and the parts that work on orders."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.classroom.joining import HubProof, Joining
from blockrun_magic.classroom.orders.orders import Orders
from blockrun_magic.classroom.orders.studios import MemberStudios
from blockrun_magic.classroom.orders.work import OrderWorkers, worker_lock
from blockrun_magic.classroom.storage.forgetting import erase_old
from blockrun_magic.classroom.storage.records import REALM, Records, open_records
from blockrun_magic.database.engine import Database
from blockrun_magic.database.locks import Lock
from blockrun_magic.errors import BlockrunError, LedgerError, WalletMissing
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.payments.wallets.api_key import find_api_key
from blockrun_magic.studio.services import Wallets, purchase_services
from blockrun_magic.threads import run_io
from blockrun_magic.wiring import ENVIRON, process_session, wallet_for

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

__all__ = ["Classroom", "Settings", "open_classroom"]

_TAKE_OVER_EVERY = 2.0
_RECONCILE_ROUNDS = 15
_ERASE_ROUNDS = 1800
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one process.

    `public_url` is its address for others behind a proxy; `names` are further names of its host; `environ` has the
    wallet's key if it is not in a file.
    """

    home: Path
    gateway: Gateway
    port: int = 8765
    host: str = "127.0.0.1"
    database_url: str | None = None
    teachers: str | None = None
    public_url: str | None = None
    names: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: ENVIRON)


@dataclass(slots=True)
class Classroom:
    """One process of the service; all coroutines run on one event loop."""

    settings: Settings
    records: Records
    studios: MemberStudios
    workshop: OrderWorkers
    orders: Orders
    joining: Joining
    locks: Sequence[Lock]
    """Held while this process serves: its own name, and on SQLite that of the only service."""
    pages: Sequence[BaseRoute] = field(default=())

    async def take_over_for_ever(self) -> None:
        """Take over abandoned orders every few seconds; check open payments, and erase old records.

        Failed steps are repeated in the next round.
        """
        rounds = 0
        erase = partial(run_io, erase_old, self.records)
        refresh = self.studios.refresh_models
        steps = (
            (self.workshop.take_over, 1),
            (self.studios.reconcile, _RECONCILE_ROUNDS),
            (erase, _ERASE_ROUNDS),
            (refresh, _ERASE_ROUNDS),
        )
        while True:
            await run_io(self.hold_locks)
            for step, every in steps:
                if rounds % every == 0:
                    try:
                        await step()
                    except BlockrunError as error:
                        _LOG.warning("A background step failed: %s", type(error).__name__)
            rounds += 1
            await asyncio.sleep(_TAKE_OVER_EVERY)

    def begin(self) -> None:
        """Record the kind of money of the class from now on; raises WalletError if there is no key to pay with."""
        try:
            self.studios.check_payer()
        except WalletMissing:
            if self.settings.gateway.paid_by is not Payer.SIGNATURE:
                raise
            raise WalletMissing(
                f"There is no wallet in {self.settings.home}.",
                f"Create one with `BLOCKRUN_HOME={self.settings.home} ipython --ext blockrun_magic -c"
                " '%blockrun wallet create'`, give its key in the environment, or serve play money with"
                " `--gateway practice`.",
            ) from None
        self.records.ledger.set_setting(REALM, str(self.settings.gateway.realm))

    def hold_locks(self) -> bool:
        """Return whether this process holds its locks, taking those again that a database server has lost."""
        held = True
        for lock in self.locks:
            try:
                held = (lock.is_held or lock.try_acquire()) and held
            except LedgerError:
                held = False
        return held

    async def end(self, seconds: float) -> None:
        """Give orders in progress `seconds` to end, and leave the rest to others."""
        self.orders.stop(seconds)
        await self.workshop.wait_idle(seconds)
        await self.workshop.give_back()


def open_classroom(settings: Settings, hub: HubProof | None = None) -> Classroom:
    """Return the service with its records opened, but not started; raises BlockrunError."""
    records = open_records(settings.home, settings.database_url)
    environ = settings.environ
    services = purchase_services(
        client=Client(),
        ledger=records.ledger,
        store=records.store,
        wallets=Wallets(lambda gateway: wallet_for(gateway, environ), lambda: find_api_key(environ, Path.home())),
        catalogs=settings.home / "magic" / "catalogs",  # the name on disk  codespell:ignore catalogs
    )
    studios = MemberStudios(services, records.database, settings.gateway, records.members.by_id)
    worker = process_session()
    workshop = OrderWorkers(records.database, records.orders, studios, worker, records.members.by_id)
    return Classroom(
        settings=settings,
        records=records,
        studios=studios,
        workshop=workshop,
        orders=Orders(records.database, records.orders, studios, workshop),
        joining=Joining(records.database, records.members, records.invitations, records.audit, hub, settings.teachers),
        locks=_locks(records.database, worker),
    )


def _locks(database: Database, worker: str) -> list[Lock]:
    """Return the locks of this process: only one process may serve a SQLite file, but many a database server."""
    names = [worker_lock(worker)] if database.path is None else [worker_lock(worker), "classroom-service"]
    return [database.lock(name) for name in names]
