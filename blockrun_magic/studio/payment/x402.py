"""Payments signed by our wallet: authorize, submit, wait; the ledger records each step before it happens.

The rules that protect the payer (gateway protocol, sections 3, 4 and 8) are here. Every retry carries the same
authorization. A second payload for it is signed only after its price was refused, and a new authorization only
after a witness has released the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from blockrun_magic.errors import BudgetError, ClockError, InvalidResponse, TermsRefused
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.responses import CompletedJob
from blockrun_magic.payments.ledger.price_cache import cache_quote, drop_quote
from blockrun_magic.payments.ledger.records import Payload, Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.x402.protocol import (
    PaymentPayload,
    PaymentRequirements,
    read_challenge,
    select_requirements,
)
from blockrun_magic.studio.payment.job import X402Job
from blockrun_magic.studio.payment.method import PurchaseContext
from blockrun_magic.studio.payment.pricing import Price, cached_price, fetch_price
from blockrun_magic.studio.payment.sender import Sender, header_of
from blockrun_magic.studio.payment.settlement import SettlementTracker
from blockrun_magic.studio.payment.signers import Signer, check_clock, lasting_as
from blockrun_magic.studio.payment.unasked import AnsweredUnasked
from blockrun_magic.studio.payment.unpaid import book, refuse_twice
from blockrun_magic.studio.reconciliation import accepted_until, resolve_expired
from blockrun_magic.threads import run_cpu, run_io

__all__ = ["X402Method"]

_PAYMENT_REQUIRED = 402
_PROGRESS_WINDOW = 600.0
"""Seconds that a gateway may still be working on a request after it was sent."""


@dataclass(slots=True)
class X402Method:
    """The `PaymentMethod` that pays with the wallet of `signer`."""

    context: PurchaseContext
    signer: Callable[[], Signer]
    agree: Callable[[Price], None]
    """Raises BudgetError if a price is above the user's limits."""
    turn: asyncio.Lock
    """Held while a price of this kind is requested."""
    ready: Callable[[], None]
    """Raises StoreError if the images could not be stored."""
    hold: int | None
    """The hold from which the first payment is reserved, if there is one."""
    tracker: SettlementTracker = field(init=False)
    sender: Sender = field(init=False)
    _ahead: PaymentRequirements | None = field(init=False, default=None)
    """Cached terms that were signed without asking again, until the gateway accepts or refuses them."""

    def __post_init__(self) -> None:
        self.tracker = SettlementTracker(self.context)
        self.sender = Sender(self.context, self.tracker)

    async def open_payment(self) -> Payment | None:
        """Return the payment to continue with, a new one for a known price, or None if the price is unknown.

        The witness of an expired payment is asked first. Unless it releases the payment, the payment continues: it
        may still fetch its images.
        """
        context = self.context
        payment = await run_io(self._find_payment)
        if payment is not None and payment.prepaid and payment.state is not State.SETTLED:
            refuse_twice(payment)
        if payment is None or payment.state is State.SETTLED or context.clock() < accepted_until(payment):
            return payment
        context.progress.stage = "checking the last payment"
        payment = await resolve_expired(context.client, context.ledger, context.gateway, payment, context.clock)
        return None if payment.state is State.RELEASED else payment

    def _find_payment(self) -> Payment | None:
        """Return the payment of this purchase that was sent, or one that was signed for the cached price, or None."""
        context = self.context
        while (payment := context.ledger.open_payment(context.purchase.id)) is not None:
            if payment.state not in (State.RESERVED, State.SIGNED):
                return payment
            # Its kernel has ended, because we hold the lock, and the header never left the ledger.
            context.ledger.release(payment.id, "never sent")
        self._ahead = self._cached_terms()
        if self._ahead is None or context.purchase.poll_url is not None:
            return None
        sign = self.signer().signing_at_once(self._ahead, int(context.clock()))
        return sign and self._reserve_and_sign(self._ahead, sign, self.hold, self.ready)

    def _reserve_and_sign(
        self,
        terms: PaymentRequirements,
        sign: Callable[[], PaymentPayload],
        hold: int | None,
        check: Callable[[], None],
    ) -> Payment:
        check()
        self.signer().prepare()  # in a thread, because imports may take a second
        return self.context.ledger.authorize(self.context.purchase, terms.amount, terms.network.id, sign, hold)

    async def price(self) -> Price:
        """Return the gateway's validated terms for this request, or for its slow job.

        Terms of the last hour are used again. Raises TermsRefused, ClockError or GatewayError.
        """
        context = self.context
        if context.purchase.poll_url is not None:
            self._ahead = None
            return await self.ask_price(context.purchase.poll_url)
        if self._ahead is None:
            async with self.turn:  # another purchase may have asked meanwhile
                self._ahead = await run_io(self._cached_terms)
                if self._ahead is None:
                    return await self.ask_price(None)
        return _price_of(self._ahead)

    def _cached_terms(self) -> PaymentRequirements | None:
        """Return terms of the last hour that are within the limits, or None."""
        context = self.context
        terms = cached_price(context.ledger, context.gateway, context.request, self.signer().address)
        try:
            if terms is not None:
                self.agree(_price_of(terms))
        except BudgetError:
            return None
        return terms

    async def ask_price(self, job: str | None) -> Price:
        """Return the gateway's price for the request, or for the job at the address `job`."""
        context = self.context
        context.progress.stage = "asking the price"
        payer = await run_cpu(lambda: self.signer().address)
        try:
            terms = await fetch_price(
                context.client, context.ledger, context.gateway, context.request, payer, job, clock=context.clock
            )
        except AnsweredUnasked as error:
            raise await run_io(book, context, error) from None
        return _price_of(terms)

    async def authorize(
        self, offer: Price, hold: int | None = None, check: Callable[[], None] = lambda: None
    ) -> Payment:
        """Return a payment of `offer`: reserved, out of `hold` if given, signed, on record, not yet sent."""
        terms = offer.terms
        assert terms is not None  # noqa: S101  our own prices have them
        self.context.progress.stage = "signing"
        if self.context.gateway.on_solana:  # the chain is asked for a block first
            await run_io(check)
        sign = await self.signer().signing(terms, int(self.context.clock()))
        return await run_io(self._reserve_and_sign, terms, sign, hold, check)

    async def submit(self, payment: Payment) -> tuple[Payment, CompletedJob]:
        """Send `payment`, for the first time or again; return the response with the images."""
        payment, completed = await self._submit(payment)
        return self.tracker.latest.get(payment.id, payment), completed

    async def _submit(self, payment: Payment) -> tuple[Payment, CompletedJob]:
        context = self.context
        if payment.prepaid:
            refuse_twice(payment)
        context.progress.price = payment.amount
        job = X402Job(context, self.tracker, self.sender, self._authorize_again, self._prove_poll)
        if context.purchase.poll_url is not None:
            return await job.poll(payment, context.purchase.poll_url)
        resumed = payment.state is not State.SIGNED
        if payment.state is not State.SETTLED:
            payment = await context.mark_sent(payment, self._renew)
        context.progress.sent = True
        context.progress.stage = "waiting for the image"
        answer = await self._show(payment, payment.payload)
        if answer.status == _PAYMENT_REQUIRED:
            payment, answer = await self._after_refusal(payment, answer, resumed=resumed)
        found = await self.sender.read(payment, answer)
        if isinstance(found, CompletedJob):
            return payment, found
        try:
            address = await run_io(context.job_address, payment, found)
        except InvalidResponse as error:
            raise await self.tracker.explain_failure(payment, error) from error
        return await job.poll(payment, address)

    async def _renew(self, payment: Payment) -> Payment:
        """Return `payment`, or a new one if it has expired before it could be sent."""
        context = self.context
        if payment.state is not State.SIGNED or context.clock() < accepted_until(payment):
            return payment
        await run_io(context.ledger.release, payment.id, "expired before it was sent")
        offer = await self.price()
        self.agree(offer)
        return await self.authorize(offer)

    async def confirm(self, payment: Payment) -> Payment:
        """Ask the witness of a delivered payment, for a few seconds at most; return the payment."""
        return await self.tracker.confirm(payment)

    async def _show(self, payment: Payment, payload: Payload | None) -> Response:
        return await self.sender.send(payment, partial(self.context.post, header_of(payload)))

    async def _after_refusal(self, payment: Payment, answer: Response, *, resumed: bool) -> tuple[Payment, Response]:
        """Return the payment and the last response after a 402: already cashed, repriced, or still in progress."""
        shown = payment.payload
        payment, _ = await self.tracker.look_up_quickly(payment)
        if payment.decided:
            again = payment.payload
            if payment.state is State.SETTLED and again is not None and again != shown and again.header_value:
                answer = await self._show(payment, again)
            return payment, answer
        terms = self._changed_requirements(payment, answer)
        if terms is not None:
            payment = await self._sign_again(payment, terms, answer)
            return payment, await self._show(payment, payment.payload)
        if resumed:
            answer = await self._ask_again(payment, answer)
        return payment, answer

    async def _ask_again(self, payment: Payment, answer: Response) -> Response:
        """Repeat a payment of an earlier run, whose request the gateway may still be working on; return the response.

        Each header is sent once more, then the newest at growing intervals, for a minute in all.
        """
        context = self.context
        for payload in reversed(payment.payloads[:-1]):
            if payload.header_value and answer.status == _PAYMENT_REQUIRED:
                answer = await self._show(payment, payload)
        waited, wait = 0.0, context.retry.first_wait
        recent = context.clock() - (payment.sent_at or 0.0) < _PROGRESS_WINDOW
        while recent and answer.status == _PAYMENT_REQUIRED and waited < context.retry.in_progress:
            await context.progress.pause("The gateway may still be working on this.", wait, context.progress.stage)
            waited, wait = waited + wait, wait * 2
            answer = await self._show(payment, payment.payload)
        return answer

    def _changed_requirements(self, payment: Payment, answer: Response) -> PaymentRequirements | None:
        """Return the new terms of a refusal if they differ from the signed ones, or None if the payment was refused.

        On Solana two payments cannot share a nonce, so that a refused payment stays refused.
        """
        context, ahead, self._ahead = self.context, self._ahead, None
        signer, payload = self.signer(), payment.payload
        if payload is None or not signer.shares_nonces or signer.address != payment.payer:
            return None
        try:
            challenge = read_challenge(answer.headers, answer.body)
            terms = select_requirements(challenge, context.gateway.networks, context.gateway.base_url, signer.address)
        except TermsRefused:
            return None
        same = terms.amount == payload.amount and (ahead is None or terms.accepted == ahead.accepted)
        # A gateway that has changed its version of x402 has not even read the payment.
        same = same and terms.header_name == payload.header_name
        return None if same or terms.network.id != payment.network else terms

    async def _sign_again(self, payment: Payment, terms: PaymentRequirements, answer: Response) -> Payment:
        """Add a payload for new terms with the same nonce, so that only one can be cashed; return the payment."""
        context, now = self.context, self.context.clock()
        await run_io(drop_quote, context.ledger, context.gateway.name, str(context.request.price_key))
        context.progress.stage = "signing the new price"
        assert payment.nonce is not None  # noqa: S101  signed payments have one
        try:
            check_clock(context.gateway.name, answer.date, now, now)
            self.agree(_price_of(terms))
            lasting = lasting_as(payment, terms, int(now))
            sign = await self.signer().signing(lasting, int(now), bytes.fromhex(payment.nonce[2:]))
            payment = await run_io(lambda: context.ledger.add_payload(payment.id, sign()))
        except (BudgetError, ClockError) as error:
            payment = await run_io(
                context.mark_unknown, payment, "refused, because its price had changed", refused=True
            )
            payment, used = await self.tracker.look_up_quickly(payment)
            raise self.tracker.explain(payment, error, used=used) from None
        await run_io(cache_quote, context.ledger, context.gateway.name, str(context.request.price_key), terms)
        context.progress.price = payment.amount
        return payment

    async def _prove_poll(self, address: str, now: int) -> SecretHeaders:
        if not self.context.gateway.on_solana:  # only Solana needs the wallet to collect a job
            return SecretHeaders()
        return await self.signer().prove_poll(address, now)

    async def _authorize_again(self, released: Payment, address: str) -> Payment:
        """Sign a new payment for the job at `address`, replacing one that a witness has released; return it."""
        offer = await self.ask_price(address)
        if offer.amount > released.amount:
            raise TermsRefused("The price rose while the image was being made.", "Run the cell again to agree to it.")
        self.agree(offer)
        return await self.authorize(offer)


def _price_of(terms: PaymentRequirements) -> Price:
    return Price(terms.amount, terms.network.label, terms)
