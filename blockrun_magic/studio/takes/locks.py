"""Takes of a request, and the lock that lets one kernel at a time buy one.

A lock ends with its process, so a killed kernel leaves nothing to clean up. The next kernel reads the state of the
purchase from the ledger, which is also the fence: a lock alone allows nothing to be signed or sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from blockrun_magic.database.locks import FileLocks, Lock, Locks
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Purchase, purchase_lock
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.studio.progress import Progress
from blockrun_magic.threads import run_io

__all__ = ["PurchaseLocks"]

T = TypeVar("T")

_POLL_INTERVAL = 0.1


class PurchaseLocks:
    """The takes of all requests, and locks for them: in a folder, or those of a database."""

    def __init__(self, ledger: Ledger, locks: Path | Locks) -> None:
        self._ledger = ledger
        self._locks = FileLocks(locks) if isinstance(locks, Path) else locks

    def resolve_take(self, realm: str, digest: str, *, take: int | None, fresh: bool) -> int:
        """Return the take to use: `take` if given, the next free one if `fresh`, otherwise the first finished one."""
        if take is not None:
            return take
        takes = self._ledger.takes(realm, digest)
        if fresh:
            return takes[-1].take + 1 if takes else 1
        finished = [purchase.take for purchase in takes if purchase.finished_at is not None]
        return (finished or [purchase.take for purchase in takes] or [1])[0]

    @asynccontextmanager
    async def acquire(
        self,
        realm: str,
        digest: str,
        progress: Progress,
        begin: Callable[[int], T],
        *,
        take: int | None,
        fresh: bool,
        gateway: str,
    ) -> AsyncIterator[T]:
        """Hold the lock of the take to use, and yield what `begin` returns for it; waits for other kernels.

        `begin` is called once the lock is held, in the same thread if it is free. `gateway` is the name of the gateway
        to ask: a fresh take does not continue a purchase that was paid for elsewhere.
        """
        claim = partial(self._claim_fresh, realm, digest, gateway)
        if not fresh or take is not None:
            claim = partial(self._claim, realm, digest, take)
        resolved, lock, begun = await run_io(_begun, claim, begin)
        while begun is None:
            progress.stage = "waiting: another kernel is buying the same image"
            await asyncio.sleep(_POLL_INTERVAL)
            begun = await run_io(_begun_at, resolved, lock, begin)
        progress.stage = "starting"
        try:
            yield begun
        finally:
            lock.release()

    @asynccontextmanager
    async def try_acquire(self, purchase: Purchase) -> AsyncIterator[bool]:
        """Hold the lock of `purchase` if it is free; yield whether it was."""
        lock = self._lock(purchase.realm, purchase.digest, purchase.take)
        held = await run_io(lock.try_acquire)
        try:
            yield held
        finally:
            if held:
                lock.release()

    def _claim(self, realm: str, digest: str, take: int | None) -> tuple[int, Lock]:
        """Return the take to use, and its lock, which this call holds if it was free."""
        resolved = self.resolve_take(realm, digest, take=take, fresh=False)
        lock = self._lock(realm, digest, resolved)
        lock.try_acquire()
        return resolved, lock

    def _claim_fresh(self, realm: str, digest: str, gateway: str) -> tuple[int, Lock]:
        """Return a free take, locked: an abandoned one if there is one, otherwise a new one."""
        takes = self._ledger.takes(realm, digest)
        newest = max((each.take for each in takes), default=0)
        candidates = [each.take for each in takes if each.finished_at is None and self._can_continue(each, gateway)]
        while True:
            take = candidates.pop(0) if candidates else (newest := newest + 1)
            lock = self._lock(realm, digest, take)
            if not lock.try_acquire():
                continue
            purchase = self._ledger.purchase(realm, digest, take)
            if purchase is None or purchase.finished_at is None:
                return take, lock
            lock.release()

    def _can_continue(self, purchase: Purchase, gateway: str) -> bool:
        """Return whether an unfinished take can be continued: its payment is not in doubt.

        A prepaid request cannot be repeated unless it has become a job.
        """
        payments = [p for p in self._ledger.payments(purchase.id) if p.state is not State.RELEASED]
        stuck = {State.UNKNOWN, State.SUBMITTED, State.SETTLED}
        here = not payments or purchase.gateway == gateway
        # The header of a finished purchase is wiped: if its file is lost, only the image's address can restore it.
        lost = (
            any(p.state is State.SETTLED and not (p.payload and p.payload.header_value) for p in payments)
            and not purchase.answer
        )
        return here and not lost and all(p.state not in (stuck if p.prepaid else {State.UNKNOWN}) for p in payments)

    def _lock(self, realm: str, digest: str, take: int) -> Lock:
        return self._locks.lock(purchase_lock(self._ledger.owner, realm, digest, take))


def _begun(claim: Callable[[], tuple[int, Lock]], begin: Callable[[int], T]) -> tuple[int, Lock, T | None]:
    """Return the take to use, its lock, and the result of `begin`, or None for that while another has the lock."""
    take, lock = claim()
    return take, lock, _begun_at(take, lock, begin)


def _begun_at(take: int, lock: Lock, begin: Callable[[int], T]) -> T | None:
    """Return the result of `begin` if the lock could be taken, or None while another has it."""
    if not (lock.is_held or lock.try_acquire()):
        return None
    try:
        return begin(take)
    except BaseException:
        lock.release()
        raise
