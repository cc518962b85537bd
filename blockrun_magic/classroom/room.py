"""One classroom: its settings, its records, and the parts that work on orders."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.classroom.joining import HubProof, Joining
from blockrun_magic.classroom.orders.orders import Orders
from blockrun_magic.classroom.orders.studios import MemberStudios
from blockrun_magic.classroom.orders.work import Workshop
from blockrun_magic.classroom.storage.records import REALM, Records, open_records
from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.payments.wallets.api_key import find_api_key
from blockrun_magic.studio.services import Wallets, purchase_services
from blockrun_magic.wiring import ENVIRON, process_session, wallet_for

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

__all__ = ["Classroom", "Settings", "open_classroom"]

_TAKE_OVER_EVERY = 2.0
_RECONCILE_ROUNDS = 15
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one process; `public_url` is its address for others, where a proxy stands before it."""

    home: Path
    gateway: Gateway
    port: int = 8765
    host: str = "127.0.0.1"
    database_url: str | None = None
    teachers: str | None = None
    public_url: str | None = None


@dataclass(slots=True)
class Classroom:
    """One process of the service; all coroutines run on one event loop."""

    settings: Settings
    records: Records
    studios: MemberStudios
    workshop: Workshop
    orders: Orders
    joining: Joining
    worker: str
    pages: Sequence[BaseRoute] = field(default=())

    async def take_over_for_ever(self) -> None:
        """Take over what nobody works on, at once and every few seconds, and ask about open payments."""
        rounds = 0
        while True:
            for step, every in ((self.workshop.take_over, 1), (self.studios.reconcile, _RECONCILE_ROUNDS)):
                if rounds % every == 0:
                    try:
                        await step()
                    except BlockrunError as error:  # the next round tries again
                        _LOG.warning("Nothing could be taken over: %s", type(error).__name__)
            rounds += 1
            await asyncio.sleep(_TAKE_OVER_EVERY)

    async def end(self, seconds: float) -> None:
        """Let what is in work end within `seconds`, and leave the rest to others."""
        self.orders.stop(seconds)
        await self.workshop.wait_idle(seconds)
        await self.workshop.give_back()


def open_classroom(settings: Settings, hub: HubProof | None = None) -> Classroom:
    """Return the service, with its records open and nothing started; raises BlockrunError."""
    records = open_records(settings.home, settings.database_url)
    environ = ENVIRON
    services = purchase_services(
        client=Client(),
        ledger=records.ledger,
        store=records.store,
        wallets=Wallets(lambda gateway: wallet_for(gateway, environ), lambda: find_api_key(environ, Path.home())),
        catalogs=settings.home / "magic" / "catalogs",  # the name on disk  codespell:ignore catalogs
    )
    records.ledger.set_setting(REALM, str(settings.gateway.realm))
    studios = MemberStudios(services, records.database, settings.gateway, records.members.by_id)
    worker = process_session()
    workshop = Workshop(records.database, records.orders, studios, worker, records.members.by_id)
    return Classroom(
        settings=settings,
        records=records,
        studios=studios,
        workshop=workshop,
        orders=Orders(records.database, records.orders, studios, workshop, worker),
        joining=Joining(records.database, records.members, records.invitations, records.audit, hub, settings.teachers),
        worker=worker,
    )
