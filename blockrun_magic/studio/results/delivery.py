"""Delivery: from a paid response to stored images, each one independent of the others.

Good images are stored and returned. The bytes of a bad image are set aside, a note says so, and the image can be
requested again. Paid images are returned even if neither the store nor the ledger can be written.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import BlockrunError, InvalidResponse, LedgerError, StoreError
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.responses import ImagePayload
from blockrun_magic.images.formats import decode, open_lazy, size_of_png
from blockrun_magic.images.media_types import media_type_of
from blockrun_magic.images.provenance import attach, embed
from blockrun_magic.images.store import Store, write_temporary
from blockrun_magic.payments.cost_log import append_settled
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment, Purchase, StoredImage
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.money import to_decimal
from blockrun_magic.studio.results.pixels import PixelBudget
from blockrun_magic.studio.results.result import ImageResult
from blockrun_magic.studio.results.stored import result_of
from blockrun_magic.threads import run_cpu, run_io

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageDownload", "has_missing_images", "items_from_record", "items_to_record", "receipt_record"]

_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Delivered:
    """One delivered image: its file, a note if the file is outside the store, and `image` if it had to be decoded."""

    stored: StoredImage
    image: Image.Image | None
    file: Path
    note: str = ""


@dataclass(frozen=True, slots=True)
class ImageDownload:
    """Delivery of a response's images, for one purchase and the payment that bought it."""

    client: Client
    ledger: Ledger
    store: Store
    gateway: Gateway
    purchase: Purchase
    payment: Payment
    confirm: Callable[[Payment], Awaitable[Payment]]
    """Asks the witness of the payment for a few seconds, and returns the payment."""
    started: float
    """Start of the purchase, on the monotonic clock."""
    pixels: PixelBudget
    """Counts every image before it is decoded."""
    durable: bool = True
    """Whether the delivery is on disk when it is returned; a batch waits for the disk once, at its end."""

    async def deliver(self, items: Sequence[ImagePayload]) -> ImageResult:
        """Store, record and return the good images of `items`; raises the first error if there are none.

        If there are more images than requested, the first n are used.
        """
        wanted = items[: self.purchase.request["n"]]
        notes = _count_notes(self.purchase.request["n"], len(items))
        if any(item.url for item in wanted):
            with suppress(LedgerError):
                await run_io(self.ledger.save_image_urls, self.purchase.id, items_to_record(wanted))
        tries = asyncio.gather(*(self._try(index, item) for index, item in enumerate(wanted)))
        payment, outcomes = await asyncio.gather(self.confirm(self.payment), tries)
        delivered = [outcome for outcome in outcomes if isinstance(outcome, _Delivered)]
        if not delivered:
            raise next(outcome for outcome in outcomes if isinstance(outcome, BlockrunError))
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, BlockrunError):
                notes.append(f"Image {index + 1} is missing: {' '.join(outcome.lines)}".strip())
            elif outcome.note:
                notes.append(outcome.note)
        if any(isinstance(outcome, BlockrunError) for outcome in outcomes):
            notes.append(f"`%blockrun resume {self.purchase.id}` asks for missing images again and pays nothing.")
        notes += await run_io(self._record, payment, wanted, outcomes)
        return result_of(
            self.purchase,
            payment,
            [each.stored for each in delivered],
            [each.file for each in delivered],
            time.monotonic() - self.started,
            [each.image for each in delivered],
            notes=notes,
        )

    def _record(
        self, payment: Payment, items: Sequence[ImagePayload], outcomes: Sequence[_Delivered | BlockrunError]
    ) -> list[str]:
        """Record the delivery, and return notes; the purchase is finished once every image is in the store."""
        notes = self._record_images(payment, items, outcomes)
        append_settled(self.ledger)
        return notes

    def _record_images(
        self, payment: Payment, items: Sequence[ImagePayload], outcomes: Sequence[_Delivered | BlockrunError]
    ) -> list[str]:
        delivered = [outcome for outcome in outcomes if isinstance(outcome, _Delivered)]
        record = items_to_record(items, outcomes)
        try:
            unseen = payment.state in (State.SUBMITTED, State.POLLING)
            with self.ledger.together(durable=self.durable) if unseen else nullcontext():
                if unseen:  # images do not prove a payment
                    self.ledger.mark_unknown(
                        payment.id, "delivered; no witness has seen the payment yet", durable=self.durable
                    )
                if any(each.note for each in delivered):
                    self.ledger.save_image_urls(self.purchase.id, record, durable=self.durable)
                    return []
                seconds = time.monotonic() - self.started
                images = [each.stored for each in delivered]
                self.ledger.finish(self.purchase.id, images, seconds, record, durable=self.durable)
        except LedgerError as error:
            return [f"The images are here, but the ledger could not record them: {error.message} {error.hint}"]
        return []

    async def _try(self, index: int, item: ImagePayload) -> _Delivered | BlockrunError:
        try:
            if item.needs_download:
                data = await self.client.download(item.url or "", self.gateway)
                return await run_cpu(self._store, index, data, item.revised_prompt)
            return await run_cpu(lambda: self._store(index, self._inline(item), item.revised_prompt))
        except BlockrunError as error:
            return error

    def _inline(self, item: ImagePayload) -> bytes:
        """Return the embedded bytes; invalid base64 is set aside unchanged."""
        try:
            data = item.data
        except InvalidResponse as error:
            if item.encoded is not None:
                error.data_file = self._quarantine(bytes(item.encoded))
            raise
        assert data is not None  # noqa: S101  it needs no download
        return data

    def _store(self, index: int, data: bytes, revised_prompt: str | None) -> _Delivered:
        opened = self._check_budget(data)
        size, image, media_type = opened and size_of_png(data, opened), None, "image/png"
        if size is None:
            image = self._decoded(data)
            size, media_type = image.size, media_type_of(data) or media_type
        if not self.purchase.private:
            record = receipt_record(self.purchase, self.payment, index, revised_prompt)
            if image is not None:
                attach(image, record)
            with suppress(StoreError):  # an image that cannot hold a receipt is stored without one
                data = embed(data, media_type, record, decoded=True)
        note = ""
        try:
            file = self.store.put(data, media_type)
            path = self.store.path(file, media_type)
        except StoreError as error:
            file, path = self.store.name_of(data), write_temporary(data, media_type)
            image = image or self._decoded(data)  # there may be no file
            note = f"{error.message} The image is in {path}; run the cell again to store it."
        return _Delivered(StoredImage(file, media_type, *size, revised_prompt), image, path, note)

    def _check_budget(self, data: bytes) -> tuple[int, int] | None:
        """Return the size of an image if there is room for it, or None if it cannot be opened."""
        try:
            width, height = open_lazy(data, "The gateway's image", max_bytes=sys.maxsize).size
        except BlockrunError:
            return None  # decoding it raises the error
        try:
            self.pixels.take(width, height)
        except InvalidResponse as error:
            error.data_file = self._quarantine(data)
            raise
        return width, height

    def _decoded(self, data: bytes) -> Image.Image:
        """Return the image, every pixel read; the bytes of a bad one are set aside."""
        try:
            return decode(data, InvalidResponse, "The gateway's image", "")
        except InvalidResponse as error:
            error.data_file = self._quarantine(data)
            raise

    def _quarantine(self, data: bytes) -> Path:
        try:
            return self.store.quarantine(data)
        except StoreError:
            return write_temporary(data, "application/octet-stream")


