"""Reconciliation: open payments are settled or released as their witnesses say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError, LedgerError
from blockrun_magic.gateway.chain.account import account_usage
from blockrun_magic.gateway.chain.evm import Transfer, outgoing_transfers
from blockrun_magic.gateway.chain.status import find_payment, is_expired_unused
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import CLASSROOM, PRESETS, Gateway, gateway_named
from blockrun_magic.payments.cost_log import append_settled
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.limits import is_credible
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import AT_RISK, State, Witness
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.x402.networks import NETWORKS, PRACTICE
from blockrun_magic.studio.clawrouter_log import Comparison, LogEntry, ProxyPayment, compare, read_usage
from blockrun_magic.studio.takes.locks import PurchaseLocks
from blockrun_magic.threads import run_io

if TYPE_CHECKING:
    from blockrun_magic.gateway.classroom.account import ClassroomAccount

__all__ = ["Reconciler", "accepted_until", "expires_at", "reconcile_payment", "resolve_expired"]

_CLOCK_SKEW = 60
"""Seconds after `validBefore` before the witness is asked whether an authorization has expired: clocks differ."""
_ACCEPTANCE_MARGIN = 8
"""Seconds before `validBefore` when a verifier begins to refuse a signature (it wants six)."""
_LAST_SECONDS = _CLOCK_SKEW + _ACCEPTANCE_MARGIN
"""Seconds that a purchase waits for its payment to expire."""
_PROXY = PRESETS["clawrouter"].name
_ACCOUNT = PRESETS["account"].name
_HOUR = 3600.0
_LOOK_UPS = 4
"""Number of payments that are checked at the same time."""
_SLOWEST_IMAGE, _MAX_SIGNATURE = 900.0, 3600.0
"""Seconds within which a request through ClawRouter can be charged."""


async def reconcile_payment(
    client: Client, ledger: Ledger, gateway: Gateway, payment: Payment, *, durable: bool = True
) -> tuple[Payment, bool | None]:
    """Settle or release `payment` by its witness; return it, and whether it was cashed, or None while that is unknown.

    It is released only when a witness says both that it was not cashed and that its time is over by the witness's own
    clock. It is settled when a witness reports the amount that moved. Our clock and the gateway's answers prove
    nothing. Without `durable`, the settlement is on disk with the next durable change of the ledger.
    """
    if not payment.sent:
        return payment, {State.SETTLED: True, State.RELEASED: False}.get(payment.state)
    may_be_over = ledger.clock() >= (payment.valid_before or 0) - _CLOCK_SKEW  # it cannot have expired yet
    witness = Witness.PRACTICE if payment.network == PRACTICE.id else Witness.CHAIN
    if may_be_over and await is_expired_unused(client, gateway, payment):  # one answer decides most old payments
        return await run_io(ledger.release, payment.id, "expired unused", witness=witness), False
    finding = await find_payment(client, gateway, payment)
    if finding.used and finding.amount is not None:
        transaction = finding.transaction or payment.transaction
        note, charged = "confirmed by the witness", finding.amount
        settled = partial(ledger.settle, witness=witness, charged=charged, durable=durable)
        payment = await run_io(settled, payment.id, transaction, note)
    return payment, finding.used


async def resolve_expired(
    client: Client, ledger: Ledger, gateway: Gateway, payment: Payment, clock: Callable[[], float]
) -> Payment:
    """Ask the witness of an expired payment, and return the payment; waits for its last seconds, if it has few."""
    left = expires_at(payment) - clock()
    if 0 < left <= _LAST_SECONDS:
        await asyncio.sleep(left)
    await reconcile_payment(client, ledger, gateway, await run_io(ledger.payment, payment.id))
    return await run_io(ledger.payment, payment.id)


def accepted_until(payment: Payment) -> float:
    """Return the Unix time until which a gateway still accepts this signature."""
    payload = payment.payload
    return ((payload.valid_before if payload else payment.valid_before) or 0) - _ACCEPTANCE_MARGIN


def expires_at(payment: Payment) -> float:
    """Return the Unix time, by our clock, after which none of the payment's payloads can be cashed."""
    return (payment.valid_before or 0) + _CLOCK_SKEW


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Asks the witnesses of open payments.

    `logs` is the folder of ClawRouter's usage logs; `headers_for` returns the headers that an account wants for its
    usage, and raises WalletError.
    """

    client: Client
    ledger: Ledger
    locks: PurchaseLocks
    clock: Callable[[], float]
    logs: Path | None
    headers_for: Callable[[Gateway], Mapping[str, str]]
    classroom: Callable[[], ClassroomAccount] | None = None

    async def adopt_orders(self, gateway: Gateway) -> list[Purchase]:
        """Record a classroom's orders that are missing in the ledger: those of a kernel whose disk was lost."""
        from blockrun_magic.studio.payment.classroom.adoption import adopt_orders  # for classes only

        return [] if self.classroom is None else await adopt_orders(self.classroom(), self.ledger, gateway)

    async def reconcile(self, gateway: Gateway) -> int:
        """Ask about every open payment in the gateway's realm; return how many were decided."""
        turn = asyncio.Semaphore(_LOOK_UPS)

        async def look_up(payment: Payment, purchase: Purchase) -> bool:
            async with turn, self.locks.try_acquire(purchase) as free:  # otherwise, a kernel is working on it
                return free and await self._decide(await run_io(self.ledger.payment, payment.id), gateway)

        opened = await run_io(self._open_payments, gateway.realm)
        decided = await asyncio.gather(*(look_up(payment, purchase) for payment, purchase in opened))
        await run_io(append_settled, self.ledger)
        return sum(decided)

    async def _decide(self, payment: Payment, gateway: Gateway) -> bool:
        """Settle or release an open payment, if its witness decides; we hold the lock of its purchase."""
        if payment.state in (State.RESERVED, State.SIGNED):
            payment = await run_io(self.ledger.release, payment.id, "never sent")
        elif not payment.prepaid:
            payment, _ = await reconcile_payment(self.client, self.ledger, gateway, payment)
        else:
            if payment.state is State.SUBMITTED:
                payment = await run_io(self.ledger.mark_unknown, payment.id, "its kernel ended before an answer came")
            payment = await self.reconcile_prepaid(payment, gateway)
        return payment.decided

    def _open_payments(self, realm: str) -> list[tuple[Payment, Purchase]]:
        """Return the open payments of a realm, oldest first, each with its purchase."""
        payments = [
            (payment, self.ledger.purchase_by_id(payment.purchase_id)) for payment in self.ledger.open_payments()
        ]
        return [
            (payment, purchase) for payment, purchase in payments if purchase is not None and purchase.realm == realm
        ]

    async def reconcile_prepaid(self, payment: Payment, gateway: Gateway) -> Payment:
        """Ask the witness of a prepaid payment with an unknown outcome, and return the payment.

        A line of ClawRouter's log or of an account's usage counts if it can only be this payment's. An account that
        lists every request of that time, but not this one, did not charge for it; nor did a ClawRouter whose wallet
        moved nothing in that time.
        """
        payment = await run_io(self.ledger.payment, payment.id)
        if payment.gateway == CLASSROOM and payment.sent:
            return await self._ask_classroom(payment)
        if payment.state is not State.UNKNOWN:
            return payment
        if payment.gateway == _PROXY:
            await self._ask_clawrouter(payment)
        elif payment.gateway == _ACCOUNT:
            await self._ask_account(payment, gateway if gateway.name == _ACCOUNT else gateway_named(_ACCOUNT))
        return await run_io(self.ledger.payment, payment.id)

    async def _ask_classroom(self, payment: Payment) -> Payment:
        """Ask a payment's classroom about its order; an error leaves the payment unchanged."""
        from blockrun_magic.studio.payment.classroom.orders import OrderCalls, ask_about

        if self.classroom is None or payment.nonce is None:
            return payment
        with suppress(BlockrunError):
            account = self.classroom()
            gateway = await run_io(account.gateway, payment.payer or "")
            if gateway is not None:
                return await ask_about(OrderCalls(account, gateway), self.ledger, payment)
        return await run_io(self.ledger.payment, payment.id)

    async def _ask_clawrouter(self, payment: Payment) -> None:
        entry = _line_of(payment, self.compare(payment.created_at - _HOUR))
        if entry is not None:
            note = f"listed in ClawRouter's log, at {format_usd(entry.micros)}"
            await run_io(self.ledger.settle, payment.id, None, note, witness=Witness.LOG)
            return
        transfers = await transfers_of_clawrouter(self.client, payment)
        if transfers == ():
            note = "ClawRouter's wallet moved nothing in the time of the request"
            await run_io(self.ledger.release, payment.id, note, witness=Witness.CHAIN)
        near = await run_io(self.ledger.payments_via, _PROXY, payment.created_at - 2 * _HOUR)
        if transfers and len(transfers) == len(near) == 1 and is_credible(transfers[0].amount, payment.amount):
            [transfer] = transfers
            note = "the only transfer in the time of the request"
            await run_io(
                self.ledger.settle,
                payment.id,
                transfer.transaction,
                note,
                witness=Witness.CHAIN,
                charged=transfer.amount,
            )

    async def _ask_account(self, payment: Payment, account: Gateway) -> None:
        try:
            headers = self.headers_for(account)
        except BlockrunError:  # without a key, the account cannot be asked
            return
        since, until = payment.created_at - _HOUR, payment.created_at + _HOUR
        usage = await account_usage(self.client, account, headers, since, until)
        if usage is None:
            return
        ours = [
            ProxyPayment(other, model) for other, model, _ in await run_io(self.ledger.payments_via, _ACCOUNT, since)
        ]
        theirs = [LogEntry(charge.at, charge.model, charge.micros) for charge in usage.charges]
        entry = _line_of(payment, compare(ours, theirs))
        charge = None if entry is None else usage.charges[theirs.index(entry)]
        listed = any(mine.fits(line) for mine in ours if mine.payment.id == payment.id for line in theirs)
        witness = Witness.ACCOUNT
        if charge is not None and charge.decided and charge.micros:
            await run_io(
                self.ledger.settle,
                payment.id,
                None,
                "listed in the account's usage",
                witness=witness,
                charged=charge.micros,
            )
        elif charge is not None and charge.decided:
            await run_io(
                self.ledger.release, payment.id, "listed in the account's usage, free of charge", witness=witness
            )
        elif not listed and usage.complete and usage.now is not None and usage.now >= until:
            await run_io(self.ledger.release, payment.id, "not in the account's usage", witness=witness)

    def compare(self, since: float) -> Comparison:
        """Compare our payments through ClawRouter since `since` (Unix seconds) with the lines of its log."""
        ours = [ProxyPayment(*row) for row in self.ledger.payments_via(_PROXY, since)]
        theirs = [] if self.logs is None else read_usage(self.logs, since, self.clock())
        return compare(ours, theirs)

    async def resolve(self, purchase: Purchase, *, charged: bool, amount: int | None = None) -> list[Payment]:
        """Record the user's answer about the open prepaid payments of `purchase`, and return them.

        `amount` is the charge in micro-USDC, if it is known. Raises LedgerError while a kernel is working on the
        purchase.
        """
        async with self.locks.try_acquire(purchase) as free:
            if not free:
                raise LedgerError(
                    "This image is being bought right now.", "Wait until its cell has ended, then try again."
                )
            open_payments = [
                p for p in await run_io(self.ledger.payments, purchase.id) if p.prepaid and p.state in AT_RISK
            ]
            resolved = [
                await run_io(self._resolved, payment, charged=charged, amount=amount) for payment in open_payments
            ]
            await run_io(append_settled, self.ledger)
            return resolved

    def _resolved(self, payment: Payment, *, charged: bool, amount: int | None) -> Payment:
        if payment.state is State.RESERVED or not charged:
            return self.ledger.release(payment.id, "recorded by you: not charged", witness=Witness.USER)
        note = "recorded by you: charged"
        return self.ledger.settle(payment.id, None, note, witness=Witness.USER, charged=amount)


async def transfers_of_clawrouter(client: Client, payment: Payment) -> tuple[Transfer, ...] | None:
    """Return the transfers out of ClawRouter's wallet in the time of a request, or None while that is unknown."""
    network = NETWORKS.get(payment.network or "")
    if network is None or not payment.payer:
        return None
    sent = payment.sent_at or payment.created_at
    until = max(sent, payment.updated_at) + _SLOWEST_IMAGE + _MAX_SIGNATURE
    return await outgoing_transfers(client, network, payment.payer, sent - _CLOCK_SKEW, until)


def _line_of(payment: Payment, comparison: Comparison) -> LogEntry | None:
    """Return the log entry that can belong only to `payment`, or None."""
    return next((entry for spent, entry in comparison.agreed if spent.payment.id == payment.id), None)
