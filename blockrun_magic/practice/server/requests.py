"""Request bodies of the practice gateway, read into an `ImageRequest` or refused with the reason."""

from __future__ import annotations

import base64
import binascii
import io
import re
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import RequestError
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.practice.server.triggers import Triggers, UnknownTrigger
from blockrun_magic.safejson import read_json

if TYPE_CHECKING:
    from PIL import Image
    from starlette.requests import Request

    from blockrun_magic.gateway.catalog.catalog import Catalog, Model
    from blockrun_magic.gateway.request import Operation

__all__ = ["InvalidRequest", "open_image", "order_from", "read_fields"]

_DEFAULT_MODEL: dict[str, str] = {"generate": "google/nano-banana", "edit": "openai/gpt-image-2"}
_DATA_URI = re.compile(r"data:(image/(?:png|jpeg|jpg|webp));base64,", re.IGNORECASE)
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "MPO": "image/jpeg"}
_MAX_PIXELS = 64_000_000
_MAX_N = 10
_MAX_TEXT = 16 * 2**20
"""Bytes of a field without a file name: a data URI may be in one."""


class InvalidRequest(Exception):
    """A request that is answered with an error `status` and `body`."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.body = body
        super().__init__(status)


def _plain(details: str, message: str = "Invalid request body") -> InvalidRequest:
    """Return a 400 in the first documented shape."""
    return InvalidRequest(400, {"error": message, "details": details})


def _typed(message: str, code: str) -> InvalidRequest:
    """Return a 400 in the second documented shape."""
    return InvalidRequest(400, {"error": {"message": message, "type": "invalid_request_error", "code": code}})


async def read_fields(http: Request) -> dict[str, Any]:
    """Return the fields of a JSON or multipart body, files as bytes; raises InvalidRequest."""
    if http.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await _read_form(http)
    try:
        fields = read_json(await http.body())
    except ValueError:
        raise _plain("The body is not JSON.") from None
    if not isinstance(fields, dict):
        raise _plain("The body must be a JSON object with model and prompt.")
    return fields


async def _read_form(http: Request) -> dict[str, Any]:
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    fields: dict[str, Any] = {}
    try:
        async with http.form(max_part_size=_MAX_TEXT) as form:
            for name, value in form.multi_items():
                content = await value.read() if isinstance(value, UploadFile) else value
                if name in {"image", "image[]"} and isinstance(content, bytes):
                    fields.setdefault("image", []).append(content)
                else:
                    fields[name] = content
    except HTTPException as error:
        raise _plain(f"The multipart body cannot be read: {error.detail}") from None
    return fields


def open_image(data: bytes) -> Image.Image:
    """Return the PNG, JPEG or WebP in `data`, its pixels not read; raises ValueError and what Pillow raises.

    `Image.open` is not used: its pixel limit is a global setting of the notebook in which this server may run.
    """
    from PIL import Image

    Image.init()
    for form in ("PNG", "JPEG", "WEBP"):
        factory, accepts = Image.OPEN[form]
        if accepts is None or accepts(data[:16]) is True:
            return factory(io.BytesIO(data), "")
    raise ValueError("not a PNG, JPEG or WebP")


def _upload(data: bytes, field: str) -> Upload:
    """Return the image in `data`, its type detected from its bytes; raises InvalidRequest."""
    from PIL import Image

    try:
        with open_image(data) as image:
            media_type, pixels = _FORMATS[str(image.format)], image.width * image.height
            if pixels > _MAX_PIXELS:
                raise _typed(f"{field} has {pixels} pixels; send at most {_MAX_PIXELS}.", "image_too_large")
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _typed(f"{field} cannot be read: send a PNG, JPEG or WebP.", "invalid_image") from None
    return Upload.from_file_bytes(data, media_type)


def _image(value: Any, field: str) -> Upload:
    """Return the image in a file of a form, or in a data URI; raises InvalidRequest."""
    if isinstance(value, bytes):
        return _upload(value, field)
    match = _DATA_URI.match(value) if isinstance(value, str) else None
    if match is None:
        raise _typed(f"{field} must be a data URI of a PNG, JPEG or WebP: data:image/png;base64,...", "invalid_image")
    try:
        data = base64.b64decode(value[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise _typed(f"{field} is not valid base64.", "invalid_image") from None
    return _upload(data, field)


def _text(fields: dict[str, Any], name: str, default: str | None) -> str | None:
    value = fields.get(name, default)
    if value is not None and not isinstance(value, str):
        raise _plain(f"{name} must be a string.")
    return value


def _count(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:4])
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_N:
        raise _typed(f"n must be a whole number from 1 to {_MAX_N}.", "invalid_n")
    return value


def _images(fields: dict[str, Any], operation: Operation) -> tuple[tuple[Upload, ...], Upload | None]:
    if operation == "generate":
        return (), None
    given = fields.get("image")
    if not given:
        raise _plain("image is required: a data URI, or an array of them to fuse.")
    images = tuple(_image(each, "image") for each in (given if isinstance(given, list) else [given]))
    mask = fields.get("mask")
    return images, None if mask is None else _image(mask, "mask")


def _abilities(model: Model) -> str:
    """Return a sentence about the sizes, qualities and edits of a model."""
    qualities = f"; quality {' or '.join(model.qualities)}" if model.qualities else ""
    edits = f"edits with up to {model.max_images} images" if model.edits else "no edits"
    return f"{model.id} takes {', '.join(model.sizes)}{qualities}; {edits}{', mask' if model.takes_mask else ''}."


def order_from(fields: dict[str, Any], operation: Operation, catalog: Catalog) -> tuple[ImageRequest, Triggers]:
    """Return the request in `fields`, and its triggers; raises InvalidRequest."""
    prompt = _text(fields, "prompt", None)
    if not prompt or not prompt.strip():
        raise _plain("prompt is required and must not be empty.")
    name = _text(fields, "model", None) or _DEFAULT_MODEL[operation]
    model = catalog.find(name)
    if model is None or model.id != name:
        hint = f" Did you mean {model.id}?" if model else " GET /v1/models lists the models."
        raise _typed(f"Unknown model: {name}.{hint}", "model_not_found")
    images, mask = _images(fields, operation)
    request = ImageRequest(
        operation=operation,
        prompt=prompt,
        model=name,
        size=_text(fields, "size", None) or model.sizes[0],
        quality=_text(fields, "quality", None),
        n=_count(fields.get("n", 1)),
        images=images,
        mask=mask,
    )
    try:
        catalog.check(request)
        return request, Triggers.read(prompt)
    except RequestError as error:
        raise _typed(f"{error.message} {_abilities(model)}", "invalid_request") from None
    except UnknownTrigger as error:
        raise _plain(str(error)) from None
