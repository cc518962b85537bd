"""What was bought, as results: from the store at no cost, or as it has just come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.errors import StoreError
from blockrun_magic.images.formats import decode
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Purchase, StoredImage
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.studio.results.result import ImageResult, Receipt

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Shelf"]


class Shelf:
    """The ledger's receipts and the store's files, put together."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self._store = store

    def load(self, purchase: Purchase) -> ImageResult:
        """Return a finished purchase from the store; every file is read and checked now."""
        pictures = self._ledger.images(purchase.id)
        images = [self._open(kept) for kept in pictures]
        return self.result(purchase, pictures, purchase.seconds or 0.0, images, cached=True)

    def _open(self, kept: StoredImage) -> Image:
        data = self._store.get(kept.file, kept.media_type)
        return decode(data, StoreError, "The kept picture", "Buy another take with --fresh.")

    def result(
        self,
        purchase: Purchase,
        pictures: list[StoredImage],
        seconds: float,
        images: list[Image],
        *,
        cached: bool,
    ) -> ImageResult:
        """Return `pictures`, decoded as `images`, with the receipt of how they were paid for."""
        payments = self._ledger.payments(purchase.id)
        paid = next((p for p in reversed(payments) if p.state is not State.RELEASED), payments[-1])
        receipt = Receipt(
            amount=paid.amount,
            realm=purchase.realm,
            gateway=purchase.gateway,
            network=paid.network,
            transaction=paid.transaction,
            payer=paid.payer,
            purchased_at=purchase.purchased_at,
            request_digest=purchase.digest,
            take=purchase.take,
            purchase_id=purchase.id,
            settled=paid.state is State.SETTLED,
            cached=cached,
            estimated=paid.estimated,
        )
        files = [self._store.path(kept.file, kept.media_type) for kept in pictures]
        return ImageResult(purchase.request, receipt, pictures, files, seconds, images)
