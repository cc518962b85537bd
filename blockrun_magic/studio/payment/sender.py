"""Sender of a payment: each attempt has the same header, and claims in responses are recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from blockrun_magic.errors import GatewayError, GatewayUnreachable, InvalidResponse, JobFailed, RateLimited
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.responses import (
    CompletedJob,
    PendingJob,
    error_from_response,
    is_replay,
    is_transient,
    read_answer,
)
from blockrun_magic.payments.ledger.records import Payload, Payment
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.x402.protocol import read_settlement
from blockrun_magic.studio.payment.method import PurchaseContext
from blockrun_magic.studio.payment.settlement import SettlementTracker
from blockrun_magic.studio.reconciliation import accepted_until
from blockrun_magic.threads import run_cpu, run_io

__all__ = ["ACCEPTED", "GONE", "Sender", "header_of"]

ACCEPTED = 202
TOO_MANY_REQUESTS = 429
GONE = frozenset({404, 410})
_LARGE = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sender:
    """Sender of one purchase's payment, which counts as sent from the first attempt on."""

    context: PurchaseContext
    tracker: SettlementTracker

    async def send(self, payment: Payment, ask: Callable[[], Awaitable[Response]]) -> Response:
        """Return the first response of `ask` that is not a transient error; raises the last error."""
        context = self.context
        stage = context.progress.stage
        for attempt in range(context.retry.attempts):
            wait = context.retry.wait(attempt)
            try:
                answer = await ask()
            except GatewayUnreachable as error:
                await run_io(self.tracker.note_claim, payment, read_settlement(error.headers, None, payment.network))
                fault: GatewayError = error
            except GatewayError as error:
                # A response that is too large was not read to its end, but the header was sent.
                raise await self.tracker.explain_failure(payment, error) from error
            else:
                if is_transient(answer):
                    wait = answer.retry_after or wait
                self._tell_gate(answer, wait)  # before anything waits for the disk: more requests are about to leave
                await run_io(self.tracker.record_claim, payment, answer)
                if not is_transient(answer):
                    return answer
                fault = error_from_response(answer, context.gateway)
            if attempt + 1 == context.retry.attempts or context.clock() + wait >= accepted_until(payment):
                break
            await context.progress.pause(fault.message, wait, stage)
            if isinstance(fault, RateLimited):
                context.entry = await context.gate.enter()
                await context.gate.leave(context.entry)
        raise await self.tracker.explain_failure(payment, fault) from fault

    def _tell_gate(self, answer: Response, wait: float) -> None:
        """Let the gate close after a refusal, or let the others follow after the first that is accepted."""
        if not is_transient(answer):
            self.context.gate.taken(self.context.entry)
        elif answer.status == TOO_MANY_REQUESTS:
            self.context.gate.refused(wait, self.context.entry)

    async def read(self, payment: Payment, answer: Response) -> CompletedJob | PendingJob:
        """Return the content of a final response; raises its error, with the fate of the money."""
        try:
            if answer.status not in (200, ACCEPTED):
                raise error_from_response(answer, self.context.gateway)
            # msgspec reads a megabyte in less than a millisecond; longer work runs in a thread.
            return read_answer(answer) if len(answer.body) < _LARGE else await run_cpu(read_answer, answer)
        except GatewayError as error:
            refused = not isinstance(error, InvalidResponse) and not is_replay(answer)
            explained = await self.tracker.explain_failure(payment, error, refused=refused)
            if isinstance(error, JobFailed) or answer.status in GONE:
                # Recorded last: a payment in the state `polling` without a job could not continue.
                await run_io(self.context.ledger.forget_job, self.context.purchase.id)
            raise explained from error


def header_of(payload: Payload | None) -> SecretHeaders:
    """Return the header that carries `payload`; empty if it was deleted."""
    if payload is None or payload.header_value is None:
        return SecretHeaders()
    return SecretHeaders({payload.header_name: payload.header_value})
