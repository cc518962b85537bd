"""What became of the money of a signed payment: booked as soon as it is known, and told truly."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from blockrun_magic.errors import BlockrunError, GatewayError, PaymentOutcomeUnknown
from blockrun_magic.gateway.responses import Response
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.x402.protocol import Settlement, read_settlement
from blockrun_magic.studio.payment.method import PurchaseContext
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
        amount = format_usd(payment.amount)
        if expired:
            return PaymentOutcomeUnknown(
                f"{error.message} A payment of {amount} for this picture may have been taken, and nobody can say.",
                "It is not paid again by itself. See `%blockrun jobs`; --fresh buys another take.",
            )
        return PaymentOutcomeUnknown(
            f"{error.message} {amount} may have been charged.",
            "Run the cell again: it goes on with the same payment and never makes a second one.",
        )

    def explain(self, payment: Payment, error: BlockrunError, *, used: bool | None) -> BlockrunError:
        """Return `error` with what became of `payment` in its second line; `used` is what a witness said."""
        now = self.deal.reload(payment)
        amount = format_usd(payment.amount)
        if now.state is State.SETTLED:
            shown = f" (transaction {now.transaction})" if now.transaction else ""
            return type(error)(
                error.message,
                f"{amount} was paid{shown}. Running the cell again asks for the picture and pays nothing more;"
                " if that fails too, show the gateway this transaction.",
            )
        if now.state is State.RELEASED or used is False:
            return type(error)(error.message, f"{error.hint} Nothing has been charged.")
        return type(error)(error.message, f"{error.hint} {amount} may have been charged: `%blockrun jobs` looks it up.")

    async def look_up_quickly(self, payment: Payment) -> bool | None:
        """Return whether `payment` was cashed, or None when nobody can say within seconds."""
        deal = self.deal
        with suppress(TimeoutError):
            async with asyncio.timeout(_QUICK):
                return await reconcile_payment(
                    deal.client, deal.ledger, deal.gateway, deal.reload(payment), deal.clock()
                )
        return None
