"""Ledger entries for unpaid requests that were answered: the list price counts until the user resolves it."""

from __future__ import annotations

from typing import NoReturn

from blockrun_magic.errors import BlockrunError, PaymentOutcomeUnknown
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.studio.payment.method import PurchaseContext, money_of
from blockrun_magic.studio.payment.unasked import AnsweredUnasked

__all__ = ["book", "refuse_twice"]


def book(context: PurchaseContext, error: AnsweredUnasked) -> AnsweredUnasked:
    """Return `error`, once the ledger counts the list price as a payment that may have been made elsewhere.

    It counts even beyond the limits, because it may have been charged already.
    """
    amount = SNAPSHOT.list_price(context.request.price_key) or context.ledger.caps().image
    try:
        payment = context.ledger.reserve(context.purchase, amount, prepaid=True, spent=True)
    except BlockrunError as refused:
        raise refused.with_money(error.money) if error.money else refused from error
    context.ledger.submit(payment.id)
    context.progress.sent = True
    error.payment = context.ledger.mark_unknown(payment.id, "may have been charged by a proxy")
    error.money = money_of(error.payment)
    return error


def refuse_twice(payment: Payment) -> NoReturn:
    """Raise PaymentOutcomeUnknown for a payment that another server may have made: its request is not sent again."""
    raise PaymentOutcomeUnknown(
        f"{payment.gateway} answered this request without asking for a payment: it may have paid on its own.",
        "Buy another take with --fresh at another gateway, or record the outcome with"
        f" `%blockrun resolve {payment.purchase_id} --charged` or `--not-charged`.",
        money_of(payment),
    )
