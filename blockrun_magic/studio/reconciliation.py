"""Reconciliation: the fate of payments that are open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blockrun_magic.errors import LedgerError
from blockrun_magic.gateway.chain.status import is_authorization_used, is_expired_unused
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import PRESETS, Gateway
from blockrun_magic.payments.ledger.clawrouter_log import Comparison, ProxyPayment, compare, read_usage
from blockrun_magic.payments.ledger.cost_log import append_settled
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import AT_RISK, State
from blockrun_magic.payments.money import format_usd
from blockrun_magic.studio.locks import PurchaseLocks

__all__ = ["Reconciler", "accepted_until", "expires_at", "reconcile_payment"]


_CLOCK_SKEW = 60
"""Seconds after `validBefore` until an authorization counts as expired: clocks differ."""


_ACCEPTANCE_MARGIN = 8
"""Seconds before `validBefore` when a verifier begins to refuse a signature (it wants six)."""


async def reconcile_payment(
    client: Client, ledger: Ledger, gateway: Gateway, payment: Payment, now: float
) -> bool | None:
    """Return whether `payment` was cashed, or None when nobody can say; settle or release it accordingly.

    It is released only when a witness says both that it was not cashed and that its time is over. That
    a gateway refused it, or that it looks expired by our own clock, proves nothing.
    """
    if payment.state not in (State.SUBMITTED, State.POLLING, State.UNKNOWN):
        return {State.SETTLED: True, State.RELEASED: False}.get(payment.state)
    used, transaction = await is_authorization_used(client, gateway, payment)
    if used:
        ledger.settle(payment.id, transaction, "found when looked up")
    elif used is False and now >= expires_at(payment) and await is_expired_unused(client, gateway, payment):
        ledger.release(payment.id, "expired unused")
    return used


def accepted_until(payment: Payment) -> float:
    """Return the Unix time until which a gateway still takes this signature."""
    return (payment.valid_before or 0) - _ACCEPTANCE_MARGIN


def expires_at(payment: Payment) -> float:
    """Return the Unix time from which, unless our clock is wrong, this signature cannot be cashed any more."""
    return (payment.valid_before or 0) + _CLOCK_SKEW


_PROXY = PRESETS["clawrouter"].name


_HOUR = 3600.0


_DECIDED = (State.SETTLED, State.RELEASED)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """The ledger, and everybody who may know better; `logs` is the folder of ClawRouter's usage logs."""

    client: Client
    ledger: Ledger
    claims: PurchaseLocks
    clock: Callable[[], float]
    logs: Path | None

    async def reconcile(self, gateway: Gateway) -> int:
        """Ask what became of every open payment in the gateway's realm; return how many were decided."""
        decided = 0
        for payment in self.ledger.open_payments():
            purchase = self.ledger.purchase_by_id(payment.purchase_id)
            if purchase is None or purchase.realm != gateway.realm:
                continue
            async with self.claims.try_acquire(purchase) as free:
                if free:  # else a kernel is at work on it
                    decided += await self._decide(self._again(payment), gateway)
        append_settled(self.ledger)
        return decided

    async def _decide(self, payment: Payment, gateway: Gateway) -> bool:
        """Settle or release an open payment of a purchase whose lock we hold, if anybody knows."""
        if payment.state in (State.RESERVED, State.SIGNED):
            self.ledger.release(payment.id, "never sent")
        elif not payment.prepaid:
            await reconcile_payment(self.client, self.ledger, gateway, payment, self.clock())
        else:
            if payment.state is State.SUBMITTED:
                self.ledger.mark_unknown(payment.id, "its kernel ended before an answer came")
            await self.reconcile_payment(payment)
        return self._again(payment).state in _DECIDED

    async def reconcile_payment(self, payment: Payment) -> None:
        """Settle an open payment through ClawRouter when its log has one line that can only be this payment's.

        An account's charge is told by nobody, and asking for its job would be charged.
        """
        if payment.gateway != _PROXY:
            return
        found = self.compare(payment.created_at - _HOUR)
        for ours, theirs in found.agreed:
            if ours.payment.id == payment.id and self._again(payment).state is State.UNKNOWN:
                self.ledger.settle(payment.id, None, f"ClawRouter's log has it, at {format_usd(theirs.micros)}")

    def compare(self, since: float) -> Comparison:
        """Return our payments through ClawRouter from `since` (Unix seconds) beside the lines of its log."""
        ours = [ProxyPayment(payment, model) for payment, model in self.ledger.payments_via(_PROXY, since)]
        theirs = [] if self.logs is None else read_usage(self.logs, since, self.clock())
        return compare(ours, theirs)

    async def resolve(self, purchase: Purchase, *, charged: bool, amount: int | None = None) -> list[Payment]:
        """Book the user's word on the open prepaid payments of `purchase`; return them as they stand then.

        `amount` is what was charged in micro-USDC, if that is known. Raises LedgerError while a kernel is
        at work on the purchase.
        """
        async with self.claims.try_acquire(purchase) as free:
            if not free:
                raise LedgerError(
                    "This picture is being bought right now.", "Nothing was changed. Wait until its cell has ended."
                )
            open_ = [p for p in self.ledger.payments(purchase.id) if p.prepaid and p.state in AT_RISK]
            for payment in open_:
                if payment.state is State.RESERVED or not charged:
                    self.ledger.release(payment.id, "you said that it was not charged")
                else:
                    self.ledger.settle(payment.id, None, "you said that it was charged", charged=amount)
            append_settled(self.ledger)
            return [self._again(payment) for payment in open_]

    def _again(self, payment: Payment) -> Payment:
        return next(now for now in self.ledger.payments(payment.purchase_id) if now.id == payment.id)
