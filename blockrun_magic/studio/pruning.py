"""What may be removed from the store: only what the ledger holds the receipt of."""

from __future__ import annotations

from dataclasses import dataclass

from blockrun_magic.images.store import Store, StoredFile
from blockrun_magic.payments.ledger.ledger import Ledger

__all__ = ["PrunePlan", "plan_pruning"]


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """The files that may go, what they cost in real micro-USDC, and how many must stay unasked."""

    files: tuple[StoredFile, ...]
    paid: int
    without_receipt: int


def plan_pruning(
    ledger: Ledger, store: Store, now: float, *, older_than: float | None, larger_than: int | None
) -> PrunePlan:
    """Return what to remove: files older than `older_than` seconds, then the oldest above a total size.

    `larger_than` is in bytes. A file the ledger does not know, or one that an open purchase still
    needs, stays.
    """
    receipts = _receipts(ledger)
    files = store.files()
    known = [file for file in files if file.digest in receipts]
    chosen = [file for file in known if older_than is not None and now - file.written_at > older_than]
    if larger_than is not None:
        left = sum(file.size for file in files) - sum(file.size for file in chosen)
        going = {file.path for file in chosen}
        for file in known:
            if left <= larger_than:
                break
            if file.path not in going:
                chosen.append(file)
                left -= file.size
    paid = {purchase: amount for file in chosen for purchase, amount in receipts[file.digest].items()}
    return PrunePlan(tuple(chosen), sum(paid.values()), len(files) - len(known))


def _receipts(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Return, for each file that may go, the purchases it belongs to and their real micro-USDC."""
    rows = ledger.query(
        """SELECT file, purchases.id, purchases.realm, coalesce(
            (SELECT sum(amount) FROM authorizations WHERE purchase_id = purchases.id AND state = 'settled'), 0
        ) AS paid
        FROM pictures JOIN purchases ON purchases.id = purchase_id WHERE finished_at IS NOT NULL"""
    )
    receipts: dict[str, dict[str, int]] = {}
    for row in rows:
        receipts.setdefault(row["file"], {})[row["id"]] = row["paid"] if row["realm"] == "real" else 0
    uploads = ledger.query(
        """SELECT json_extract(value, '$.file') AS file, min(finished_at IS NOT NULL) AS done
        FROM purchases, json_each(request, '$.uploads') GROUP BY 1"""
    )
    for row in uploads:
        if row["done"]:
            receipts.setdefault(row["file"], {})
        else:
            receipts.pop(row["file"], None)
    return receipts
