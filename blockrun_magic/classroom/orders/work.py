"""The workers of orders: 64 at a time in a process; when it ends, another takes over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from blockrun_magic.classroom.orders.buying import Buyer, Work
from blockrun_magic.classroom.orders.failures import failure_of
from blockrun_magic.classroom.orders.studios import MemberStudios
from blockrun_magic.classroom.policy import Policy
from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.classroom.storage.order_records import NewOrder, Order, OrderImage
from blockrun_magic.classroom.storage.orders import OrderRows
from blockrun_magic.database.engine import Database
from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.threads import run_io

__all__ = ["OrderWorkers", "worker_lock"]

_AT_ONCE = 64
_PAUSE = 60.0
"""Seconds until an order is repeated after an unexpected exception."""
_CANCEL_POLLS, _CANCEL_INTERVAL = 100, 0.05
_LOG = logging.getLogger(__name__)


def worker_lock(worker: str) -> str:
    """Return the name of the lock that a worker holds while it lives."""
    return f"classroom-{worker}"


class OrderWorkers:
    """The orders that this process works on."""

    def __init__(
        self,
        database: Database,
        rows: OrderRows,
        studios: MemberStudios,
        worker: str,
        member: Callable[[int], Member | None],
    ) -> None:
        self.running: dict[int, Work] = {}
        self._database = database
        self._rows = rows
        self._worker = worker
        self._buyer = Buyer(rows, studios, member)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    @property
    def waiting(self) -> int:
        """The number of orders that wait for their turn."""
        return sum(not work.begun for work in self.running.values())

    async def accept(
        self, member_id: int, new: NewOrder, policy: Policy, request: ImageRequest, *, again: bool
    ) -> Order:
        """Return a new order: recorded, and started at once if there is room; raises as `OrderRows.accept`."""
        begun = not self._slots.locked()
        rules = {"rate": policy.rate, "at_a_time": policy.at_a_time}

        def accepted() -> tuple[Order, list[OrderImage] | None]:
            order = self._rows.accept(member_id, new, self._worker, again=again, begun=begun, **rules)
            return order, self._buyer.shared_images(order) if begun else None

        order, shared = await run_io(accepted)
        self.start(order, request, shared)
        return order

    def start(self, order: Order, request: ImageRequest | None = None, shared: list[OrderImage] | None = None) -> None:
        """Start work on an order, unless this process works on it already."""
        if order.id in self.running:
            return
        work = Work(order, request, shared)
        self.running[order.id] = work
        work.task = asyncio.create_task(self._run(work))
        work.task.add_done_callback(lambda done: self._ended(order.id, done))

    def _ended(self, order_id: int, task: asyncio.Task[None]) -> None:
        self.running.pop(order_id, None)
        if not task.cancelled() and task.exception() is not None:  # so that asyncio does not print its exception
            _LOG.error("The work on order %s ended with %s.", order_id, type(task.exception()).__name__)

    async def take_over(self) -> None:
        """Start the open orders that no process is working on, and carry out requests to cancel ours."""
        now, free = self._database.now(), {None: True, self._worker: True}
        for order in await run_io(self._rows.unfinished):
            work = self.running.get(order.id)
            if work is not None:
                if order.cancel_asked and not work.cancelling:
                    self._interrupt(work)
                continue
            if (order.next_try_at or 0) > now:
                continue
            if order.worker is not None and order.worker not in free:  # checked once for all orders of a process
                free[order.worker] = not await run_io(self._database.is_locked, worker_lock(order.worker))
            if free[order.worker] and await run_io(self._rows.take, order, self._worker):
                self.start(order)

    async def wait_for_member(self, member_id: int, seconds: float) -> None:
        """Wait until an order of a person has ended here, or `seconds`."""
        tasks = [work.task for work in self.running.values() if work.order.member_id == member_id]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(seconds)

    async def wait_idle(self, seconds: float) -> None:
        """Wait until no order is in progress, or `seconds`."""
        if self.running:
            await asyncio.wait([work.task for work in self.running.values()], timeout=seconds)

    async def give_back(self) -> None:
        """Stop working, and leave the rest to other processes."""
        tasks = [work.task for work in self.running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await run_io(self._rows.give_back, self._worker)

    async def cancel(self, order: Order) -> None:
        """Cancel an order unless its payment is signed; waits a few seconds for the process that works on it."""
        await run_io(self._rows.ask_cancel, order.id)
        for _ in range(_CANCEL_POLLS):
            work = self.running.get(order.id)
            if work is not None:
                self._interrupt(work)
                await asyncio.wait({work.task}, timeout=_CANCEL_INTERVAL * _CANCEL_POLLS)
            current = await run_io(self._rows.by_id, order.id)
            if current is None or current.is_final or not current.cancel_asked:
                return
            await asyncio.sleep(_CANCEL_INTERVAL)

    def _interrupt(self, work: Work) -> None:
        if not work.cancelling:
            work.cancelling = True
            work.task.cancel()

    # -- one order

    async def _run(self, work: Work) -> None:
        try:
            at_once = work.shared is not None and not self._slots.locked()
            async with self._slots:
                work.begun = True
                order = work.order if at_once else await run_io(self._rows.begin, work.order.id, self._worker)
                if order is None:
                    await self._buyer.settle_cancel(work.order)
                else:
                    await self._buyer.carry_out(work, order)
        except asyncio.CancelledError:
            if not work.cancelling:
                raise
            await self._buyer.settle_cancel(work.order)
        except Exception as error:  # noqa: BLE001  the order stays on record, and is tried again
            _LOG.error("Order %s met an unexpected %s.", work.order.id, type(error).__name__)
            with suppress(BlockrunError):
                await run_io(self._rows.postpone, work.order.id, failure_of(error), _PAUSE, None, None)
