"""Responses of the local endpoint: images as URLs or as base64, streamed from their files."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import FileResponse, Response, StreamingResponse

from blockrun_magic.images.media_types import suffix_of
from blockrun_magic.payments.money import to_decimal

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.proxy.requests import Choices
    from blockrun_magic.studio import ImageResult
    from blockrun_magic.studio.results.stored_files import StoredFiles

__all__ = ["image_file", "images_response", "model_list"]

_CHUNK = 3 * 65_536
"""Bytes read at a time: a multiple of three, so that the base64 of the pieces can be joined."""
_NAME = re.compile(r"([0-9a-f]{64})\.(png|jpg|jpeg|webp)")
_MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
_PIL_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_DEFAULT_QUALITY = 90
_IMAGE_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
_NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""The `usage` that clients expect: nothing is billed in tokens here."""


def images_response(result: ImageResult, choices: Choices, origin: str) -> Response:
    """Return the images of `result` as OpenAI's API does; `origin` is the server's own, for URLs.

    A client that does not choose a format gets URLs, and for gpt-image models, whose clients expect it, also base64.
    """
    given = choices.response_format
    with_url = given != "b64_json"
    with_bytes = given == "b64_json" or (given is None and "gpt-image" in str(result.request["model"]))
    head = {
        "created": int(result.receipt.purchased_at),
        "usage": _NO_TOKENS,
        "price": {"amount": f"{to_decimal(result.cost_micros):f}", "currency": "USDC"},
        "cached": result.receipt.cached,
        "take": result.receipt.take,
        "payment": {"tx_hash": result.receipt.transaction, "network": result.receipt.network},
    }
    items = []
    for file, image in zip(result.files, result.stored, strict=True):
        media_type = choices.media_type or image.media_type
        item: dict[str, Any] = {}
        if image.revised_prompt:
            item["revised_prompt"] = image.revised_prompt
        if with_url:
            item["url"] = f"{origin}/images/{file.stem}{suffix_of(media_type)}"
        items.append((item, _content(file, image.media_type, choices) if with_bytes else None))
    if not with_bytes:
        return Response(json.dumps({**head, "data": [item for item, _ in items]}), media_type="application/json")
    return StreamingResponse(_json_pieces(head, items), media_type="application/json")


def image_file(files: StoredFiles, name: str) -> Response | None:
    """Return the stored image called `name` (`<sha256>.<suffix>`), converted if the suffix differs."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    digest, target = match[1], _MEDIA_TYPES[match[2]]
    for media_type in (target, *(_PIL_FORMATS.keys() - {target})):
        path = files.path(digest, media_type)
        if not path.is_file():
            continue
        if media_type == target:
            return FileResponse(path, media_type=media_type, headers=_IMAGE_HEADERS)
        return Response(_converted(path, target, None), media_type=target, headers=_IMAGE_HEADERS)
    return None


def model_list(catalog: Catalog, created: int) -> list[dict[str, Any]]:
    """Return the models in OpenAI's format, with the price of an image in US dollars."""
    from blockrun_magic.gateway.request import ENDPOINTS, PriceKey

    entries = []
    for model in catalog.models:
        price = catalog.list_price(PriceKey(ENDPOINTS["generate"], model.id, catalog.default_size(model.id), None, 1))
        entries.append(
            {
                "id": model.id,
                "object": "model",
                "created": created,
                "owned_by": model.id.partition("/")[0],
                "categories": ["image"],
                "sizes": list(model.sizes),
                "supports_editing": model.edits,
                "price_per_image": None if price is None else f"{to_decimal(price):f}",
            }
        )
    return entries


def _content(file: Path, stored: str, choices: Choices) -> Path | bytes:
    target = choices.media_type or stored
    return file if target == stored else _converted(file, target, choices.compression)


def _converted(file: Path, media_type: str, compression: int | None) -> bytes:
    from PIL import Image

    with Image.open(file) as image:
        pixels: Image.Image = image
        if media_type == "image/jpeg" and image.mode not in ("RGB", "L"):
            rgba = image.convert("RGBA")
            pixels = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        buffer = io.BytesIO()
        quality = _DEFAULT_QUALITY if compression is None else compression
        pixels.save(buffer, _PIL_FORMATS[media_type], quality=quality)
    return buffer.getvalue()


def _json_pieces(head: dict[str, Any], items: list[tuple[dict[str, Any], Path | bytes | None]]) -> Iterator[bytes]:
    """Yield the JSON of a response piece by piece, so that no image is held in memory as text."""
    yield json.dumps(head)[:-1].encode() + b', "data": ['
    for index, (item, content) in enumerate(items):
        text = json.dumps(item)[:-1].encode()
        yield (b", " if index else b"") + text + (b", " if item else b"") + b'"b64_json": "'
        if content is not None:
            yield from _base64_pieces(content)
        yield b'"}'
    yield b"]}"


def _base64_pieces(content: Path | bytes) -> Iterator[bytes]:
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield base64.b64encode(piece)
