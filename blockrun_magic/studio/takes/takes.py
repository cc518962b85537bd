"""Takes of requests: the one to use, and its purchase, started under its lock."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial

from blockrun_magic.errors import Money, PaymentOutcomeUnknown, StoreError
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.records import Purchase
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.studio.options import Options
from blockrun_magic.studio.payment.method import money_of
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.results.requests import request_to_record
from blockrun_magic.studio.services import PurchaseServices
from blockrun_magic.studio.takes.locks import PurchaseLocks

__all__ = ["Takes"]


class Takes:
    """The takes of all requests; a purchase is started under its lock, if buying is allowed and a key can pay."""

    def __init__(self, services: PurchaseServices, locks: PurchaseLocks) -> None:
        self._ledger, self._store, self._wallets = services.ledger, services.store, services.wallets
        self._locks = locks

    def purchase(self, request: ImageRequest, gateway: Gateway, options: Options) -> Purchase | None:
        """Return the purchase of the take to use, or None before it is started."""
        realm, digest = gateway.realm, request.digest
        take = self._locks.resolve_take(realm, digest, take=options.take, fresh=options.fresh)
        return self._ledger.purchase(realm, digest, take)

    def start(
        self, request: ImageRequest, gateway: Gateway, options: Options, progress: Progress
    ) -> AbstractAsyncContextManager[Purchase]:
        """Hold the lock of the take to use, and yield its purchase: a finished one unchanged, else one to buy.

        Raises BlockrunError if buying is forbidden or no key can pay, before anything is written or sent.
        """
        begin = partial(self._finished_or_started, request, gateway, options)
        return self._locks.acquire(
            gateway.realm,
            request.digest,
            progress,
            begin,
            take=options.take,
            fresh=options.fresh,
            gateway=gateway.name,
        )

    def start_fresh(
        self, request: ImageRequest, gateway: Gateway, options: Options
    ) -> AbstractAsyncContextManager[Purchase]:
        """Hold the lock of a fresh take, and yield its purchase, which may have been paid for already."""
        realm, digest = gateway.realm, request.digest

        def begin(take: int) -> Purchase:
            return self._started(self._ledger.purchase(realm, digest, take), request, gateway, take, options)

        return self._locks.acquire(realm, digest, Progress(), begin, take=None, fresh=True, gateway=gateway.name)

    def continue_at(self, gateway: Gateway, purchase: Purchase, options: Options) -> Purchase:
        """Return a purchase that is open again, as one of `gateway`; raises BlockrunError as `start` does."""
        self._check_spending(gateway, options)
        return self._moved(purchase, gateway)

    def _finished_or_started(self, request: ImageRequest, gateway: Gateway, options: Options, take: int) -> Purchase:
        purchase = self._ledger.purchase(gateway.realm, request.digest, take)
        if purchase is not None and purchase.finished_at is not None:
            return purchase
        self._check_spending(gateway, options)
        return self._started(purchase, request, gateway, take, options)

    def _started(
        self, purchase: Purchase | None, request: ImageRequest, gateway: Gateway, take: int, options: Options
    ) -> Purchase:
        if purchase is not None:
            return self._moved(purchase, gateway)
        record = request_to_record(request, self._store)
        return self._ledger.create_purchase(
            gateway.realm, gateway.name, request.digest, take, record, private=options.private
        )

    def _moved(self, purchase: Purchase, gateway: Gateway) -> Purchase:
        """Return a purchase that another gateway started as one of `gateway`.

        Raises PaymentOutcomeUnknown if it was paid for, or may have been: a payment is shown only to its gateway.
        """
        if purchase.gateway == gateway.name:
            return purchase
        payment = self._ledger.open_payment(purchase.id)
        while payment is not None and payment.state in (State.RESERVED, State.SIGNED):
            self._ledger.release(payment.id, "never sent")
            payment = self._ledger.open_payment(purchase.id)
        if payment is not None:
            raise PaymentOutcomeUnknown(
                f"This image was started at {purchase.gateway}.",
                f"Continue there with `%blockrun resume {purchase.id}`, or buy another take here with --fresh.",
                money_of(payment),
            )
        return self._ledger.change_gateway(purchase, gateway.name)

    def _check_spending(self, gateway: Gateway, options: Options) -> None:
        self._ledger.check_guards(gateway.realm)
        if options.cache_only:
            raise StoreError(
                "This image is not stored, and only stored images may be used here.",
                "Turn off the cache-only mode to buy it.",
                Money.nothing_sent(),
            )
        self._wallets.check(gateway)