def _count_notes(requested: int, count: int) -> list[str]:
    if count < requested:
        return [f"The gateway sent {count} of the {requested} images."]
    if count > requested:
        return [f"The gateway sent {count} images; the first {requested} are used."]
    return []


def receipt_record(purchase: Purchase, payment: Payment, index: int, revised_prompt: str | None) -> dict[str, Any]:
    """Return the metadata of an image: its request and its receipt."""
    request = purchase.request
    record = {
        "prompt": request["prompt"],
        "revised_prompt": revised_prompt,
        "endpoint": request["endpoint"],
        "model": request["model"],
        "size": request["size"],
        "quality": request["quality"],
        "n": request["n"],
        "index": index,
        "take": purchase.take,
        "price_usd": f"{to_decimal(payment.amount):f}",
        "price_estimated": True if payment.estimated else None,
        "money": purchase.realm,
        "gateway": purchase.gateway,
        "network": payment.network,
        "transaction": payment.transaction,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(purchase.purchased_at)),
        "request": purchase.digest,
        "parents": [*request["image"], *([request["mask"]] if request["mask"] else [])],
    }
    return {name: value for name, value in record.items() if value not in (None, [])}


def items_to_record(
    items: Sequence[ImagePayload], outcomes: Sequence[_Delivered | BlockrunError] = ()
) -> list[dict[str, Any]]:
    """Return the files and addresses of a response's images for the ledger, or an empty list if there are none.

    With `outcomes`, an image that is missing is marked, and one that is not in the store has the path of its file.
    """
    entries = []
    for index, item in enumerate(items):
        entry: dict[str, Any] = {"url": item.url, "revised_prompt": item.revised_prompt}
        outcome = outcomes[index] if index < len(outcomes) else None
        if isinstance(outcome, BlockrunError):
            entry["missing"] = True
        elif outcome is not None and outcome.note:
            entry["path"] = str(outcome.file)
        entries.append(entry)
    return entries if any(entry["url"] or len(entry) > 2 for entry in entries) else []


def has_missing_images(purchase: Purchase) -> bool:
    """Return whether a finished purchase lacks an image that can be requested again."""
    return any(entry.get("missing") for entry in purchase.answer or ())


def items_from_record(record: Sequence[Mapping[str, Any]] | None) -> list[ImagePayload] | None:
    """Return the images of an answer by their files and addresses, or None unless every image has one."""
    items = []
    for entry in record or ():
        data = _read_temporary(entry.get("path"))
        if data is None and not entry.get("url"):
            return None
        items.append(ImagePayload(entry.get("url"), None, entry.get("revised_prompt"), data))
    return items or None


def _read_temporary(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError:
        return None
    return data if len(data) <= _MAX_BYTES else None
