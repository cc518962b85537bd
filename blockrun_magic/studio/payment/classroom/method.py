"""Payment by a classroom: an order under a key that the ledger records before the order leaves.

Every repetition carries the same key, so that lost answers and killed kernels never make a second payment. Stop cancels
an order that is not signed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from blockrun_magic.errors import BlockrunError, GatewayError, InvalidResponse, JobFailed, Money, PaymentOutcomeUnknown
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.classroom.account import ClassroomAccount
from blockrun_magic.gateway.classroom.protocol import Order, OrderState, read_order
from blockrun_magic.gateway.classroom.refusals import refusal
from blockrun_magic.gateway.responses import CompletedJob
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.studio.payment.classroom.following import OrderFollower
from blockrun_magic.studio.payment.classroom.orders import OrderCalls, record_order
from blockrun_magic.studio.payment.method import PurchaseContext, money_of
from blockrun_magic.studio.payment.pricing import Price, classroom_price
from blockrun_magic.threads import run_io

__all__ = ["ClassroomMethod"]


@dataclass(slots=True)
class ClassroomMethod:
    """The `PaymentMethod` of a classroom."""

    context: PurchaseContext
    account: ClassroomAccount
    calls: OrderCalls = field(init=False)
    _found: Response | None = field(init=False, default=None)
    """The answer about an order of an earlier run, until it is read."""

    def __post_init__(self) -> None:
        self.calls = OrderCalls(self.account, self.context.gateway)

    async def open_payment(self) -> Payment | None:
        """Return the payment to continue with, or None when a new one may be made.

        The order of an earlier run is checked first; if it ended without a charge, its payment is released.
        """
        context = self.context
        payment = await run_io(context.ledger.open_payment, context.purchase.id)
        if payment is not None and payment.state is State.RESERVED:  # its kernel has ended, because we hold the lock
            await run_io(context.ledger.release, payment.id, "never sent")
            payment = await run_io(context.ledger.open_payment, context.purchase.id)
        if payment is None or payment.state is State.SETTLED:
            return payment
        if payment.nonce is None or payment.payer != context.gateway.base_url:
            _refuse_elsewhere(payment)
        context.progress.stage = "checking the last order"
        try:
            answer = await self.calls.get(payment.nonce, wait=0)
        except BlockrunError as error:
            raise error.with_money(money_of(payment)) from None
        order = read_order(answer, payment.nonce)
        if order is None:
            return payment
        self._found = answer
        payment = await run_io(record_order, context.ledger, payment, order)
        return None if payment.state is State.RELEASED else payment

    async def price(self) -> Price:
        """Return the class's price for the request; raises BlockrunError."""
        self.context.progress.stage = "asking the price"
        try:
            return await classroom_price(self.account, self.context.gateway, self.context.request, ahead=True)
        except BlockrunError as error:
            raise error.with_money(Money.nothing_sent()) from None

    async def authorize(
        self, offer: Price, hold: int | None = None, check: Callable[[], None] = lambda: None
    ) -> Payment:
        """Return a payment of `offer`: reserved under the key of a new order, which has not left."""
        context = self.context
        await run_io(check)
        return await run_io(
            context.ledger.reserve,
            context.purchase,
            offer.amount,
            hold,
            prepaid=True,
            payer=context.gateway.base_url,
            order=secrets.token_hex(16),
        )

    async def submit(self, payment: Payment) -> tuple[Payment, CompletedJob]:
        """Order under the key of `payment`, for the first time or again; return the answer with the images."""
        context = self.context
        context.progress.price = payment.amount
        answer, self._found = self._found, None
        if payment.state is State.SETTLED:
            if payment.nonce is None or payment.payer != context.gateway.base_url:
                _refuse_elsewhere(payment)
            answer = answer or await self._collect(payment)
        else:
            follower = OrderFollower(context, self.calls)
            async with follower.its_turn(payment):
                answer = await follower.follow(payment, answer)
        order = read_order(answer, payment.nonce)
        payment = await run_io(context.ledger.payment, payment.id)
        if order is None or order.state is not OrderState.DONE:
            raise self._explained(payment, answer, order)
        items = await run_io(answer.images, context.request.n)
        if not any(item.has_image for item in items):
            raise InvalidResponse(
                "The classroom's answer has no image.", "Run the cell again to collect it.", money_of(payment)
            )
        return payment, CompletedJob(tuple(items))

    async def confirm(self, payment: Payment) -> Payment:
        """Return the payment, which its order has decided already."""
        return payment

    async def _collect(self, payment: Payment) -> Response:
        """Return the answer about a paid order whose images are needed again."""
        try:
            return await self.calls.get(str(payment.nonce))
        except GatewayError as error:
            raise error.with_money(money_of(payment)) from None

    def _explained(self, payment: Payment, answer: Response, order: Order | None) -> BlockrunError:
        """Return the error of an order that brought no image."""
        error = refusal(answer)
        self.account.forget_price(self.context.request)
        if payment.state is State.SETTLED and order is not None and order.state.ended:
            hint = "Buy another take with --fresh, or ask your teacher."
            return JobFailed(error.message, hint, money_of(payment))
        return error.with_money(money_of(payment))


def _refuse_elsewhere(payment: Payment) -> NoReturn:
    raise PaymentOutcomeUnknown(
        "This image was ordered at another classroom.",
        f"Join that one again, buy another take here with --fresh, or record the outcome with"
        f" `%blockrun resolve {payment.purchase_id} --charged` or `--not-charged`.",
        money_of(payment),
    )
