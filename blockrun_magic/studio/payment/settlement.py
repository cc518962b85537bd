"""Settlement of signed payments: claims of the gateway are recorded, and witnesses are asked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from blockrun_magic.errors import BlockrunError, GatewayError, LedgerError, PaymentOutcomeUnknown
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.x402.protocol import Settlement, read_settlement
from blockrun_magic.studio.payment.method import PurchaseContext, money_of
from blockrun_magic.studio.reconciliation import expires_at, reconcile_payment
from blockrun_magic.threads import run_io, run_within

__all__ = ["SettlementTracker"]

_QUICK = 5.0
_BLOCK = 1.0
"""Seconds between questions while the transaction that the gateway names is not on the chain yet."""


@dataclass(frozen=True, slots=True)
class SettlementTracker:
    """Tracker of one purchase's payments, which also adds their fate to errors."""

    context: PurchaseContext
    latest: dict[int, Payment] = field(default_factory=dict)
    """Payments by id, in their state after the last response."""

    def record_claim(self, payment: Payment, answer: Response) -> None:
        """Record a transaction as soon as an answer names one."""
        self.note_claim(payment, read_settlement(answer.headers, answer.json(), payment.network))

    def note_claim(self, payment: Payment, settlement: Settlement) -> None:
        """Record the transaction that the gateway names, unless the gateway reports it as failed."""
        claims = settlement.transaction is not None and settlement.success is not False
        ledger = self.context.ledger
        self.latest[payment.id] = (
            ledger.claim(payment.id, settlement.transaction or "") if claims else ledger.payment(payment.id)
        )

    async def explain_failure(self, payment: Payment, error: GatewayError, *, refused: bool = False) -> BlockrunError:
        """Record the fate of the money, and return `error` with it.

        `refused`: the gateway refused the payment or the request. It may have cashed the payment anyway.
        """
        payment = await run_io(self.context.mark_unknown, payment, error.message, refused=refused)
        payment, used = await self.look_up_quickly(payment)
        expired = self.context.clock() >= expires_at(payment)
        if payment.decided or (refused and not expired):
            return self.explain(payment, error, used=used)
        hint = "Run the cell again to continue with the same payment; `%blockrun jobs` shows it."
        return self.explain(payment, PaymentOutcomeUnknown(error.message, hint), used=used)

    def explain(self, payment: Payment, error: BlockrunError, *, used: bool | None) -> BlockrunError:
        """Return `error` with the fate of `payment`; `used` is the latest answer of a witness."""
        until = expires_at(payment) if used is False and self.context.clock() < expires_at(payment) else None
        return error.with_money(money_of(payment, unused_until=until))

    async def look_up_quickly(self, payment: Payment) -> tuple[Payment, bool | None]:
        """Ask the witness of `payment` for a few seconds; return the payment, and whether it was cashed, if known."""
        return await self._look_up(await run_io(self.context.ledger.payment, payment.id))

    async def _look_up(self, payment: Payment) -> tuple[Payment, bool | None]:
        """Do the same for a payment that was read just now."""
        context = self.context
        with suppress(TimeoutError):
            asking = reconcile_payment(context.client, context.ledger, context.gateway, payment, durable=False)
            return await run_within(_QUICK, asking)
        return await run_io(context.ledger.payment, payment.id), None

    async def confirm(self, payment: Payment) -> Payment:
        """Ask the witness of a payment, again while the gateway's transaction is not on the chain; return the payment.

        `payment` was read just now. An error of the ledger here does not lose the image: the payment stays at risk
        until it is asked about again.
        """
        with suppress(TimeoutError, LedgerError):
            return await run_within(_QUICK, self._look_up_repeatedly(payment))
        with suppress(LedgerError):
            return await run_io(self.context.ledger.payment, payment.id)
        return payment

    async def _look_up_repeatedly(self, payment: Payment) -> Payment:
        while True:
            payment, used = await self._look_up(payment)
            if payment.decided or used is not False or payment.transaction is None:
                return payment
            await asyncio.sleep(_BLOCK)
