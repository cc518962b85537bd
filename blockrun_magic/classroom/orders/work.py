"""The work on orders: 64 at a time in a process, taken over by another when the process ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from blockrun_magic.classroom.orders.failures import failure_of, refusal_of
from blockrun_magic.classroom.orders.studios import MemberStudios
from blockrun_magic.classroom.refusals import Refusal
from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.classroom.storage.order_records import Order, OrderImage, OrderState
from blockrun_magic.classroom.storage.orders import OrderRows
from blockrun_magic.database.engine import Database
from blockrun_magic.errors import BlockrunError, Fate, GatewayUnreachable, UpstreamFailed
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.studio import ImageResult
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.results.requests import request_from_record
from blockrun_magic.threads import run_cpu, run_io

__all__ = ["Work", "Workshop", "worker_lock"]

_AT_ONCE = 64
_FIRST_RETRY, _LONGEST_RETRY = 2.0, 300.0
_MAX_TRIES = 8
"""How often a paid request that brings no image is tried again."""
_PRICE_RETRIES = (0.5, 2.0)
"""Seconds before a gateway is asked for its price again."""
_CANCEL_POLLS, _CANCEL_INTERVAL = 100, 0.05
_LOG = logging.getLogger(__name__)


def worker_lock(worker: str) -> str:
    """Return the name of the lock that a worker holds as long as it lives."""
    return f"classroom-{worker}"


@dataclass(slots=True)
class Work:
    """One order in this process; `refusal` is why it ended without a record."""

    order: Order
    request: ImageRequest | None
    task: asyncio.Task[None] = field(init=False)
    progress: Progress = field(default_factory=Progress)
    begun: bool = False
    cancelling: bool = False
    refusal: Refusal | None = None


class Workshop:
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
        self._studios = studios
        self._worker = worker
        self._member = member
        self._slots = asyncio.Semaphore(_AT_ONCE)

    @property
    def waiting(self) -> int:
        """How many orders wait for their turn."""
        return sum(not work.begun for work in self.running.values())

    def start(self, order: Order, request: ImageRequest | None = None) -> None:
        """Work on an order, unless this process does already."""
        if order.id in self.running:
            return
        work = Work(order, request)
        self.running[order.id] = work
        work.task = asyncio.create_task(self._run(work))
        work.task.add_done_callback(lambda _: self.running.pop(order.id, None))

    async def take_over(self) -> None:
        """Start the open orders that nobody works on, and cancel those of ours that somebody wants cancelled."""
        now = self._database.now()
        for order in await run_io(self._rows.unfinished):
            work = self.running.get(order.id)
            if work is not None:
                if order.cancel_asked and not work.cancelling:
                    self._interrupt(work)
                continue
            due = (order.next_try_at or 0) <= now and await self._is_free(order)
            if due and await run_io(self._rows.take, order, self._worker):
                self.start(order)

    async def _is_free(self, order: Order) -> bool:
        if order.worker in (None, self._worker):
            return True
        return not await run_io(self._database.is_locked, worker_lock(order.worker))

    async def wait_for_member(self, member_id: int, seconds: float) -> None:
        """Wait until an order of a person has ended here, or `seconds`."""
        tasks = [work.task for work in self.running.values() if work.order.member_id == member_id]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(seconds)

    async def wait_idle(self, seconds: float) -> None:
        """Wait until nothing is in work, or `seconds`."""
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
        """Cancel an order if nothing of it is signed; waits a few seconds for whoever works on it."""
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
            async with self._slots:
                work.begun = True
                await self._work_on(work)
        except asyncio.CancelledError:
            if not work.cancelling:
                raise
            await self._settle_cancel(work.order)
        except Exception as error:  # noqa: BLE001  the order stays on record, and is tried again
            _LOG.error("Order %s met an unexpected %s.", work.order.id, type(error).__name__)
            await run_io(self._rows.postpone, work.order.id, failure_of(error), _LONGEST_RETRY, None, None)

    async def _work_on(self, work: Work) -> None:
        order = await run_io(self._rows.begin, work.order.id, self._worker)
        if order is None:
            await self._settle_cancel(work.order)
            return
        member = await run_io(self._member, order.member_id)
        if member is None or member.revoked_at is not None:
            error = {"code": "revoked", "message": "Your access was revoked.", "hint": "Ask your teacher."}
            if not await self._sent(order):
                await run_io(self._finish, order, OrderState.FAILED, error=error)
                return
        shared = await run_io(self._shared_images, order)
        if shared:
            await run_io(self._finish, order, OrderState.DONE, images=shared, price=0)
            return
        await self._buy(work, order)

    async def _buy(self, work: Work, order: Order) -> None:
        try:
            result = await self._make(work, order)
        except BlockrunError as error:
            await self._failed(work, order, error)
            return
        images = [
            OrderImage(image.file, image.media_type, image.width, image.height, image.revised_prompt)
            for image in result.stored
        ]
        receipt = result.receipt
        await run_io(
            self._finish,
            *(order, OrderState.DONE, images),
            purchase_id=receipt.purchase_id,
            price=receipt.amount,
            pays=True,
        )

    async def _make(self, work: Work, order: Order) -> ImageResult:
        """Return the images; a gateway that could not be asked for its price is asked again."""
        request = work.request
        if request is None:
            request = await run_cpu(request_from_record, order.request or {}, self._studios.store)
        arguments = (order.member_id, request, order.take, order.max_price_micros, work.progress)
        for wait in _PRICE_RETRIES:
            try:
                return await self._studios.make(*arguments)
            except (GatewayUnreachable, UpstreamFailed) as error:
                if error.money is None or error.money.fate is not Fate.NOTHING_SIGNED:
                    raise
            await asyncio.sleep(wait)
        return await self._studios.make(*arguments)

    def _finish(
        self,
        order: Order,
        state: OrderState,
        images: Sequence[OrderImage] = (),
        error: Mapping[str, object] | None = None,
        purchase_id: str | None = None,
        price: int | None = None,
        *,
        pays: bool = False,
    ) -> None:
        self._rows.finish(order.id, state, images=images, error=error, purchase_id=purchase_id, price=price, pays=pays)

    async def _failed(self, work: Work, order: Order, error: BlockrunError) -> None:
        """Record how an order failed: the ledger says whether money may have moved."""
        price = work.progress.price
        purchase_id, payments = await run_io(self._studios.payments, order.member_id, order.digest, order.take)
        sent = [payment for payment in payments if payment.state in _SENT]
        refusal = refusal_of(error, price)
        if sent and not (_all_settled(sent) and order.tries >= _MAX_TRIES):
            wait = min(_LONGEST_RETRY, _FIRST_RETRY * 2.0 ** min(order.tries, 10))
            await run_io(self._rows.postpone, order.id, failure_of(error), wait, purchase_id, price)
        elif sent or refusal is None:
            await run_io(
                self._finish,
                *(order, OrderState.FAILED),
                error=failure_of(error),
                purchase_id=purchase_id,
                price=price,
                pays=bool(sent),
            )
        else:
            work.refusal = refusal
            if not await run_io(self._rows.discard, order.id):
                refused = {**refusal.body(), "status": refusal.status}
                await run_io(self._finish, order, OrderState.REFUSED, error=refused, price=price)

    async def _settle_cancel(self, order: Order) -> None:
        """End an order as cancelled unless a payment of it was sent; then the order goes on."""
        for _ in range(_CANCEL_POLLS):
            current = await run_io(self._rows.by_id, order.id)
            if current is None or current.is_final or not current.cancel_asked:
                return
            _, payments = await run_io(self._studios.payments, order.member_id, order.digest, order.take)
            if not any(payment.state is not State.RELEASED for payment in payments):
                await run_io(self._finish, order, OrderState.CANCELLED)
                return
            if any(payment.state in _SENT for payment in payments):
                break
            await asyncio.sleep(_CANCEL_INTERVAL)
        await run_io(self._rows.refuse_cancel, order.id)

    async def _sent(self, order: Order) -> bool:
        _, payments = await run_io(self._studios.payments, order.member_id, order.digest, order.take)
        return any(payment.state in _SENT for payment in payments)

    def _shared_images(self, order: Order) -> list[OrderImage]:
        """Return the images that a teacher has bought for the same request, or none."""
        shared = self._rows.shared(order.realm, order.digest, order.take)
        images = [] if shared is None or shared.member_id == order.member_id else self._rows.images(shared.id)
        return images if all(self._studios.store.has(image.file, image.media_type) for image in images) else []


_SENT = (State.SUBMITTED, State.POLLING, State.UNKNOWN, State.SETTLED)


def _all_settled(payments: Sequence[Payment]) -> bool:
    return all(payment.state is State.SETTLED for payment in payments)
