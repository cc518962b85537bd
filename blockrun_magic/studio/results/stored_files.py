"""Files of stored images, for cells, commands and the endpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blockrun_magic.images.store import Store, StoredFile
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.studio.pruning import PrunePlan, plan_pruning, remove_files

__all__ = ["StoredFiles"]


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The files of one store. A file is named by the SHA-256 of its bytes and by its media type."""

    _store: Store
    _ledger: Ledger
    _clock: Callable[[], float]

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self._store.root

    def all(self) -> list[StoredFile]:
        """Return all files, in no order."""
        return self._store.files()

    def path(self, digest: str, media_type: str) -> Path:
        """Return the path of a file, which may not exist."""
        return self._store.path(digest, media_type)

    def get(self, digest: str, media_type: str) -> bytes:
        """Return the bytes of a file; raises StoreError if it is missing or damaged."""
        return self._store.get(digest, media_type)

    def prunable(self, *, older_than: float | None = None, larger_than: int | None = None) -> PrunePlan:
        """Return the files that may be removed: by age in seconds, by total size in bytes."""
        return plan_pruning(self._ledger, self._store, self._clock(), older_than=older_than, larger_than=larger_than)

    def prune(self, plan: PrunePlan) -> None:
        """Remove the files of `plan`; their receipts stay in the ledger. Raises OSError."""
        remove_files(plan)
