"""Request bodies of OpenAI's image API and of ClawRouter's, converted for the studio.

Sources: OpenAI's API reference, "Images"; for `image2image`, the gateway protocol, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import FlagError, RequestError
from blockrun_magic.gateway.catalog.sizes import read_size
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.proxy.errors import BadRequest
from blockrun_magic.safejson import read_json
from blockrun_magic.text import did_you_mean

if TYPE_CHECKING:
    from starlette.requests import Request

    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.gateway.request import Operation, Upload

__all__ = ["Choices", "Source", "build_request", "read_choices", "read_fields", "sources_in"]

Source = str | bytes
"""An image from a client: a path, a URL, a data URI, or the bytes of an uploaded file."""

MAX_N = 10
_MAX_IMAGES = 16
_FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_OPENAI = frozenset(
    (
        *("background", "input_fidelity", "image", "image[]", "images", "mask", "model", "moderation", "n"),
        *("output_compression", "output_format", "partial_images", "prompt", "quality"),
        *("response_format", "size", "stream", "style", "user"),
    )
)
_OURS = frozenset({"fresh", "take", "max_price"})
_UNSUPPORTED = {
    "stream": ((False,), "Images are not streamed in parts: leave `stream` out."),
    "partial_images": ((0,), "Images are not streamed in parts: leave `partial_images` out."),
    "background": ((), "No model here takes `background`: say it in the prompt."),
    "input_fidelity": (("low",), "No model here takes `input_fidelity`: leave it out."),
    "style": (("vivid", "natural"), "No model here takes `style`: say it in the prompt."),
}
"""Fields that would change the image but that no gateway takes: their ignored values, and advice for the others."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Choices about buying and returning an image.

    `max_price` is in micro-USDC for the whole request; `response_format` is "url", "b64_json" or None if the client
    does not choose; `media_type` is None for the image as the gateway made it; `compression` is 0 to 100.
    """

    fresh: bool = False
    take: int | None = None
    max_price: int | None = None
    response_format: str | None = None
    media_type: str | None = None
    compression: int | None = None


async def read_fields(request: Request) -> dict[str, Any]:
    """Return the fields of a JSON or multipart body; files as bytes, several images as a list.

    Raises BadRequest.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        return await _read_form(request)
    if content_type not in ("application/json", ""):
        raise BadRequest("Send JSON with `Content-Type: application/json`, or a multipart form.", status=415)
    try:
        fields = read_json(await request.body())
    except ValueError:
        raise BadRequest("The body is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise BadRequest("The body must be a JSON object with at least `prompt`.")
    return fields


async def _read_form(request: Request) -> dict[str, Any]:
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    fields: dict[str, Any] = {}
    try:
        form = await request.form(max_files=_MAX_IMAGES + 1, max_fields=100)
    except HTTPException as error:
        raise BadRequest(f"The multipart body cannot be read: {error.detail}") from None
    try:
        for name, value in form.multi_items():
            content = await value.read() if isinstance(value, UploadFile) else value
            if name in ("image", "image[]"):
                fields.setdefault("image", []).append(content)
            elif name in fields:
                raise BadRequest(f"`{name}` is given twice.", name)
            else:
                fields[name] = content
    finally:
        await form.close()
    return fields


def sources_in(fields: Mapping[str, Any]) -> tuple[list[Source], Source | None]:
    """Return the images and the mask of an edit; raises BadRequest."""
    given = fields.get("image", fields.get("image[]", fields.get("images")))
    images = [_reference(each) for each in (given if isinstance(given, list) else [] if given is None else [given])]
    mask = _reference(fields.get("mask"))
    if not images:
        raise BadRequest("`image` is missing: a file, a path, a URL or a data URI.", "image")
    if len(images) > _MAX_IMAGES:
        raise BadRequest(f"Send at most {_MAX_IMAGES} images.", "image")
    for name, value in [*(("image", image) for image in images), ("mask", mask)]:
        if not isinstance(value, str | bytes) and not (name == "mask" and value is None):
            raise BadRequest(f"`{name}` must be a file, or a string with a path, a URL or a data URI.", name)
    return images, mask or None


def _reference(value: Any) -> Any:
    """Return the text of a source: OpenAI's JSON wraps a URL or a data URI in an object with `image_url`."""
    return value.get("image_url", value) if isinstance(value, dict) else value


def build_request(
    fields: Mapping[str, Any],
    operation: Operation,
    catalog: Catalog,
    images: tuple[Upload, ...] = (),
    mask: Upload | None = None,
) -> ImageRequest:
    """Return the request that `fields` describe, with the catalog's defaults; raises BadRequest."""
    for name in sorted(fields.keys() - _OPENAI - _OURS):
        raise BadRequest(f"Unknown parameter: `{name:.40}`. Leave it out.", name[:40], code="unknown_parameter")
    for name, (neutral, advice) in _UNSUPPORTED.items():
        if fields.get(name) not in (None, *neutral, "auto", "", "false", "0"):
            raise BadRequest(advice, name, code="unsupported_parameter")
    prompt = _text(fields, "prompt")
    if not prompt or not prompt.strip():
        raise BadRequest("`prompt` is missing: describe the image.", "prompt")
    model = _text(fields, "model")
    full = _resolved(model, catalog) if model else catalog.default_model(operation)
    size, quality = _text(fields, "size"), _text(fields, "quality")
    return ImageRequest(
        operation=operation,
        prompt=prompt,
        model=full,
        size=_sized(size, full, catalog),
        quality=None if quality in (None, "", "auto", "standard") else quality,
        n=_whole(fields, "n", 1, MAX_N) or 1,
        images=images,
        mask=mask,
    )


def _resolved(model: str, catalog: Catalog) -> str:
    try:
        return catalog.resolve(model)
    except RequestError as error:
        names = (name for each in catalog.models for name in each.names)
        advice = f"{error.message} {did_you_mean(model, names)}GET /v1/models lists them."
        raise BadRequest(advice, "model", code="model_not_found") from None


def _sized(size: str | None, model: str, catalog: Catalog) -> str:
    try:
        return read_size(size, model, catalog)
    except FlagError as error:
        raise BadRequest(f"{error.message} GET /v1/models lists the sizes.", "size", code="invalid_value") from None


def read_choices(fields: Mapping[str, Any]) -> Choices:
    """Return the choices about buying and returning the image; raises BadRequest."""
    response_format = _text(fields, "response_format")
    if response_format not in (None, "url", "b64_json"):
        raise BadRequest('`response_format` is "url" or "b64_json".', "response_format")
    output_format = _text(fields, "output_format")
    if output_format is not None and output_format not in _FORMATS:
        raise BadRequest('`output_format` is "png", "jpeg" or "webp".', "output_format")
    return Choices(
        fresh=_flag(fields, "fresh"),
        take=_whole(fields, "take", 1, 1_000_000),
        max_price=_price(fields.get("max_price")),
        response_format=response_format,
        media_type=None if output_format is None else _FORMATS[output_format],
        compression=_whole(fields, "output_compression", 0, 100),
    )


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"`{name}` must be a string.", name)
    return value


def _whole(fields: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"`{name}` must be a whole number from {low} to {high}.", name)
    return value


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value in (None, False, "false"):
        return False
    if value in (True, "true"):
        return True
    raise BadRequest(f"`{name}` must be true or false.", name)


def _price(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError):
            return parse_usd(str(value))
    raise BadRequest('`max_price` is an amount in US dollars, such as "0.10".', "max_price")
