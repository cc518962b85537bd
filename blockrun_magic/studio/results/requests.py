"""Requests as records of the ledger and back, so that any kernel can continue the purchase of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blockrun_magic.gateway.request import ENDPOINTS, ImageRequest, Operation, Upload
from blockrun_magic.images.store import Store

__all__ = ["request_from_record", "request_to_record"]


def request_to_record(request: ImageRequest, store: Store) -> dict[str, Any]:
    """Return `request` as JSON values, its images put into `store`; raises StoreError."""
    uploads = [*request.images, *([request.mask] if request.mask else [])]
    files = [
        {"file": store.put(upload.data, upload.media_type, _known_name(upload)), "media_type": upload.media_type}
        for upload in uploads
    ]
    return {**request.to_record(), "uploads": files}


def _known_name(upload: Upload) -> str | None:
    """Return the SHA-256 (hex) of an upload that is named by its bytes, None for one that is named by its pixels."""
    return upload.digest.removeprefix("sha256:") if upload.digest.startswith("sha256:") else None


def request_from_record(record: Mapping[str, Any], store: Store) -> ImageRequest:
    """Return the request that `record` describes; raises StoreError if one of its images is missing."""
    digests = [*record["image"], *([record["mask"]] if record["mask"] else [])]
    uploads = [
        Upload(store.get(entry["file"], entry["media_type"]), entry["media_type"], digest)
        for entry, digest in zip(record["uploads"], digests, strict=True)
    ]
    operation: Operation = "edit" if record["endpoint"] == ENDPOINTS["edit"] else "generate"
    return ImageRequest(
        operation=operation,
        prompt=record["prompt"],
        model=record["model"],
        size=record["size"],
        quality=record["quality"],
        n=record["n"],
        images=tuple(uploads[: len(record["image"])]),
        mask=uploads[-1] if record["mask"] else None,
    )
