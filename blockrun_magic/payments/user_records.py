"""A user's records for cells, commands and the panel: spend, limits, open payments and purchases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blockrun_magic.payments.ledger import reports
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, Caps
from blockrun_magic.payments.ledger.records import Payment, Purchase, StoredImage
from blockrun_magic.payments.ledger.years.search import HistorySearch
from blockrun_magic.payments.ledger.years.sums import add_some

__all__ = ["UserRecords"]

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class UserRecords:
    """The queries of a front end over one ledger; every method raises LedgerError if it cannot be read.

    `when` is "session", "today" (UTC) or "all".
    """

    _ledger: Ledger

    # -- spend and limits

    def spending(self, realm: str, when: str) -> reports.Spending:
        """Return the spend in `realm`, and the sum at risk."""
        return reports.spending_summary(self._ledger, realm, when)

    def spending_by_model(self, realm: str, when: str) -> list[tuple[str, int, int, int]]:
        """Return (model, payments, settled micro-USDC, micro-USDC at risk), the most expensive first."""
        return reports.spending_by_model(self._ledger, realm, when)

    def spending_by_day(self, realm: str, when: str) -> list[tuple[float, int]]:
        """Return (Unix time, settled micro-USDC) of each UTC day that had any."""
        return reports.spending_by_day(self._ledger, realm, when)

    def add_up(self) -> bool:
        """Add up some settled payments, so that not all have to be read; return whether more may be left."""
        return add_some(self._ledger)

    def payment_list(self, realm: str, when: str) -> reports.PaymentList:
        """Return every payment that was settled or is at risk, as plain values."""
        return reports.list_payments(self._ledger, realm, when)

    def start_of(self, when: str) -> float:
        """Return the start of a period in Unix seconds; a session begins with its first payment."""
        now = self._ledger.clock()
        if when == "session":
            return self._ledger.session_started_at() or now
        return now - now % _DAY if when == "today" else 0.0

    def limits(self, defaults: Caps = DEFAULT_CAPS) -> Caps:
        """Return the current limits: those that were set, otherwise `defaults`."""
        return self._ledger.caps(defaults)

    def set_limits(self, **micros: int | None) -> Caps:
        """Change some of the limits (`image`, `session`, `day`, micro-USDC; None removes one); return all of them."""
        return self._ledger.set_caps(**micros)

    # -- open payments

    def open_payments(self) -> list[Payment]:
        """Return every payment at risk, oldest first."""
        return self._ledger.open_payments()

    def open_purchases(self) -> list[Purchase]:
        """Return the purchases that are paid or at risk and have no image yet, oldest first."""
        return self._ledger.open_purchases()

    def resumable(self) -> list[Purchase]:
        """Return the purchases without an image, and the delivered ones that lack images."""
        return self._ledger.open_purchases() + self._ledger.incomplete_purchases()

    def payments_of(self, purchase: Purchase) -> list[Payment]:
        """Return every payment of a purchase, oldest first."""
        return self._ledger.payments(purchase.id)

    # -- purchases

    def find(self, prefix: str) -> Purchase | None:
        """Return the one purchase whose id starts with `prefix`, or None."""
        return self._ledger.purchase_by_id(prefix)

    def purchase(self, realm: str, digest: str, take: int) -> Purchase | None:
        """Return the purchase of this request and take, or None."""
        return self._ledger.purchase(realm, digest, take)

    def takes(self, realm: str, digest: str) -> Sequence[Purchase]:
        """Return the purchases of this request, by their take."""
        return self._ledger.takes(realm, digest)

    def finished_takes(self, realm: str, digest: str) -> set[int]:
        """Return the numbers of the bought takes of this request."""
        return {purchase.take for purchase in self._ledger.takes(realm, digest) if purchase.finished_at is not None}

    def count_finished(self, realm: str, request: Mapping[str, Any]) -> int:
        """Return the number of finished purchases with these fields and any images."""
        return self._ledger.count_finished(realm, request)

    def search(self, search: HistorySearch, limit: int, offset: int = 0) -> Sequence[Purchase]:
        """Return the finished purchases that match `search`, newest first."""
        return self._ledger.search_finished(search, limit, offset)

    def images_of(self, purchase: Purchase) -> list[StoredImage]:
        """Return the images of a purchase, in the gateway's order."""
        return self._ledger.images(purchase.id)

    def cost_of(self, purchase: Purchase) -> int:
        """Return the micro-USDC that a purchase cost: settled, or still at risk."""
        return self._ledger.amount_paid(purchase.id)

    def usual_seconds(self, model: str, size: str) -> float | None:
        """Return the median seconds of the last images of this kind, or None before there are three."""
        return self._ledger.usual_seconds(model, size)
