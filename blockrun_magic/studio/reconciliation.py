"""Reconciliation: the fate of payments that are open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blockrun_magic.errors import BlockrunError, LedgerError
from blockrun_magic.gateway.chain.account import account_usage
from blockrun_magic.gateway.chain.status import is_authorization_used, is_expired_unused
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import PRESETS, Gateway, gateway_named
from blockrun_magic.payments.ledger.clawrouter_log import Comparison, LogEntry, ProxyPayment, compare, read_usage
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
_ACCOUNT = PRESETS["account"].name


_HOUR = 3600.0


_DECIDED = (State.SETTLED, State.RELEASED)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """The ledger, and the witnesses of its payments.

    `logs` is the folder of ClawRouter's usage logs; `headers_for` gives the headers that an account wants for its
    usage, and raises WalletError.
    """

    client: Client
    ledger: Ledger
    claims: PurchaseLocks
    clock: Callable[[], float]
    logs: Path | None
    headers_for: Callable[[Gateway], Mapping[str, str]]

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
            await self.reconcile_payment(payment, gateway)
        return self._again(payment).state in _DECIDED

    async def reconcile_payment(self, payment: Payment, gateway: Gateway) -> None:
        """Decide an unknown payment that somebody else made, if ClawRouter's log or the account's usage can.

        A line of either counts if it can only be this payment's. An account that lists every request of that time,
        but not this one, did not charge for it.
        """
        if self._again(payment).state is not State.UNKNOWN:
            return
        if payment.gateway == _PROXY:
            entry = _line_of(payment, self.compare(payment.created_at - _HOUR))
            if entry is not None:
                self.ledger.settle(payment.id, None, f"ClawRouter's log has it, at {format_usd(entry.micros)}")
        elif payment.gateway == _ACCOUNT:
            await self._ask_account(payment, gateway if gateway.name == _ACCOUNT else gateway_named(_ACCOUNT))

    async def _ask_account(self, payment: Payment, account: Gateway) -> None:
        try:
            headers = self.headers_for(account)
        except BlockrunError:  # no key: nobody to ask
            return
        since, now = payment.created_at - _HOUR, self.clock()
        usage = await account_usage(self.client, account, headers, since, min(now, payment.created_at + _HOUR))
        if usage is None:
            return
        ours = [ProxyPayment(other, model) for other, model, _ in self.ledger.payments_via(_ACCOUNT, since)]
        theirs = [LogEntry(charge.at, charge.model, charge.micros) for charge in usage.charges]
        entry = _line_of(payment, compare(ours, theirs))
        charge = None if entry is None else usage.charges[theirs.index(entry)]
        listed = any(mine.fits(line) for mine in ours if mine.payment.id == payment.id for line in theirs)
        if charge is not None and charge.decided and charge.micros:
            self.ledger.settle(payment.id, None, "the account's usage has it", charged=charge.micros)
        elif charge is not None and charge.decided:
            self.ledger.release(payment.id, "the account's usage has it, free of charge")
        elif not listed and usage.complete and now >= payment.created_at + _HOUR:
            self.ledger.release(payment.id, "not in the account's usage")

    def compare(self, since: float) -> Comparison:
        """Return our payments through ClawRouter from `since` (Unix seconds) beside the lines of its log."""
        ours = [ProxyPayment(*row) for row in self.ledger.payments_via(_PROXY, since)]
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


def _line_of(payment: Payment, comparison: Comparison) -> LogEntry | None:
    """Return the line that can only be `payment`'s, or None."""
    return next((theirs for ours, theirs in comparison.agreed if ours.payment.id == payment.id), None)
