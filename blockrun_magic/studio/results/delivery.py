"""From a paid answer to kept pictures: fetch, check, write the receipt inside, store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import InvalidResponse, StoreError
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.responses import ImagePayload
from blockrun_magic.images.formats import decode
from blockrun_magic.images.media_types import media_type_of
from blockrun_magic.images.provenance import attach, embed
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.records import Payment, Purchase, StoredImage
from blockrun_magic.payments.money import to_decimal

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageDownload", "items_from_record", "items_to_record", "receipt_record"]


@dataclass(frozen=True, slots=True)
class ImageDownload:
    """Brings an answer's pictures home, for one purchase and the payment that bought it."""

    client: Client
    store: Store
    gateway: Gateway
    purchase: Purchase
    payment: Payment

    async def fetch_all(self, items: Sequence[ImagePayload]) -> list[tuple[StoredImage, Image.Image]]:
        """Return every picture, kept and decoded; raises AnswerUnusable, StoreError, GatewayUnreachable."""
        return list(await asyncio.gather(*(self._bring(index, item) for index, item in enumerate(items))))

    async def _bring(self, index: int, item: ImagePayload) -> tuple[StoredImage, Image.Image]:
        data = item.data
        if data is None:
            data = await self.client.download(item.url or "", self.gateway)
        return await asyncio.to_thread(self._keep, index, data, item.revised_prompt)

    def _keep(self, index: int, data: bytes, revised_prompt: str | None) -> tuple[StoredImage, Image.Image]:
        try:
            image = decode(data, InvalidResponse, "The gateway's answer", "")
        except InvalidResponse as error:
            kept = self.store.quarantine(data)
            raise InvalidResponse(error.message, f"What came is kept in {kept}.") from error
        media_type = media_type_of(data)
        assert media_type is not None  # noqa: S101  decode has just told
        if not self.purchase.private:
            record = receipt_record(self.purchase, self.payment, index, revised_prompt)
            attach(image, record)
            with suppress(StoreError):  # a picture that takes no receipt is kept without one
                data = embed(data, media_type, record)
        file = self.store.put(data, media_type)
        return StoredImage(file, media_type, image.width, image.height, revised_prompt), image


def receipt_record(purchase: Purchase, payment: Payment, index: int, revised_prompt: str | None) -> dict[str, Any]:
    """Return what is written inside a picture: how it was made and how it was paid for."""
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


def items_to_record(items: Sequence[ImagePayload]) -> list[dict[str, Any]]:
    """Return where an answer's pictures are to be fetched from, for the ledger; nothing unless each has an address."""
    if not all(item.url for item in items):
        return []
    return [{"url": item.url, "revised_prompt": item.revised_prompt} for item in items]


def items_from_record(record: Sequence[Mapping[str, Any]] | None) -> list[ImagePayload] | None:
    """Return the kept addresses of an answer, or None unless every picture has one."""
    if not record or not all(entry.get("url") for entry in record):
        return None
    return [ImagePayload(url=entry["url"], revised_prompt=entry.get("revised_prompt")) for entry in record]
