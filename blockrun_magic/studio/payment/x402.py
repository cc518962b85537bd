"""Paying with our own signature: authorize, submit, wait, with the ledger a step ahead.

The rules that protect the payer (gateway protocol, sections 3, 4 and 8) live here: after the
signature has left, every retry carries the *same* authorization; another one is signed only when
the old one has expired and nobody cashed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from blockrun_magic.errors import (
    BudgetError,
    GatewayError,
    GatewayUnreachable,
    InvalidResponse,
    JobFailed,
    Money,
    TermsRefused,
    UpstreamFailed,
)
from blockrun_magic.gateway.chain.solana import recent_blockhash
from blockrun_magic.gateway.responses import (
    CompletedJob,
    PendingJob,
    Response,
    error_from_response,
    is_replay,
    is_transient,
    read_answer,
)
from blockrun_magic.payments.ledger.price_cache import drop_quote, keep_quote
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import OPEN, State
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.payments.x402.networks import SolanaNetwork
from blockrun_magic.payments.x402.protocol import (
    PaymentRequirements,
    read_challenge,
    read_settlement,
    select_requirements,
    sign_payment,
)
from blockrun_magic.payments.x402.solana import sign_transfer
from blockrun_magic.studio.payment.method import PurchaseContext
from blockrun_magic.studio.payment.pricing import Price, cached_price, fetch_price
from blockrun_magic.studio.payment.settlement import SettlementTracker
from blockrun_magic.studio.reconciliation import accepted_until, expires_at, reconcile_payment

__all__ = ["X402Method"]

_ACCEPTED = 202
_PAYMENT_REQUIRED = 402
_GONE = frozenset({404, 410})


@dataclass(slots=True)
class X402Method:
    """The way of a purchase that `wallet` pays for; a `Way`."""

    deal: PurchaseContext
    wallet: Callable[[], Wallet | SolanaWallet]
    agree: Callable[[Price], None]
    """Raises BudgetError where an offer is more than the user allowed."""
    turn: asyncio.Lock
    """Held while a price like this one is asked."""
    outcome: SettlementTracker = field(init=False)
    _ahead: PaymentRequirements | None = field(init=False, default=None)
    """The terms that were signed without asking, while it is not known whether they still hold."""

    def __post_init__(self) -> None:
        self.outcome = SettlementTracker(self.deal)

    async def open_payment(self) -> Payment | None:
        """Return the payment to go on with, or None when a new one may be signed.

        One whose fate nobody can tell is gone on with, too: expired as it is, it may still fetch what it
        paid for.
        """
        deal = self.deal
        payments = deal.payments
        for payment in payments:
            if payment.state in (State.RESERVED, State.SIGNED):
                # Its kernel is gone (we hold the lock), and the header never left the ledger.
                deal.ledger.release(payment.id, "never sent")
        sent = [p for p in reversed(payments) if p.state in OPEN and p.state is not State.SIGNED]
        for payment in sent:
            if payment.state is State.SETTLED or deal.clock() < accepted_until(payment):
                return payment
        for payment in sent:
            deal.progress.stage = "asking what became of the last payment"
            if (asked := await self._resolve_expired(payment)).state is not State.RELEASED:
                return asked
        return None

    async def _resolve_expired(self, payment: Payment) -> Payment:
        """Return an unusable payment as it stands after everybody who may know was asked."""
        deal = self.deal
        if deal.clock() < expires_at(payment):
            deal.progress.stage = "waiting for the last payment to expire"
            await asyncio.sleep(expires_at(payment) - deal.clock())
        await reconcile_payment(deal.client, deal.ledger, deal.gateway, deal.reload(payment), deal.clock())
        return deal.reload(payment)

    async def price(self) -> Price:
        """Return what the gateway asks for this request, or for its slow job, pinned.

        It is not asked again within the hour. Raises TermsRefused or GatewayError.
        """
        deal = self.deal
        if deal.purchase.poll_url is not None:
            return await self._offer(deal.purchase.poll_url)
        payer = await asyncio.to_thread(lambda: self.wallet().address)
        async with self.turn:  # who waits for another's question has its answer
            terms = cached_price(deal.ledger, deal.gateway, deal.request, payer)
            if terms is None or not self._within_limits(terms):
                return await self._offer(None)
        self._ahead = terms
        return _offer_of(terms)

    def _within_limits(self, terms: PaymentRequirements) -> bool:
        try:
            self.agree(_offer_of(terms))
        except BudgetError:
            return False
        return True

    async def _offer(self, job: str | None) -> Price:
        deal = self.deal
        deal.progress.stage = "asking the price"
        payer = await asyncio.to_thread(lambda: self.wallet().address)
        terms = await fetch_price(deal.client, deal.ledger, deal.gateway, deal.request, payer, job)
        return _offer_of(terms)

    async def authorize(self, offer: Price, hold: int | None = None) -> Payment:
        """Return a payment of `offer`: reserved, out of `hold` if given, signed, on record, not yet sent."""
        deal = self.deal
        terms = offer.terms
        assert terms is not None  # noqa: S101  our own offers have them
        deal.progress.stage = "signing"
        payment_id = deal.ledger.reserve(deal.purchase, terms.amount, hold)
        try:
            await self._sign(payment_id, terms)
        except BaseException:
            deal.ledger.release(payment_id, "never signed")
            raise
        return deal.payment(payment_id)

    async def _sign(self, payment_id: int, terms: PaymentRequirements) -> None:
        wallet, now = self.wallet(), int(self.deal.clock())
        if isinstance(wallet, SolanaWallet):
            assert isinstance(terms.network, SolanaNetwork)  # noqa: S101  the wallet was chosen by the network
            recent = await recent_blockhash(self.deal.client, terms.network)
            signed = await asyncio.to_thread(sign_transfer, terms, wallet, recent, now)
        else:
            signed = await asyncio.to_thread(sign_payment, terms, wallet, now)
        self.deal.ledger.sign(payment_id, terms.network.id, signed)

    async def submit(self, payment: Payment) -> tuple[Payment, CompletedJob]:
        """Return the pictures' answer to `payment`, sent for the first time or once more."""
        deal = self.deal
        deal.progress.price = payment.amount
        if deal.purchase.poll_url is not None:
            return await self._poll(payment, deal.purchase.poll_url)
        if payment.state is not State.SETTLED:
            deal.ledger.submit(payment.id)
        deal.progress.sent = True
        deal.progress.stage = "waiting for the picture"
        answer = await self._send_with_retries(payment, partial(deal.post, _header(payment)))
        if answer.status == _PAYMENT_REQUIRED and (terms := self._changed_requirements(payment, answer)) is not None:
            payment = await self._sign_anew(payment, terms)
            answer = await self._send_with_retries(payment, partial(deal.post, _header(payment)))
        found = await self._read(payment, answer)
        if isinstance(found, CompletedJob):
            return payment, found
        try:
            address = deal.job_address(payment, found)
        except InvalidResponse as error:
            raise await self.outcome.explain_failure(payment, error) from error
        return await self._poll(payment, address)

    def _changed_requirements(self, payment: Payment, answer: Response) -> PaymentRequirements | None:
        """Return what a refusal asks for where that is not what was signed; None where the payment itself was refused.

        On Solana a payment has no nonce that a second one could share: there it stays refused.
        """
        deal, ahead, self._ahead = self.deal, self._ahead, None
        wallet, now = self.wallet(), deal.reload(payment)
        if now.state is State.SETTLED or not isinstance(wallet, Wallet) or wallet.address != payment.payer:
            return None
        try:
            challenge = read_challenge(answer.headers, answer.body)
            terms = select_requirements(challenge, deal.gateway.networks, deal.gateway.base_url, wallet.address)
        except TermsRefused:
            return None
        same = terms.amount == payment.amount and (ahead is None or terms.accepted == ahead.accepted)
        # A gateway that speaks another version of x402 by now has not even seen the payment.
        same = same and terms.header_name == payment.header_name
        return None if same or terms.network.id != payment.network else terms

    async def _sign_anew(self, payment: Payment, terms: PaymentRequirements) -> Payment:
        """Return `payment` signed for other terms with its own nonce, so that only one of the two can be cashed."""
        deal = self.deal
        drop_quote(deal.ledger, deal.gateway.name, str(deal.request.price_key))
        deal.progress.stage = "signing the new price"
        wallet = self.wallet()
        assert isinstance(wallet, Wallet) and payment.nonce is not None  # noqa: S101, PT018  Solana is never signed ahead
        try:
            self.agree(_offer_of(terms))
            nonce = bytes.fromhex(payment.nonce[2:])
            signed = await asyncio.to_thread(sign_payment, terms, wallet, int(deal.clock()), nonce)
            deal.ledger.replace_signature(payment.id, terms.amount, signed)
        except BudgetError as error:
            deal.mark_unknown(payment, "refused, because its price had changed", refused=True)
            raise self.outcome.explain(payment, error, used=await self.outcome.look_up_quickly(payment)) from None
        keep_quote(deal.ledger, deal.gateway.name, str(deal.request.price_key), terms)
        deal.progress.price = terms.amount
        return deal.reload(payment)

    async def _poll(self, payment: Payment, address: str) -> tuple[Payment, CompletedJob]:
        deal = self.deal
        state = deal.reload(payment).state
        if state is State.SIGNED:
            deal.ledger.submit(payment.id)
        if state is not State.SETTLED:
            deal.ledger.poll(payment.id, deal.purchase.id, address)
        deal.progress.sent = True
        deal.progress.stage = "queued"
        begun = deal.clock()
        wait = 0.0
        while deal.clock() - begun < deal.patience.job:
            await asyncio.sleep(wait)
            wait = deal.patience.next_poll(wait)
            payment = await self._valid_payment(payment, address)
            answer = await self._send_with_retries(payment, partial(deal.ask, address, _header(payment)))
            found = await self._read(payment, answer)
            if isinstance(found, CompletedJob):
                return payment, found
            deal.progress.stage = found.status.replace("_", " ")
            wait = answer.retry_after or wait
        error = UpstreamFailed(
            f"The picture is not ready after {deal.patience.job / 60:.0f} minutes.",
            "Run the cell again, or `%blockrun resume`, to go on waiting.",
        )
        raise self.outcome.explain(payment, error, used=await self.outcome.look_up_quickly(payment))

    async def _valid_payment(self, payment: Payment, address: str) -> Payment:
        """Return a payment that the gateway will still take at this poll.

        A job may outlive its authorization: once that has expired and was not cashed, a fresh one
        for the same job takes its place, so that there is never more than one that can be cashed.
        """
        deal = self.deal
        payment = deal.reload(payment)  # as it stands by now: it may have been settled or sent meanwhile
        if payment.state is State.SETTLED or deal.clock() < accepted_until(payment):
            return payment
        old = await self._resolve_expired(payment)
        # Where nobody can say, the job can: shown the old signature, it delivers what that has paid for.
        if old.state is State.SETTLED or (
            old.state is not State.RELEASED and not await self._is_rejected(old, address)
        ):
            return old
        deal.mark_unknown(old, "expired while its job was running")
        try:
            fresh = await self._authorize_again(old, address)
        except (BudgetError, GatewayError, TermsRefused) as error:
            raise self.outcome.explain(old, error, used=None) from None
        deal.ledger.submit(fresh.id)
        deal.ledger.poll(fresh.id, deal.purchase.id, address)
        return deal.reload(fresh)

    async def _is_rejected(self, old: Payment, address: str) -> bool:
        """Return whether the gateway asks for another signature than `old` for the job at `address`."""
        try:
            answer = await self.deal.ask(address, _header(old))
        except GatewayError:
            return False
        return answer.status == _PAYMENT_REQUIRED

    async def _authorize_again(self, old: Payment, address: str) -> Payment:
        offer = await self._offer(address)
        if offer.amount > old.amount:
            raise TermsRefused(
                f"The price rose to {format_usd(offer.amount)} while the picture was being made.",
                "Run the cell again to agree to the new price.",
            )
        return await self.authorize(offer)

    async def _send_with_retries(self, payment: Payment, ask: Callable[[], Awaitable[Response]]) -> Response:
        """Return the first answer that is not a passing fault; the same authorization every time."""
        deal = self.deal
        left = payment.state is not State.SIGNED
        stage = deal.progress.stage
        for attempt in range(deal.patience.attempts):
            wait = deal.patience.wait(attempt)
            try:
                answer = await ask()
            except GatewayUnreachable as error:
                left = left or error.sent
                self.outcome.note_settlement(payment, read_settlement(error.headers, None, payment.network))
                fault: GatewayError = error
            except GatewayError as error:
                # An answer beyond all bounds was not read to its end, but the header has left.
                raise await self.outcome.explain_failure(payment, error) from error
            else:
                left = True
                self.outcome.record_settlement(payment, answer)
                if not is_transient(answer):
                    return answer
                fault = error_from_response(answer, deal.gateway)
                wait = answer.retry_after or wait
            if attempt + 1 == deal.patience.attempts or deal.clock() + wait >= accepted_until(payment):
                break
            await deal.progress.pause(fault.message, wait, stage)
        if left:
            raise await self.outcome.explain_failure(payment, fault) from fault
        deal.ledger.release(payment.id, "never sent: no connection")
        raise fault.with_money(Money.nothing_sent())

    async def _read(self, payment: Payment, answer: Response) -> CompletedJob | PendingJob:
        """Return what a final answer brings; an error says truly what it did to the money."""
        try:
            if answer.status not in (200, _ACCEPTED):
                raise error_from_response(answer, self.deal.gateway)
            return read_answer(answer)
        except GatewayError as error:
            refused = not isinstance(error, InvalidResponse) and not is_replay(answer)
            told = await self.outcome.explain_failure(payment, error, refused=refused)
            if isinstance(error, JobFailed) or answer.status in _GONE:
                # Last: a payment that still polls and has no job could not go on.
                self.deal.ledger.forget_job(self.deal.purchase.id)
            raise told from error


def _offer_of(terms: PaymentRequirements) -> Price:
    return Price(terms.amount, terms.network.label, terms)


def _header(payment: Payment) -> SecretHeaders:
    if payment.header_name is None or payment.header_value is None:
        return SecretHeaders()
    return SecretHeaders({payment.header_name: payment.header_value})
