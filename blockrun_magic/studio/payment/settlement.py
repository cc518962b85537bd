"""What became of the money of a signed payment: booked as soon as it is known, and told truly."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from blockrun_magic.errors import BlockrunError, GatewayError, Money, PaymentOutcomeUnknown
from blockrun_magic.gateway.responses import Response
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.x402.protocol import Settlement, read_settlement
from blockrun_magic.studio.payment.method import PurchaseContext, money_of
from blockrun_magic.studio.reconciliation import expires_at, reconcile_payment

__all__ = ["SettlementTracker"]

_QUICK = 5.0


@dataclass(frozen=True, slots=True)
class SettlementTracker:
    """The books of one signed purchase, and what its errors say of them."""

    deal: PurchaseContext

    def record_settlement(self, payment: Payment, answer: Response) -> None:
        """Book a transaction the moment that any answer names one."""
        self.note_settlement(payment, read_settlement(answer.headers, answer.json(), payment.network))

    def note_settlement(self, payment: Payment, settlement: Settlement) -> None:
        """Book a transaction, unless the gateway says itself that it failed."""
        if settlement.transaction is None or settlement.success is False:
            return
        if self.deal.reload(payment).state is not State.SETTLED:
            self.deal.ledger.settle(payment.id, settlement.transaction)

    async def explain_failure(self, payment: Payment, error: GatewayError, *, refused: bool = False) -> BlockrunError:
        """Return `error` with a second line that says what it did to the money, now on record.

        `refused` says that the gateway turned the payment or the request down. It may have cashed it all
        the same: that is looked up.
        """
        self.deal.mark_unknown(payment, error.message, refused=refused)
        used = await self.look_up_quickly(payment)
        decided = self.deal.reload(payment).state in (State.SETTLED, State.RELEASED)
        expired = self.deal.clock() >= expires_at(payment)
        if decided or (refused and not expired):
            return self.explain(payment, error, used=used)
        if expired:
            return PaymentOutcomeUnknown(
                error.message,
                "See `%blockrun jobs`, or buy another take with --fresh.",
                Money.unknown(payment.amount),
            )
        return PaymentOutcomeUnknown(
            error.message, "Run the cell again to continue with the same payment.", Money.unknown(payment.amount)
        )

    def explain(self, payment: Payment, error: BlockrunError, *, used: bool | None) -> BlockrunError:
        """Return `error` with the fate of `payment`; `used` is what a witness said."""
        now = self.deal.reload(payment)
        if now.state not in (State.SETTLED, State.RELEASED) and used is False:
            return error.with_money(Money.reserved(payment.amount, expires_at(payment)))
        return error.with_money(money_of(now))

    async def look_up_quickly(self, payment: Payment) -> bool | None:
        """Return whether `payment` was cashed, or None when nobody can say within seconds."""
        deal = self.deal
        with suppress(TimeoutError):
            async with asyncio.timeout(_QUICK):
                return await reconcile_payment(
                    deal.client, deal.ledger, deal.gateway, deal.reload(payment), deal.clock()
                )
        return None
