"""One purchase on its way: authorize, submit, wait, deliver, with the ledger a step ahead.

The rules that protect the payer (gateway protocol, sections 3, 4 and 8) live here: after the
signature has left, every retry carries the *same* authorization; another one is signed only when
the old one has expired and nobody cashed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from blockrun_magic.errors import (
    AnswerUnusable,
    BlockrunError,
    BudgetError,
    GatewayError,
    GatewayUnreachable,
    JobFailed,
    OutcomeUnknown,
    TermsRefused,
    UpstreamFailed,
)
from blockrun_magic.gateway.answers import (
    Answer,
    Completed,
    Pending,
    is_replay,
    is_transient,
    poll_address,
    read_answer,
    refusal,
)
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.presets import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger import Ledger
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.rows import Payment, Purchase
from blockrun_magic.payments.states import OPEN, State
from blockrun_magic.payments.wallet import Wallet
from blockrun_magic.payments.x402 import Settlement, Terms, read_settlement, sign_payment
from blockrun_magic.studio.asking import ask_price, expired_at, look_up, usable_until
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.retry import Patience

__all__ = ["Buying"]

_QUICK = 5.0
_ACCEPTED = 202
_PAYMENT_REQUIRED = 402
_GONE = frozenset({404, 410})


@dataclass(slots=True)
class Buying:
    """The way of one purchase; the caller holds the purchase's lock."""

    client: Client
    ledger: Ledger
    gateway: Gateway
    wallet: Callable[[], Wallet]
    request: ImageRequest
    purchase: Purchase
    progress: Progress
    patience: Patience
    clock: Callable[[], float]

    async def still_open(self) -> Payment | None:
        """Return the payment to go on with, or None when a new one may be signed.

        One whose fate nobody can tell is gone on with, too: expired as it is, it may still fetch what it
        paid for.
        """
        payments = self.ledger.payments(self.purchase.id)
        for payment in payments:
            if payment.state in (State.RESERVED, State.SIGNED):
                # Its kernel is gone (we hold the lock), and the header never left the ledger.
                self.ledger.release(payment.id, "never sent")
        sent = [p for p in reversed(payments) if p.state in OPEN and p.state is not State.SIGNED]
        for payment in sent:
            if payment.state is State.SETTLED or self.clock() < usable_until(payment):
                return payment
        for payment in sent:
            self.progress.stage = "asking what became of the last payment"
            if (asked := await self._outlived(payment)).state is not State.RELEASED:
                return asked
        return None

    async def _outlived(self, payment: Payment) -> Payment:
        """Return an unusable payment as it stands after everybody who may know was asked."""
        if self.clock() < expired_at(payment):
            self.progress.stage = "waiting for the last payment to expire"
            await asyncio.sleep(expired_at(payment) - self.clock())
        await look_up(self.client, self.ledger, self.gateway, self._again(payment), self.clock())
        return self._again(payment)

    async def authorize(self, terms: Terms, hold: int | None = None) -> Payment:
        """Return a payment for `terms`: reserved, out of `hold` if given, signed, on record, not yet sent."""
        self.progress.stage = "signing"
        payment_id = self.ledger.reserve(self.purchase, terms.amount, hold)
        try:
            signed = await asyncio.to_thread(sign_payment, terms, self.wallet(), int(self.clock()))
            self.ledger.sign(payment_id, terms.network.id, signed)
        except BaseException:
            self.ledger.release(payment_id, "never signed")
            raise
        return self._payment(payment_id)

    async def quote(self, job: str | None = None) -> Terms:
        """Return what the gateway asks for this request, or for its slow job at the address `job`, pinned.

        Raises TermsRefused or GatewayError.
        """
        self.progress.stage = "asking the price"
        payer = await asyncio.to_thread(lambda: self.wallet().address)
        return await ask_price(self.client, self.gateway, self.request, payer, job)

    async def submit(self, payment: Payment) -> tuple[Payment, Completed, Settlement]:
        """Return the pictures' answer to `payment`, sent for the first time or once more."""
        self.progress.price = payment.amount
        if self.purchase.poll_url is not None:
            return await self._poll(payment, self.purchase.poll_url)
        if payment.state is not State.SETTLED:
            self.ledger.submit(payment.id)
        self.progress.sent = True
        self.progress.stage = "waiting for the picture"
        headers, body = _Sealed(payment), self.request.body()
        answer = await self._persist(
            payment, lambda: self.client.post(self.gateway, self.request.endpoint, body, headers)
        )
        found = await self._read(payment, answer)
        if isinstance(found, Completed):
            return payment, found, self._note(payment, answer)
        return await self._poll(payment, await self._job_address(payment, found))

    async def _job_address(self, payment: Payment, job: Pending) -> str:
        """Return where a job is to be collected, once the ledger knows it too."""
        try:
            address = poll_address(self.gateway, job.poll_url)
        except AnswerUnusable as error:
            raise await self._with_money(payment, error) from error
        if self._again(payment).state is not State.SETTLED:
            self.ledger.poll(payment.id, self.purchase.id, address)
        return address

    async def _poll(self, payment: Payment, address: str) -> tuple[Payment, Completed, Settlement]:
        state = self._again(payment).state
        if state is State.SIGNED:
            self.ledger.submit(payment.id)
        if state is not State.SETTLED:
            self.ledger.poll(payment.id, self.purchase.id, address)
        self.progress.sent = True
        self.progress.stage = "queued"
        begun = self.clock()
        wait = 0.0
        while self.clock() - begun < self.patience.job:
            await asyncio.sleep(wait)
            wait = min(self.patience.poll_at_most_every, max(wait * 1.25, self.patience.poll_every))
            payment = await self._usable(payment, address)
            ask = partial(self.client.get, self.gateway, address, _Sealed(payment))
            answer = await self._persist(payment, ask)
            found = await self._read(payment, answer)
            if isinstance(found, Completed):
                return payment, found, self._note(payment, answer)
            self.progress.stage = found.status.replace("_", " ")
            wait = answer.retry_after or wait
        error = UpstreamFailed(
            f"The picture is not ready after {self.patience.job / 60:.0f} minutes.",
            "Run the cell again, or `%blockrun resume`, to go on waiting.",
        )
        raise self._told(payment, error, used=await self._look_up_quickly(payment))

    async def _usable(self, payment: Payment, address: str) -> Payment:
        """Return a payment that the gateway will still take at this poll.

        A job may outlive its authorization: once that has expired and was not cashed, a fresh one
        for the same job takes its place, so that there is never more than one that can be cashed.
        """
        payment = self._again(payment)  # as it stands by now: it may have been settled or sent meanwhile
        if payment.state is State.SETTLED or self.clock() < usable_until(payment):
            return payment
        old = await self._outlived(payment)
        # Where nobody can say, the job can: shown the old signature, it delivers what that has paid for.
        if old.state is State.SETTLED or (
            old.state is not State.RELEASED and not await self._turned_down(old, address)
        ):
            return old
        self._doubt(old, "expired while its job was running")
        try:
            fresh = await self._authorize_again(old, address)
        except (BudgetError, GatewayError, TermsRefused) as error:
            advice = error.do.replace("Nothing was signed", "Nothing more was signed")
            raise self._told(old, type(error)(error.what, advice), used=None) from error
        self.ledger.submit(fresh.id)
        self.ledger.poll(fresh.id, self.purchase.id, address)
        return self._again(fresh)

    async def _turned_down(self, old: Payment, address: str) -> bool:
        """Return whether the gateway asks for another signature than `old` for the job at `address`."""
        try:
            answer = await self.client.get(self.gateway, address, _Sealed(old))
        except GatewayError:
            return False
        return answer.status == _PAYMENT_REQUIRED

    async def _authorize_again(self, old: Payment, address: str) -> Payment:
        terms = await self.quote(address)
        if terms.amount > old.amount:
            raise TermsRefused(
                f"The price rose to {format_usd(terms.amount)} while the picture was being made.",
                "Nothing more was signed. Run the cell again to agree to the new price.",
            )
        return await self.authorize(terms)

    async def _persist(self, payment: Payment, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the first answer that is not a passing fault; the same authorization every time."""
        left = payment.state is not State.SIGNED
        stage = self.progress.stage
        for attempt in range(self.patience.attempts):
            wait = self.patience.wait(attempt)
            try:
                answer = await send()
            except GatewayUnreachable as error:
                left = left or error.sent
                self._note_settlement(payment, read_settlement(error.headers, None))
                fault: GatewayError = error
            except GatewayError as error:
                # An answer beyond all bounds was not read to its end, but the header has left.
                raise await self._with_money(payment, error) from error
            else:
                left = True
                self._note(payment, answer)
                if not is_transient(answer):
                    return answer
                fault = refusal(answer, self.gateway)
                wait = answer.retry_after or wait
            if attempt + 1 == self.patience.attempts or self.clock() + wait >= usable_until(payment):
                break
            self.progress.stage = f"{fault.what.rstrip('.')}; trying again in {wait:.0f} s"
            await asyncio.sleep(wait)
            self.progress.stage = stage
        if left:
            raise await self._with_money(payment, fault) from fault
        self.ledger.release(payment.id, "never sent: no connection")
        raise type(fault)(fault.what, f"Nothing was sent and nothing charged. {fault.do}") from fault

    async def _read(self, payment: Payment, answer: Answer) -> Completed | Pending:
        """Return what a final answer brings; an error says truly what it did to the money."""
        try:
            if answer.status not in (200, _ACCEPTED):
                raise refusal(answer, self.gateway)
            return read_answer(answer)
        except GatewayError as error:
            self._note(payment, answer)
            refused = not isinstance(error, AnswerUnusable) and not is_replay(answer)
            told = await self._with_money(payment, error, refused=refused)
            if isinstance(error, JobFailed) or answer.status in _GONE:
                # Last: a payment that still polls and has no job could not go on.
                self.ledger.forget_job(self.purchase.id)
            raise told from error

    def _note(self, payment: Payment, answer: Answer) -> Settlement:
        settlement = read_settlement(answer.headers, answer.json())
        self._note_settlement(payment, settlement)
        return settlement

    def _note_settlement(self, payment: Payment, settlement: Settlement) -> None:
        """Book a transaction the moment that any answer names one, unless it says itself that it failed."""
        if settlement.transaction is None or settlement.success is False:
            return
        if self._again(payment).state is not State.SETTLED:
            self.ledger.settle(payment.id, settlement.transaction)

    def _doubt(self, payment: Payment, note: str, *, refused: bool = False) -> None:
        if self._again(payment).state not in (State.SETTLED, State.RELEASED):
            self.ledger.doubt(payment.id, note, refused=refused)

    async def _with_money(self, payment: Payment, error: GatewayError, *, refused: bool = False) -> BlockrunError:
        """Return `error` with a second line that says what it did to the money, now on record.

        `refused` says that the gateway turned the payment or the request down. It may have cashed it all
        the same: that is looked up.
        """
        self._doubt(payment, error.what, refused=refused)
        used = await self._look_up_quickly(payment)
        decided = self._again(payment).state in (State.SETTLED, State.RELEASED)
        expired = self.clock() >= expired_at(payment)
        if decided or (refused and not expired):
            return self._told(payment, error, used=used)
        amount = format_usd(payment.amount)
        if expired:
            return OutcomeUnknown(
                f"{error.what} A payment of {amount} for this picture may have been taken, and nobody can say.",
                "It is not paid again by itself. See `%blockrun jobs`; --fresh buys another take.",
            )
        return OutcomeUnknown(
            f"{error.what} {amount} may have been charged.",
            "Run the cell again: it goes on with the same payment and never makes a second one.",
        )

    def _told(self, payment: Payment, error: BlockrunError, *, used: bool | None) -> BlockrunError:
        """Return `error` with what became of `payment` in its second line; `used` is what a witness said."""
        now = self._again(payment)
        amount = format_usd(payment.amount)
        if now.state is State.SETTLED:
            shown = f" (transaction {now.transaction})" if now.transaction else ""
            return type(error)(
                error.what,
                f"{amount} was paid{shown}. Running the cell again asks for the picture and pays nothing more;"
                " if that fails too, show the gateway this transaction.",
            )
        if now.state is State.RELEASED or used is False:
            return type(error)(error.what, f"{error.do} Nothing has been charged.")
        return type(error)(error.what, f"{error.do} {amount} may have been charged: `%blockrun jobs` looks it up.")

    async def _look_up_quickly(self, payment: Payment) -> bool | None:
        """Return whether `payment` was cashed, or None when nobody can say within seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_QUICK):
                return await look_up(self.client, self.ledger, self.gateway, self._again(payment), self.clock())
        return None

    def _again(self, payment: Payment) -> Payment:
        return self._payment(payment.id)

    def _payment(self, payment_id: int) -> Payment:
        return next(p for p in self.ledger.payments(self.purchase.id) if p.id == payment_id)


class _Sealed(dict[str, str]):
    """The header that carries a payment; a traceback that prints local variables does not show it."""

    def __init__(self, payment: Payment) -> None:
        super().__init__()
        if payment.header_name is not None and payment.header_value is not None:
            self[payment.header_name] = payment.header_value

    def __repr__(self) -> str:
        return f"<{', '.join(self) or 'no'} header>"
