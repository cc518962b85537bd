"""Bodies of orders: JSON or a multipart form, with the fields of the gateway and of an order."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blockrun_magic.classroom.orders.orders import Wanted
from blockrun_magic.classroom.refusals import Refusal
from blockrun_magic.errors import BlockrunError, SourceError
from blockrun_magic.gateway.request import ENDPOINTS, Operation, Upload
from blockrun_magic.images.formats import load
from blockrun_magic.images.media_types import media_type_of
from blockrun_magic.proxy.errors import BadRequest
from blockrun_magic.proxy.requests import build_request, read_fields, sources_in
from blockrun_magic.safejson import read_json
from blockrun_magic.threads import run_cpu

if TYPE_CHECKING:
    from starlette.requests import Request

    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.proxy.requests import Source

__all__ = ["is_key", "read_object", "read_wanted", "wait_of"]

_KEY = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OF_AN_ORDER = frozenset({"path", "take", "max_price_micros", "digest"})
_MAX_TAKE, _MAX_PRICE = 1_000_000, 10**12
_MAX_PROMPT_BYTES = 200_000
_OPERATIONS: dict[str, Operation] = {path: operation for operation, path in ENDPOINTS.items()}
_DATA_URI = re.compile(r"data:image/[a-z+.-]{1,20};base64,", re.IGNORECASE)


def is_key(text: str) -> bool:
    """Return whether a text can be the key of an order: 32 hex digits."""
    return _KEY.fullmatch(text) is not None


async def read_object(request: Request, limit: int = 100_000) -> dict[str, Any]:
    """Return the JSON object in a body; raises Refusal (422)."""
    body = await request.body()
    if len(body) > limit:
        raise Refusal(413, "too_large", "The body is too large.", "Send less.")
    try:
        fields = read_json(body, max_values=1000)
    except ValueError:
        raise _bad("The body is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise _bad("The body is not a JSON object.")
    return fields


async def read_wanted(request: Request, key: str, catalog: Catalog) -> Wanted:
    """Return the order in a body; raises Refusal (422)."""
    if not is_key(key):
        raise _bad("The key of an order must be 32 hex digits.")
    try:
        fields = await read_fields(request)
        own = {name: fields.pop(name) for name in _OF_AN_ORDER & fields.keys()}
        operation = _OPERATIONS.get(str(own.get("path", ENDPOINTS["generate"])))
        if operation is None:
            raise _bad(f"`path` must be one of {', '.join(_OPERATIONS)}.")
        _check_prompt(fields.get("prompt"))
        build_request({**fields}, operation, catalog)  # invalid fields are reported before an image is decoded
        images, mask = await run_cpu(_uploads, fields) if operation == "edit" else ((), None)
        image_request = build_request(fields, operation, catalog, images, mask)
    except BadRequest as error:
        raise _bad(error.message) from None
    except BlockrunError as error:
        raise _bad(error.message, error.hint) from None
    take = _whole(own, "take", 1, _MAX_TAKE) or 1
    max_price = _whole(own, "max_price_micros", 0, _MAX_PRICE)
    digest = own.get("digest")
    if digest is not None and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise _bad("`digest` is not a valid digest.")
    text = json.dumps([image_request.digest, take, max_price])
    return Wanted(key, image_request, take, max_price, digest, hashlib.sha256(text.encode()).hexdigest())


def wait_of(request: Request) -> float:
    """Return the seconds that a caller wants to wait: `?wait=25` or `Prefer: wait=25`; 0 without."""
    text = request.query_params.get("wait")
    if text is None:
        preference = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,4})", request.headers.get("prefer", ""), re.IGNORECASE)
        text = preference[1] if preference else "0"
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0.0


def _check_prompt(prompt: object) -> None:
    """Raise Refusal for a prompt that no database can hold."""
    try:
        if isinstance(prompt, str) and "\0" not in prompt and len(prompt.encode()) <= _MAX_PROMPT_BYTES:
            return
    except UnicodeEncodeError:
        pass
    raise _bad("`prompt` is missing, too long, or contains invalid characters.")


def _uploads(fields: Mapping[str, Any]) -> tuple[tuple[Upload, ...], Upload | None]:
    images, mask = sources_in(fields)
    uploads = tuple(_upload(image, f"image {number}") for number, image in enumerate(images, 1))
    return uploads, None if mask is None else _upload(mask, "mask")


def _upload(source: Source, name: str) -> Upload:
    """Return an image from an uploaded file or a data URI; fetches nothing, and reads no file of this machine."""
    data = source if isinstance(source, bytes) else _decoded(source, name)
    media_type = media_type_of(data)
    if media_type is None:
        raise SourceError(f"The {name} is not a PNG, JPEG or WebP file.", "Send one of these.")
    load(data, f"The {name}")
    return Upload.from_file_bytes(data, media_type)


def _decoded(source: str, name: str) -> bytes:
    data_uri = _DATA_URI.match(source)
    if data_uri is None:
        raise SourceError(f"The {name} is neither a file nor a data URI.", "Send its bytes.")
    try:
        return base64.b64decode(source[data_uri.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise SourceError(f"The {name} is not valid base64.", "Send its bytes.") from None


def _whole(fields: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = fields.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and low <= value <= high):
        return value
    raise _bad(f"`{name}` must be a whole number from {low} to {high}.")


def _bad(message: str, hint: str = "Correct the request, then send it again.") -> Refusal:
    return Refusal(422, "bad_request", message, hint)
