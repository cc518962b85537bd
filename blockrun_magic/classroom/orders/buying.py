"""Buying for an order: a teacher's images, or one `studio.make`; the ledger decides its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from blockrun_magic.classroom.orders.failures import failure_of, refusal_of
from blockrun_magic.classroom.orders.studios import MemberStudios
from blockrun_magic.classroom.refusals import Refusal
from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.classroom.storage.order_records import Order, OrderImage, OrderState
from blockrun_magic.classroom.storage.orders import OrderRows
from blockrun_magic.errors import BlockrunError, Fate, GatewayUnreachable, UpstreamFailed
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.studio import ImageResult
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.reconciliation import accepted_until, expires_at
from blockrun_magic.studio.results.requests import request_from_record
from blockrun_magic.threads import run_cpu, run_io

__all__ = ["Buyer", "Work"]

_FIRST_RETRY, _MAX_RETRY = 2.0, 300.0
_MAX_TRIES = 8
"""Number of repetitions of a paid request that delivers no image."""
_PRICE_RETRIES = (0.5, 2.0)
"""Seconds until a gateway is asked for its price again."""
_CANCEL_POLLS, _CANCEL_INTERVAL = 100, 0.05


@dataclass(slots=True)
class Work:
    """One order in this process; `refusal` is its end without a record, `ended` its recorded end.

    `shared`: a teacher's images for it, if they were looked up when the order was accepted and started.
    """

    order: Order
    request: ImageRequest | None
    shared: list[OrderImage] | None = None
    task: asyncio.Task[None] = field(init=False)
    progress: Progress = field(default_factory=Progress)
    begun: bool = False
    cancelling: bool = False
    refusal: Refusal | None = None
    ended: Order | None = None


class Buyer:
    """Carries orders out; `member` returns a person by their id."""

    def __init__(self, rows: OrderRows, studios: MemberStudios, member: Callable[[int], Member | None]) -> None:
        self._rows = rows
        self._studios = studios
        self._member = member

    async def carry_out(self, work: Work, order: Order) -> None:
        """Carry an order to its end, or to another try; its record says which."""
        shared = work.shared
        if order is not work.order or shared is None:  # it had to wait, or was started earlier
            member, shared = await run_io(lambda: (self._member(order.member_id), self.shared_images(order)))
            if member is None or member.revoked_at is not None:
                error = {"code": "revoked", "message": "Your access was revoked.", "hint": "Ask your teacher."}
                if not await self._sent(order):
                    await run_io(self._finish, order, OrderState.FAILED, error=error)
                    return
        if shared:
            work.ended = await run_io(self._finish, order, OrderState.DONE, images=shared, price=0)
            return
        if order.tries == 1 or await self._may_go_on(order):
            await self._buy(work, order)

    async def _may_go_on(self, order: Order) -> bool:
        """Return whether a repeated order may continue: with its own payment, or without one.

        A failed order never signs a second payment: when its first is over, it has failed for good.
        """
        payment = await self._open_payment(order)
        if payment is None:
            if order.error is not None:
                await run_io(self._finish, order, OrderState.FAILED, error=order.error)
            return order.error is None
        if order.error is None or payment.state is State.SETTLED or time.time() < accepted_until(payment):
            return True
        await self._studios.reconcile_member(order.member_id)
        payment = await self._open_payment(order)
        if payment is None:
            await run_io(self._finish, order, OrderState.FAILED, error=order.error)
        elif payment.state is not State.SETTLED:
            wait = max(_FIRST_RETRY, expires_at(payment) - time.time())
            error = order.error
            await run_io(self._rows.postpone, order.id, error, min(wait, _MAX_RETRY), None, None)
        return payment is not None and payment.state is State.SETTLED

    async def _open_payment(self, order: Order) -> Payment | None:
        _, payments = await run_io(self._studios.payments, order.member_id, order.digest, order.take)
        return next((payment for payment in reversed(payments) if payment.state is not State.RELEASED), None)

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
        work.ended = await run_io(
            self._finish,
            *(order, OrderState.DONE, images),
            purchase_id=receipt.purchase_id,
            price=receipt.amount,
            pays=True,
        )

    async def _make(self, work: Work, order: Order) -> ImageResult:
        """Return the images; repeats a failed request for the price."""
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
    ) -> Order | None:
        return self._rows.finish(
            order.id, state, images=images, error=error, purchase_id=purchase_id, price=price, pays=pays
        )

    async def _failed(self, work: Work, order: Order, error: BlockrunError) -> None:
        """Record the failure of an order; the ledger decides whether money may have moved."""
        price = work.progress.price
        purchase_id, payments = await run_io(self._studios.payments, order.member_id, order.digest, order.take)
        sent = [payment for payment in payments if payment.state in _SENT]
        refusal = refusal_of(error, price)
        if sent and not (_all_settled(sent) and order.tries >= _MAX_TRIES):
            wait = min(_MAX_RETRY, _FIRST_RETRY * 2.0 ** min(order.tries, 10))
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

    async def settle_cancel(self, order: Order) -> None:
        """End an order as cancelled unless a payment of it was sent; then the order continues."""
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

    def shared_images(self, order: Order) -> list[OrderImage]:
        """Return the images that a teacher has bought for the same request, or none."""
        shared = self._rows.shared(order.realm, order.digest, order.take)
        images = [] if shared is None or shared.member_id == order.member_id else self._rows.images(shared.id)
        return images if all(self._studios.store.has(image.file, image.media_type) for image in images) else []


_SENT = (State.SUBMITTED, State.POLLING, State.UNKNOWN, State.SETTLED)


def _all_settled(payments: Sequence[Payment]) -> bool:
    return all(payment.state is State.SETTLED for payment in payments)
