"""Session of one kernel: its gateway, its studio and its event loop; each is opened when needed."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from blockrun_magic.errors import LedgerError
from blockrun_magic.notebook.config_file import remembered_gateway
from blockrun_magic.notebook.loop import LoopThread
from blockrun_magic.threads import run_io
from blockrun_magic.wiring import (
    blockrun_home,
    find_classroom,
    joined_address,
    open_ledger,
    open_practice,
    open_studio,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.notebook.background import BackgroundJob
    from blockrun_magic.notebook.settings import Settings
    from blockrun_magic.payments.ledger.ledger import Ledger
    from blockrun_magic.payments.user_records import UserRecords
    from blockrun_magic.studio import Studio
    from blockrun_magic.studio.lessons.open_lessons import OpenLessons

__all__ = ["Session"]

T = TypeVar("T")

_FIRST_PAUSE, _MAX_PAUSE = 60.0, 3600.0
"""Seconds before open payments are looked up again; each pause is twice the one before."""
_BREATH = 0.02
"""Seconds in which other kernels may write."""
_LESSONS = "*.pictures"
"""The folders in which lessons are."""


class Session:
    """State that the magics of one kernel share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop_thread = LoopThread()
        self.backgrounds: list[BackgroundJob] = []
        self._caps_set: dict[str, int] = {}
        self._ledger: Ledger | None = None
        self._studio: Studio | None = None
        self._opening = threading.RLock()
        self._chosen: tuple[str, str] | None = None
        self._known: dict[str, Gateway] = {}
        # What is said last counts: `%config` after `use` takes its place.
        settings.observe(self._on_config_change, "gateway")
        self._practice: tuple[Gateway, Callable[[], None]] | None = None
        self._look_ups: dict[str, tuple[float, float]] = {}
        """For each realm, the monotonic time of the next look-up of open payments, and the pause after it."""
        self._pid = os.getpid()
        self._inherited: list[object] = []
        """What belongs to the parent of a forked process: never used, and never finalized here."""

    @property
    def gateway(self) -> Gateway:
        """The gateway of requests; raises FlagError for an invalid one.

        Chosen with `use` or `%config`, whichever was said last, else by `BLOCKRUN_API_URL`, else by what is
        remembered, else Base.
        """
        return self.gateway_named(self._selection()[0])

    @property
    def gateway_name(self) -> str:
        """The name of the gateway of requests, which is not opened for that."""
        return self._selection()[0].lower()

    @property
    def gateway_reason(self) -> str:
        """Why requests go where they go, in a few words."""
        return self._selection()[1]

    def _selection(self) -> tuple[str, str]:
        url = os.environ.get("BLOCKRUN_API_URL")
        if self._chosen is not None:
            return self._chosen
        if self.settings.gateway:
            return self.settings.gateway, "from %config BlockrunMagics.gateway"
        if url:
            return url, "from BLOCKRUN_API_URL"
        lesson = next(iter(self._studio.lessons), None) if self._studio is not None else None
        if lesson is not None:
            return "practice", f"for what the lesson {lesson.name} does not hold"
        remembered = remembered_gateway(blockrun_home())
        return (remembered, "remembered in magic/config.toml") if remembered else ("base", "the default")

    def _on_config_change(self, _change: object) -> None:
        self._chosen = None

    @property
    def ledger(self) -> Ledger:
        """The ledger, opened at its first use, without what only a purchase needs; raises LedgerError."""
        self._renew_after_fork()
        with self._opening:
            if self._ledger is None:
                self._ledger = open_ledger()
            return self._ledger

    @property
    def studio(self) -> Studio:
        """The studio, opened at its first use; raises LedgerError."""
        self._renew_after_fork()
        with self._opening:
            if self._studio is None:
                from blockrun_magic.studio.lessons.open_lessons import OpenLessons

                self._studio = open_studio(ledger=self.ledger, lessons=OpenLessons())
            return self._studio

    @property
    def lessons(self) -> OpenLessons:
        """The lessons that are open, for every studio of this session."""
        return self.studio.lessons

    @property
    def needs_no_studio(self) -> bool:
        """Whether the gateway in use and its payer are known without the studio, which is not open yet.

        Not so with a lesson here, nor where a service has to be asked who pays, or to be started.
        """
        if self._studio is not None or any(Path().glob(_LESSONS)) or self.gateway_name in ("practice", "classroom"):
            return False
        return self.gateway.paid_by in ("signature", "credit")

    def _renew_after_fork(self) -> None:
        """Give a forked process a studio, connections and a loop of its own; choices and lessons stay."""
        if self._pid == os.getpid():
            return
        parents, self._studio, self._pid = self._studio, None, os.getpid()
        self._inherited += [parents, self._ledger, self.loop_thread, self._practice]
        self._ledger, self._opening = None, threading.RLock()
        self.loop_thread = LoopThread()
        self.backgrounds = []
        if self._practice is not None:  # the parent's server still listens on this machine
            self._practice = (self._practice[0], lambda: None)
        if parents is not None:
            self._studio = open_studio(ledger=self.ledger, lessons=parents.lessons.copy())

    def close_lessons(self) -> list[str]:
        """Close every lesson, also one that cannot be read, and return the names of those that were open."""
        return self.lessons.close()

    def studio_and_gateway(self, name: str | None = None) -> tuple[Studio, Gateway]:
        """Return the studio and the gateway, or the one called `name`; raises LedgerError or FlagError.

        Payments that are still open, here or from an earlier kernel, are looked up in the background now and then.
        """
        self._renew_after_fork()
        with self._opening:  # the first time may be in the background, while a cell comes here, too
            studio = self.studio
            studio.lessons.find()
            gateway = self.gateway if name is None else self.gateway_named(name)
            self._set_limits(studio.records)
            self._look_up_open_payments(studio, gateway)
            return studio, gateway

    def records_and_gateway(self) -> tuple[UserRecords, Gateway]:
        """Return the records and the gateway in use, where that needs no studio; raises LedgerError or FlagError."""
        from blockrun_magic.payments.user_records import UserRecords

        records = UserRecords(self.ledger)
        self._set_limits(records)
        return records, self.gateway

    def _set_limits(self, records: UserRecords) -> None:
        caps = self.settings.caps()
        if caps != self._caps_set:
            records.set_limits(**caps)
            self._caps_set = caps

    def _look_up_open_payments(self, studio: Studio, gateway: Gateway) -> None:
        due, pause = self._look_ups.get(gateway.realm, (0.0, _FIRST_PAUSE))
        if monotonic() >= due:
            self._look_ups[gateway.realm] = monotonic() + pause, min(2 * pause, _MAX_PAUSE)
            self.loop_thread.submit(_add_up(studio.records))
            if studio.records.open_payments():
                self.loop_thread.submit(studio.reconcile(gateway))

    def use(self, name: str, why: str | None = None, *, reset_book: bool = False) -> Gateway:
        """Send requests to the gateway `name` from now on, and return it; raises BlockrunError.

        `why` says how it came to be chosen, unless the user named it. A gateway that cannot be used stays chosen:
        cells fail with the same error, and nothing is bought elsewhere. With `reset_book`, practice starts on a new
        ledger.
        """
        self._chosen = (name, why or f"chosen with `%blockrun use {name}`")
        if reset_book:
            self.practice(reset=True)
        return self.gateway_named(name)

    def gateway_named(self, name: str) -> Gateway:
        """Return the gateway called `name`, or at that URL; raises FlagError."""
        from blockrun_magic.gateway.gateways import CLASSROOM, gateway_named

        if name.lower() == "practice":
            return self.practice()
        if name.lower() == CLASSROOM:
            if CLASSROOM not in self._known:
                known = self.studio.wallets.account().known(joined_address())  # on the disk, without the network
                self._known[CLASSROOM] = known or self.loop_thread.run(find_classroom(self.studio))
            return self._known[CLASSROOM]
        if name not in self._known:
            self._known[name] = gateway_named(name)
        return self._known[name]

    def set_classroom(self, gateway: Gateway) -> None:
        """Make `gateway` the classroom of this kernel, which was joined or has other money than before."""
        self._known[gateway.name] = gateway

    def practice(self, *, reset: bool = False) -> Gateway:
        """Return the practice gateway; with `reset`, on a new ledger. Raises LedgerError."""
        if reset and self._practice is not None:
            self._practice[1]()
            self._practice = None
        if self._practice is None:
            self._practice = open_practice(reset=reset)
        return self._practice[0]

    def is_cache_only(self) -> bool:
        """Return whether only stored images may be used."""
        return self.settings.cache_only or os.environ.get("BLOCKRUN_CACHE_ONLY", "") not in ("", "0")

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` on the loop of the studio."""
        return self.loop_thread.submit(work)

    def prewarm(self, gateway: Gateway) -> None:
        """Get ready what the first image at `gateway` will need, in the background."""
        self.loop_thread.submit(self.studio.prewarm(gateway))

    def refresh_catalog(self, gateway: Gateway) -> None:
        """Read the list of models at `gateway` in the background, unless that was done within a day."""
        if self.studio.catalogs.stale(gateway):
            self.loop_thread.submit(self.studio.catalogs.refresh_if_stale(gateway))

    def run(self, work: Coroutine[Any, Any, T], tick: Callable[[], None] | None = None) -> T:
        """Return what `work` returns, with Stop alive meanwhile."""
        if self.settings.keep_loop_running:
            return self.loop_thread.run_nested(work, tick)
        return self.loop_thread.run(work, tick)

    def close(self) -> None:
        """End everything that runs in the background; safe to call twice, and in a forked process does nothing."""
        if self._pid != os.getpid():
            return
        with self._opening:
            studio, self._studio = self._studio, None
            ledger, self._ledger = self._ledger, None
        if studio is None:
            self.loop_thread.close()
        else:
            self.loop_thread.close(studio.close(), studio.running.max_wait)
        if ledger is not None:
            ledger.close()
        practice, self._practice = self._practice, None
        if practice is not None:
            practice[1]()


async def _add_up(records: UserRecords) -> None:
    """Add up what was settled since the last time, so that `spend all` finds it done."""
    more = True
    with suppress(LedgerError):
        while more:
            more = await run_io(records.add_up)
            await asyncio.sleep(_BREATH)
