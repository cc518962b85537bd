"""Results of finished purchases, from the ledger's receipts and the store's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import StoreError
from blockrun_magic.images.formats import decode
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment, Purchase, StoredImage
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.studio.results.images import StoredImages
from blockrun_magic.studio.results.result import ImageResult, Receipt

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["StoredResults", "result_of"]


class StoredResults:
    """Finished purchases, loaded from the ledger's receipts and the store's files."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self._store = store

    def is_complete(self, purchase: Purchase) -> bool:
        """Return whether a finished purchase has all its files; does not read them."""
        images = self._ledger.images(purchase.id)
        return bool(images) and all(self._store.has(image.file, image.media_type) for image in images)

    def find(self, realm: str, digest: str, take: int) -> ImageResult | None:
        """Return a finished purchase, or None; its files are not checked. Raises StoreError."""
        purchase = self._ledger.purchase(realm, digest, take)
        if purchase is None or purchase.finished_at is None:
            return None
        return self.load(purchase, checked=False)

    def load(self, purchase: Purchase, *, checked: bool = True) -> ImageResult:
        """Return a finished purchase from the store; raises StoreError.

        With `checked`, every file is read and checked now; otherwise, when it is used.
        """
        stored = self._ledger.images(purchase.id)
        if not stored:
            raise StoreError(f"The images of {purchase.id} are not in the ledger.", "Buy another take with --fresh.")
        images = [self._open(image) if checked else None for image in stored]
        files = [self._store.path(image.file, image.media_type) for image in stored]
        payments = self._ledger.payments(purchase.id)
        paid = next((p for p in reversed(payments) if p.state is not State.RELEASED), payments[-1])
        notes = []
        if len(stored) < purchase.request["n"]:
            notes.append(f"{len(stored)} of the {purchase.request['n']} images are stored.")
        if any(entry.get("missing") for entry in purchase.answer or ()):
            notes.append(f"`%blockrun resume {purchase.id}` asks for missing images again and pays nothing.")
        return result_of(purchase, paid, stored, files, purchase.seconds or 0.0, images, cached=True, notes=notes)

    def reopen(self, purchase: Purchase, error: StoreError) -> Purchase:
        """Reopen a purchase whose stored image cannot be used, and return it; raises `error` if it was not paid."""
        if all(payment.state is State.RELEASED for payment in self._ledger.payments(purchase.id)):
            raise error
        self._ledger.reopen(purchase.id)
        return replace(purchase, finished_at=None)

    def _open(self, stored: StoredImage) -> Image:
        data = self._store.get(stored.file, stored.media_type)
        path = self._store.path(stored.file, stored.media_type)
        return decode(
            data, StoreError, f"The stored image {path}", "Restore it from a backup, or buy another take with --fresh."
        )


def result_of(
    purchase: Purchase,
    paid: Payment,
    stored: Sequence[StoredImage],
    files: Sequence[Path],
    seconds: float,
    images: Sequence[Image | None],
    *,
    cached: bool = False,
    notes: Sequence[str] = (),
) -> ImageResult:
    """Return `images` with the receipt of the payment that bought them; one that is None is opened when it is used."""
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
    return ImageResult(purchase.request, receipt, stored, files, seconds, StoredImages(files, images), tuple(notes))
