"""Following of an order: it is repeated with one key, at growing intervals, until it ends or is cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from blockrun_magic.errors import (
    BlockrunError,
    GatewayError,
    GatewayUnreachable,
    Money,
    PaymentOutcomeUnknown,
    UpstreamFailed,
    WalletError,
)
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.classroom.account import BUSY, spread
from blockrun_magic.gateway.classroom.protocol import Order, OrderState, read_order
from blockrun_magic.gateway.classroom.refusals import code_of, refusal
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State, Witness
from blockrun_magic.studio.payment.classroom.orders import ORDERS, OrderCalls, record_order
from blockrun_magic.studio.payment.method import PurchaseContext, money_of
from blockrun_magic.threads import run_io

__all__ = ["OrderFollower"]

_SOON = 1.0
"""Seconds between questions about an order if the service answers at once."""
_LONG_POLL = 5.0
_AGAIN = "Run the cell again to continue with the same order; `%blockrun jobs` shows it."
_LATER = frozenset({"rate", "busy", "stopping"})
"""Codes of a working service that asks for a later repetition."""
_FINAL = frozenset({"content_policy", "rejected"})
"""Codes of an order that will never bring an image."""
_UNKNOWN_PATIENCE = 60.0
"""Seconds that a cell waits while the class does not know the outcome of its own payment."""
_STAGES = {
    OrderState.QUEUED: "waiting in the queue of the class",
    OrderState.WORKING: "waiting for the image",
    OrderState.UNKNOWN: "waiting: the class checks its payment",
}


class _Stopped(Exception):
    """Stop was pressed while the cell waited for the order."""


@dataclass(slots=True)
class OrderFollower:
    """Follows one order of a purchase whose lock we hold."""

    context: PurchaseContext
    calls: OrderCalls
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _uncertain: bool = True
    """Whether an order may have been sent that no answer has confirmed."""
    _put: bool = False
    """Whether the next request sends the order; otherwise it only asks."""
    _failures: int = 0
    _started: float = 0.0
    _unknown_since: float | None = None

    @asynccontextmanager
    async def its_turn(self, payment: Payment) -> AsyncIterator[None]:
        """Hold one of the kernel's few slots; a payment that is stopped before that is released."""
        self.context.progress.stage = "waiting for its turn"
        turn = self.calls.account.turn
        try:
            await turn.acquire()
        except asyncio.CancelledError:
            if payment.state is State.RESERVED:
                await run_io(self.context.ledger.release, payment.id, "never sent")
            raise
        try:
            yield
        finally:
            turn.release()

    async def follow(self, payment: Payment, last_answer: Response | None) -> Response:
        """Return the answer of the order under the key of `payment`, once it has ended, or of its refusal.

        `last_answer` is its answer, if there is one already. The ledger records the effect of the answer on the money.
        Raises BlockrunError with the fate of the money if no such answer came, and CancelledError if Stop cancelled it.
        """
        context = self.context
        self._started = context.clock()
        self._put = payment.state is State.RESERVED
        self._uncertain = not self._put
        payment = await self._begin(payment)
        context.progress.stop = self._stop.set
        try:
            answer = last_answer
            while answer is None or not await self._is_over(payment, answer):
                answer = await self._next(payment)
        finally:
            context.progress.stop = None
        return answer

    async def _begin(self, payment: Payment) -> Payment:
        """Record that the order may leave from now on, before it does."""
        context = self.context
        payment = await run_io(context.ledger.payment, payment.id)
        if payment.state is State.RESERVED:
            payment = await context.mark_sent(payment)
        elif not payment.decided:
            payment = await run_io(context.ledger.poll, payment.id, context.purchase.id, f"{ORDERS}/{payment.nonce}")
        context.progress.sent = True
        context.progress.stage = "waiting for the image"
        return payment

    async def _next(self, payment: Payment) -> Response | None:
        """Ask once more; return the answer, or None without one. Raises BlockrunError after too many failures."""
        context, key = self.context, str(payment.nonce)
        put, began = self._put, time.monotonic()
        if self._stop.is_set():
            await self._cancel(payment)
            return None
        asking = (
            self.calls.put(key, context.request, context.purchase.take, payment.amount) if put else self.calls.get(key)
        )
        try:
            answer = await self._unless_stopped(asking)
        except _Stopped:
            self._uncertain |= put
            await self._cancel(payment)
            return None
        except GatewayUnreachable as error:
            self._uncertain |= put and error.sent
            await self._failed(payment, error, None)
            return None
        except BlockrunError as error:
            self._uncertain |= put and isinstance(error, GatewayError)
            raise await self._at_risk(payment, error) from error
        order = read_order(answer, key)
        if order is not None and not order.state.ended and time.monotonic() - began < _LONG_POLL:
            await self._pause(answer.retry_after or _SOON)
        return answer

    async def _is_over(self, payment: Payment, answer: Response) -> bool:
        """Record an answer; return whether the order has ended or was refused."""
        context = self.context
        order = read_order(answer, payment.nonce)
        if order is not None:
            if self._put:
                context.gate.taken(context.entry)
            self._put, self._failures = False, 0
            await run_io(self._note, payment, order)
            if not order.state.ended:
                await self._check_patience(payment, order, answer)
            return order.state.ended
        code = code_of(answer)
        if code == "unknown_order" and not self._put:
            self._put = True  # it never arrived, or not yet: the key makes it the same order
            return False
        if answer.status == 422 and code == "other_body":
            self._put = False
            return False
        if answer.status in BUSY and code in _LATER:
            await self._busy(payment, answer)
            return False
        if not code or answer.status in BUSY or answer.status >= 500:
            self._uncertain |= self._put and not (code and answer.status in BUSY)
            await self._failed(payment, refusal(answer), answer.retry_after)
            return False
        return await self._refused(payment, answer)

    async def _check_patience(self, payment: Payment, order: Order, answer: Response) -> None:
        """Raise the error of an order that cannot end now: its gateway's refusal is undecided, or time is up."""
        context, now = self.context, self.context.clock()
        if order.state is not OrderState.UNKNOWN:
            self._unknown_since = None
        elif code_of(answer) in _FINAL:
            await run_io(context.mark_unknown, payment, refusal(answer).message, refused=True)
            raise refusal(answer).with_money(money_of(await run_io(context.ledger.payment, payment.id)))
        else:
            self._unknown_since = self._unknown_since or now
            if now - self._unknown_since > _UNKNOWN_PATIENCE:
                raise await self._at_risk(payment, refusal(answer))
        if now - self._started > context.retry.job:
            late = UpstreamFailed(f"The image is not ready after {context.retry.job / 60:.0f} minutes.", _AGAIN)
            raise await self._at_risk(payment, late)

    def _note(self, payment: Payment, order: Order) -> None:
        context = self.context
        if not context.progress.sent:
            context.progress.sent = True
        context.progress.stage = _STAGES.get(order.state, context.progress.stage)
        payment = record_order(context.ledger, payment, order)
        if not payment.decided and not order.state.ended and payment.state is not State.POLLING:
            context.ledger.poll(payment.id, context.purchase.id, f"{ORDERS}/{order.key}")

    async def _busy(self, payment: Payment, answer: Response) -> None:
        """Wait as the service asks: it has recorded nothing, and the key stays valid."""
        context, wait = self.context, spread(answer.retry_after or _SOON)
        error = refusal(answer)
        if answer.status == 429:
            context.gate.refused(wait, context.entry)
        if context.clock() - self._started + wait > context.retry.job:
            raise await self._at_risk(payment, error)
        context.progress.stage = f"{error.message} Trying again in {wait:.0f} s."
        await self._pause(wait)

    async def _failed(self, payment: Payment, error: BlockrunError, wait: float | None) -> None:
        """Wait before the next attempt; raises `error` after the last."""
        context = self.context
        self._put = self._put and not self._uncertain  # asking is cheaper than sending the images again
        self._failures += 1
        if self._failures >= context.retry.attempts:
            raise await self._at_risk(payment, error) from error
        wait = wait or context.retry.wait(self._failures - 1)
        context.progress.stage = f"{error.message} Trying again in {wait:.0f} s."
        await self._pause(wait)
        context.progress.stage = "waiting for the image"

    async def _refused(self, payment: Payment, answer: Response) -> bool:
        """Release the payment of a refused order, and return True; a possibly accepted one is cancelled first."""
        if self._uncertain and not await self._is_cancelled(payment):
            raise await self._at_risk(payment, refusal(answer))
        payment = await run_io(self.context.ledger.payment, payment.id)
        if not payment.decided:
            note = f"refused: {code_of(answer)}"
            await run_io(self.context.ledger.release, payment.id, note, witness=Witness.CLASSROOM)
        self.context.progress.sent = False
        return True

    async def _at_risk(self, payment: Payment, error: BlockrunError) -> BlockrunError:
        """Return `error` with the fate of the money: nothing, if the order cannot have arrived."""
        context = self.context
        if not self._uncertain:
            released = await run_io(context.ledger.payment, payment.id)
            if not released.decided:
                await run_io(context.ledger.release, payment.id, error.message, witness=Witness.CLASSROOM)
            context.progress.sent = False
            return error.with_money(Money.nothing_sent())
        payment = await run_io(context.mark_unknown, payment, error.message)
        if payment.decided or isinstance(error, WalletError):
            return error.with_money(money_of(payment))
        return PaymentOutcomeUnknown(error.message, _AGAIN, money_of(payment))

    # -- Stop

    async def _unless_stopped(self, asking: Awaitable[Response]) -> Response:
        task = asyncio.ensure_future(asking)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _Stopped
            return task.result()
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _cancel(self, payment: Payment) -> None:
        """Cancel the order; raises CancelledError if that was in time, otherwise the order continues to its end."""
        self._stop.clear()
        self.context.progress.sent = False  # for the sentence about Stop: the outcome is unknown yet
        if await self._is_cancelled(payment):
            self.context.progress.cancelled = True
            raise asyncio.CancelledError
        self.context.progress.sent = True
        self._put = False

    async def _is_cancelled(self, payment: Payment) -> bool:
        """Cancel the order under the key of `payment`; return whether it certainly was not and will not be paid."""
        try:
            order = await self.calls.cancel(str(payment.nonce))
        except BlockrunError:
            return False
        if order is None:
            return False
        self._uncertain = True
        return (await run_io(record_order, self.context.ledger, payment, order)).state is State.RELEASED
