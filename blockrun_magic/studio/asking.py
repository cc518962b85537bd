"""What is asked without paying: the price of a request, and what became of a payment."""

from __future__ import annotations

from blockrun_magic.errors import AnswerUnusable
from blockrun_magic.gateway.answers import refusal
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.presets import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.gateway.truth import authorization_used
from blockrun_magic.payments.ledger import Ledger
from blockrun_magic.payments.rows import Payment
from blockrun_magic.payments.states import State
from blockrun_magic.payments.x402 import Terms, pin_terms, read_challenge

__all__ = ["ask_price", "expired_at", "look_up", "usable_until"]

_CHAIN_CLOCK = 60
"""Seconds after `validBefore` until an authorization counts as expired: clocks differ."""
_LAST_MOMENT = 8
"""Seconds before `validBefore` when a verifier begins to refuse a signature (it wants six)."""
_ACCEPTED = 202
_PAYMENT_REQUIRED = 402


async def ask_price(client: Client, gateway: Gateway, request: ImageRequest, payer: str) -> Terms:
    """Return the gateway's price for `request` as pinned terms; nothing is signed to learn it.

    Raises TermsRefused for terms that we do not sign, GatewayError for any other answer than a 402.
    """
    answer = await client.post(gateway, request.endpoint, request.body())
    if answer.status == _PAYMENT_REQUIRED:
        return pin_terms(read_challenge(answer.headers, answer.body), gateway.networks, gateway.base_url, payer)
    if answer.status in (200, _ACCEPTED):
        raise AnswerUnusable(
            f"{gateway.name} answered without asking for a payment.",
            "It is not an x402 image gateway, or not one that we know; see `%blockrun use`.",
        )
    error = refusal(answer, gateway)
    raise type(error)(error.what, f"Nothing was signed. {error.do}")


async def look_up(client: Client, ledger: Ledger, gateway: Gateway, payment: Payment, now: float) -> bool | None:
    """Ask whether `payment` was cashed, and settle or release it accordingly.

    Returns True (settled), False (released) or None (still open). Without a witness, a payment that
    the gateway refused is released when it has expired; one that was lost stays open.
    """
    if payment.state not in (State.SUBMITTED, State.POLLING, State.UNKNOWN):
        return {State.SETTLED: True, State.RELEASED: False}.get(payment.state)
    used, transaction = None, None
    if payment.network and payment.payer and payment.nonce:
        used, transaction = await authorization_used(client, gateway, payment.network, payment.payer, payment.nonce)
    if used:
        ledger.settle(payment.id, transaction, "found when looked up")
        return True
    if now >= expired_at(payment) and (used is False or payment.refused):
        ledger.release(payment.id, "expired unused" if used is False else "refused, then expired")
        return False
    return None


def usable_until(payment: Payment) -> float:
    """Return the Unix time until which a gateway still takes this signature."""
    return (payment.valid_before or 0) - _LAST_MOMENT


def expired_at(payment: Payment) -> float:
    """Return the Unix time from which this signature can certainly not be cashed any more."""
    return (payment.valid_before or 0) + _CHAIN_CLOCK
