"""Slow jobs paid for with a signature, polled with the same payment until they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from blockrun_magic.errors import BlockrunError, UpstreamFailed
from blockrun_magic.gateway.responses import CompletedJob, Response
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.studio.payment.method import PurchaseContext
from blockrun_magic.studio.payment.sender import Sender, header_of
from blockrun_magic.studio.payment.settlement import SettlementTracker
from blockrun_magic.studio.payment.unasked import AnsweredUnasked
from blockrun_magic.studio.reconciliation import accepted_until, resolve_expired
from blockrun_magic.threads import run_io

__all__ = ["X402Job"]

_PROOF_REFUSED = frozenset({401, 402, 403, 404})


@dataclass(frozen=True, slots=True)
class X402Job:
    """Poller of one purchase's job; `authorize_again` signs a new payment once a witness has released the last one."""

    context: PurchaseContext
    tracker: SettlementTracker
    sender: Sender
    authorize_again: Callable[[Payment, str], Awaitable[Payment]]
    prove_poll: Callable[[str, int], Awaitable[SecretHeaders]]
    """Returns headers that prove a poll without a payment, which only gateways on Solana accept."""

    async def poll(self, payment: Payment, address: str) -> tuple[Payment, CompletedJob]:
        """Return the answer of the finished job at `address`, and the payment that bought it."""
        context = self.context
        payment = await run_io(self._begin, payment, address)
        now, wait = asyncio.get_running_loop().time, 0.0
        end = now() + context.retry.job
        while now() < end:
            await asyncio.sleep(wait)
            payment = await self._valid_payment(payment, address)
            answer = await self.sender.send(payment, partial(self._ask, payment, address))
            job = await self.sender.read(payment, answer)
            if isinstance(job, CompletedJob):
                return payment, job
            context.progress.stage = job.status.replace("_", " ")
            wait = max(answer.retry_after or 0.0, context.retry.next_poll(wait))
        error = UpstreamFailed(
            f"The image is not ready after {context.retry.job / 60:.0f} minutes.",
            "Run the cell again, or `%blockrun resume`, to continue waiting.",
        )
        payment, used = await self.tracker.look_up_quickly(payment)
        raise self.tracker.explain(payment, error, used=used)

    async def _ask(self, payment: Payment, address: str) -> Response:
        """Poll once, proved by a signature of the job if possible, otherwise by the payment; return the response."""
        proof = await self.prove_poll(address, int(self.context.clock()))
        if proof:
            answer = await self.context.ask(address, proof)
            if answer.status not in _PROOF_REFUSED:
                return answer
        return await self.context.ask(address, header_of(payment.payload))

    def _begin(self, payment: Payment, address: str) -> Payment:
        context = self.context
        payment = context.ledger.payment(payment.id)
        if payment.state is State.SIGNED:
            payment = context.ledger.submit(payment.id)
        if not payment.decided:
            payment = context.ledger.poll(payment.id, context.purchase.id, address)
        context.progress.sent = True
        context.progress.stage = "queued"
        return payment

    async def _valid_payment(self, payment: Payment, address: str) -> Payment:
        """Return the payment to poll with.

        A job may outlive its authorization. Another one is signed only after a witness has said that the first one was
        not cashed and can no longer be; until then the first one is used. On Solana the order is already charged, and
        no other payment is signed for its job (gateway protocol, section 9).
        """
        context = self.context
        payment = await run_io(context.ledger.payment, payment.id)  # it may have been settled in the meantime
        if payment.state is State.SETTLED or context.gateway.on_solana or context.clock() < accepted_until(payment):
            return payment
        payment = await resolve_expired(context.client, context.ledger, context.gateway, payment, context.clock)
        if payment.state is not State.RELEASED:
            return payment
        try:
            fresh = await self.authorize_again(payment, address)
        except AnsweredUnasked:
            raise  # another payment has replaced it
        except BlockrunError as error:
            raise self.tracker.explain(payment, error, used=None) from None
        await run_io(context.ledger.submit, fresh.id)
        return await run_io(context.ledger.poll, fresh.id, context.purchase.id, address)
