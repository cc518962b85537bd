"""Session of one kernel: its ledger, its studio and its event loop; each is opened when needed."""

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
from blockrun_magic.notebook.gateway_selection import GatewaySelection
from blockrun_magic.notebook.loop import LoopThread
from blockrun_magic.threads import run_io
from blockrun_magic.wiring import find_classroom, joined_address, open_ledger, open_studio

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
"""Seconds until open payments are looked up again; each pause is twice as long as the last."""
_BREATH = 0.02
"""Seconds in which other kernels may write."""
_LESSONS = "*.pictures"
"""The folders of lessons."""


class Session:
    """State that the magics of one kernel share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop_thread = LoopThread()
        self.backgrounds: list[BackgroundJob] = []
        self.selection = GatewaySelection(settings, self._open_lesson, self._find_classroom)
        self._caps_set: dict[str, int] = {}
        self._ledger: Ledger | None = None
        self._studio: Studio | None = None
        self._opening = threading.RLock()
        self._look_ups: dict[str, tuple[float, float]] = {}
        """For each realm, the monotonic time of the next look-up of open payments, and the pause after it."""
        self._pid = os.getpid()
        self._inherited: list[object] = []
        """Objects of a forked process's parent: never used, and never finalized here."""

    @property
    def gateway(self) -> Gateway:
        """The gateway of requests; raises FlagError for an invalid one."""
        return self.selection.gateway

    def _open_lesson(self) -> str | None:
        return None if self._studio is None else next((lesson.name for lesson in self._studio.lessons), None)

    def _find_classroom(self) -> Gateway:
        """Return the classroom of this kernel: the joined one, else one that is found now; raises BlockrunError."""
        known = self.studio.wallets.account().known(joined_address())
        return known or self.loop_thread.run(find_classroom(self.studio))

    @property
    def ledger(self) -> Ledger:
        """The ledger, opened at its first use without the parts that only a purchase needs; raises LedgerError."""
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
        """The open lessons, for every studio of this session."""
        return self.studio.lessons

    @property
    def needs_no_studio(self) -> bool:
        """Whether the gateway in use and its payer are known before the studio is opened.

        False if there is a lesson here, or if a service must be started or asked for the payer.
        """
        if self._studio is not None or any(Path().glob(_LESSONS)) or self.selection.name in ("practice", "classroom"):
            return False
        return self.gateway.paid_by in ("signature", "credit")

    def _renew_after_fork(self) -> None:
        """Give a forked process its own studio, connections and loop; choices and lessons are kept."""
        if self._pid == os.getpid():
            return
        parents, self._studio, self._pid = self._studio, None, os.getpid()
        self._inherited += [parents, self._ledger, self.loop_thread]
        self._ledger, self._opening = None, threading.RLock()
        self.loop_thread, self.backgrounds = LoopThread(), []
        self.selection.leave_to_parent()
        if parents is not None:
            self._studio = open_studio(ledger=self.ledger, lessons=parents.lessons.copy())

    def studio_and_gateway(self, name: str | None = None) -> tuple[Studio, Gateway]:
        """Return the studio and the gateway, or the one called `name`; raises LedgerError or FlagError.

        Open payments of this and earlier kernels are looked up in the background from time to time.
        """
        self._renew_after_fork()
        with self._opening:  # the first call may run in the background while a cell calls it as well
            studio = self.studio
            studio.lessons.find()
            gateway = self.gateway if name is None else self.selection.gateway_named(name)
            self._set_limits(studio.records)
            self._look_up_open_payments(studio, gateway)
            return studio, gateway

    def records_and_gateway(self) -> tuple[UserRecords, Gateway]:
        """Return the records and the gateway in use, if `needs_no_studio`; raises LedgerError or FlagError."""
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

    def is_cache_only(self) -> bool:
        """Return whether only stored images may be used."""
        return self.settings.cache_only or os.environ.get("BLOCKRUN_CACHE_ONLY", "") not in ("", "0")

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` on the loop of the studio."""
        return self.loop_thread.submit(work)

    def refresh_catalog(self, gateway: Gateway) -> None:
        """Read the list of models at `gateway` in the background, unless that was done within a day."""
        if self.studio.catalogs.stale(gateway):
            self.loop_thread.submit(self.studio.catalogs.refresh_if_stale(gateway))

    def run(self, work: Coroutine[Any, Any, T], tick: Callable[[], None] | None = None) -> T:
        """Return what `work` returns; Stop works meanwhile."""
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
        self.selection.close()


async def _add_up(records: UserRecords) -> None:
    """Add up the payments settled since the last time, so that `spend all` is quick."""
    more = True
    with suppress(LedgerError):
        while more:
            more = await run_io(records.add_up)
            await asyncio.sleep(_BREATH)
