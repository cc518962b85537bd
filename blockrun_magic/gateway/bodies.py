"""HTTP responses as values: status, headers, and a JSON body whose images are decoded in place.

msgspec returns slices of the body without a copy, so that megabytes of base64 are neither copied nor read as text.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import msgspec
import pybase64

from blockrun_magic.errors import InvalidResponse
from blockrun_magic.gateway.slices import (
    MAX_FIELD,
    Fields,
    Slice,
    read_list,
    read_value,
    size_of,
    split,
    split_body,
    split_common,
)
from blockrun_magic.safejson import MAX_VALUES, check_bounds, read_json
from blockrun_magic.text import sanitize

__all__ = ["ImagePayload", "Response"]

_MAX_WAIT = 120.0
_MAX_HEAD = 200
_MAX_JSON = 1024 * 1024
"""Bytes of a body that is read as plain JSON; a longer one is read only for its short fields and images."""
_SHORTEST_IMAGE = 64
"""Characters of base64 below which a text is not an image: the smallest PNG has 67 bytes."""
_BARE_BASE64 = re.compile(r"[A-Za-z0-9+/\s]++={0,2}+\s*+")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8")
_CONTAINERS = ("data", "images", "image", "output", "outputs", "result", "results", "artifacts")
_BASE64_FIELDS = ("b64_json", "b64", "base64", "image_base64")
_URL_FIELDS = ("url", "image", "image_url", "imageUrl", "uri")
_MAX_SHAPE_DEPTH = 4


@dataclass(frozen=True)
class Response:
    """An HTTP response, read whole; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the decoded JSON body, or None if it is not JSON, nested too deep, or far too large.

        A body with large images is reduced to its short fields; `images` returns the images.
        """
        return self._json

    def images(self, most: int, *, any_shape: bool = False) -> list[ImagePayload]:
        """Return the first `most` images of the body, still encoded.

        BlockRun's gateways and OpenAI have them in the list `data`. With `any_shape` the shapes of other x402 endpoints
        count, too: the bytes of an image, and `image`, `images`, `output`, `url` and the like, also inside one another
        (gateway protocol, section 9).
        """
        if any_shape and _is_image(self.headers.get("content-type", ""), self.body):
            return [ImagePayload(_data=self.body)]
        images = [_read_entry(entry) for entry in self._entries[:most]]
        if not any_shape or any(image.has_image for image in images):
            return images
        others = _read_images(self.body, most) if self._is_bounded else []
        return others if any(image.has_image for image in others) else images

    @cached_property
    def _json(self) -> Any:
        try:
            if len(self.body) <= _MAX_JSON:
                return read_json(self.body, max_values=MAX_VALUES)
            if not self._fields:
                return None
            return {name: read_value(raw) for name, raw in self._fields.items() if size_of(raw) <= MAX_FIELD}
        except ValueError:
            return None

    @cached_property
    def _is_bounded(self) -> bool:
        try:
            check_bounds(self.body)
        except ValueError:
            return False
        return True

    @cached_property
    def _fields(self) -> Fields:
        return self._parts[0]

    @property
    def _entries(self) -> Sequence[msgspec.Raw | Fields]:
        return self._parts[1]

    @cached_property
    def _parts(self) -> tuple[Fields, Sequence[msgspec.Raw | Fields]]:
        """The fields of the body, and the entries of its list `data`; both are empty if it cannot be read."""
        try:
            return split_common(self.body) or (split_body(self.body) if self._is_bounded else ({}, []))
        except ValueError:
            return {}, []

    @property
    def date(self) -> float | None:
        """The Unix time by the server's own clock, or None if the response lacks it."""
        return _date(self.headers.get("date", ""))

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait as the gateway asks, from the header or the body, at most two minutes."""
        body = self.json()
        asked = body.get("retry_after_seconds") if isinstance(body, Mapping) else None
        for value in (self.headers.get("retry-after"), asked):
            seconds = self._seconds(str(value)[:40]) if isinstance(value, str | int | float) else None
            if seconds is not None and 0 <= seconds < float("inf"):
                return min(seconds, _MAX_WAIT)
        return None

    def _seconds(self, text: str) -> float | None:
        """Return seconds as a number, or until a date by the server's own clock; None for anything else."""
        with suppress(ValueError):
            return float(text)
        until, now = _date(text), self.date
        return None if until is None or now is None else max(0.0, until - now)


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass(slots=True)
class ImagePayload:
    """One image of a response: embedded base64, or the URL to download it from."""

    url: str | None = None
    encoded: memoryview | None = field(default=None, repr=False)
    """Base64 as a slice of the JSON body, until `data` has decoded it."""
    revised_prompt: str | None = None
    _data: bytes | None = field(default=None, repr=False)

    @property
    def has_image(self) -> bool:
        """Whether there are bytes, base64 or a URL to read."""
        return bool(self.url or self.encoded is not None or self._data)

    @property
    def needs_download(self) -> bool:
        """Whether the image must be downloaded from its URL."""
        return bool(self.url) and self.encoded is None and self._data is None

    @property
    def data(self) -> bytes | None:
        """The embedded bytes, or None for a URL; raises InvalidResponse without either.

        They are decoded at the first use and then replace the slice, so that there is never a second copy.
        """
        if self.encoded is not None:
            self._data = _decode(self.encoded)
            self.encoded = None
        if self._data is None and not self.url:
            raise InvalidResponse(
                "The gateway's response contains no image: neither a URL nor base64 data.",
                "This is the gateway's fault; try again later or use another model.",
            )
        return self._data


def _decode(encoded: memoryview) -> bytes:
    with suppress(binascii.Error, ValueError):
        return pybase64.b64decode(encoded, validate=True)
    try:
        # JSON may write any character as an escape, above all / as \/, and servers break lines, drop the padding, or
        # write a whole data URI.
        text = read_json(b'"%b"' % bytes(encoded)).encode("ascii").strip()
        text = text.partition(b",")[2] if text[:5].lower() == b"data:" else text
        text = b"".join(text.split()).translate(_URL_SAFE).rstrip(b"=")
        return pybase64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidResponse(
            "The gateway's image is not readable (bad base64).", "Try again later or use another model."
        ) from None


def _is_image(media_type: str, body: bytes) -> bool:
    """Return whether a body is an image and not JSON, by its media type or its first bytes."""
    kind = media_type.partition(";")[0].strip().lower()
    return kind.startswith("image/") or body.startswith(_SIGNATURES) or body[:4] + body[8:12] == b"RIFFWEBP"


def _read_images(raw: Slice, most: int, depth: int = _MAX_SHAPE_DEPTH) -> list[ImagePayload]:
    """Return the images of a value: a text, an object that is or contains images, or a list of them."""
    if entries := read_list(raw)[:most]:
        found = (_read_images(entry, most, depth - 1) for entry in entries if depth)
        return [image for images in found for image in images or [ImagePayload()]][:most]
    if bytes(memoryview(raw)[:1]) == b'"':
        image = _read_text(raw)
        return [image if image.url is None or "://" in image.url else ImagePayload()]
    try:
        fields = split(raw) if depth else {}
    except ValueError:  # a number, or null
        fields = {}
    for name in _CONTAINERS:
        others = _read_images(fields[name], most, depth - 1) if name in fields else []
        if any(each.has_image for each in others):
            return others
    image = _read_entry(raw)
    if not image.has_image and "url" in fields:  # a list of them
        return _read_images(fields["url"], most, depth - 1)
    return [image]


def _read_entry(raw: Slice | Fields) -> ImagePayload:
    """Return the image of an object that holds a URL, a data URI or base64."""
    try:
        entry = raw if isinstance(raw, Mapping) else split(raw)
    except ValueError:
        return ImagePayload()
    revised = _text(entry.get("revised_prompt"))
    revised = sanitize(revised, 4000) if revised else None
    for name in _BASE64_FIELDS:
        encoded = _base64(entry.get(name), is_uri=False)
        if encoded is not None:
            return ImagePayload(encoded=encoded, revised_prompt=revised)
    for name in _URL_FIELDS:
        image = _read_text(entry[name]) if name in entry else ImagePayload()
        if image.has_image:
            image.revised_prompt = revised
            return image
    return ImagePayload(revised_prompt=revised)


def _read_text(raw: Slice) -> ImagePayload:
    """Return the image in a JSON string: a data URI, a URL, or else base64."""
    encoded = _base64(raw, is_uri=True)
    if encoded is not None:
        return ImagePayload(encoded=encoded)
    text = (_text(raw) or "").strip() or None
    if text is not None and (not _BARE_BASE64.fullmatch(text) or len(text) < _SHORTEST_IMAGE):
        return ImagePayload(url=text if text and text[:5].lower() != "data:" else None)
    return ImagePayload(encoded=_base64(raw, is_uri=False))


def _base64(raw: Slice | None, *, is_uri: bool) -> memoryview | None:
    """Return the base64 of a JSON string, or of the data URI in it, or None."""
    view = memoryview(b"" if raw is None else raw)
    if view.nbytes <= 2 or view[0] != ord('"'):
        return None
    view = view[1:-1]
    if not is_uri:
        return view
    head, comma, _ = bytes(view[:_MAX_HEAD]).partition(b",")
    kind = head.replace(b"\\/", b"/").lower()
    return view[len(head) + 1 :] if comma and kind.lstrip().startswith(b"data:") and kind.endswith(b";base64") else None


def _text(raw: Slice | None) -> str | None:
    if raw is None or size_of(raw) > MAX_FIELD:
        return None
    try:
        value = read_value(raw)
    except ValueError:
        return None
    return value if isinstance(value, str) else None
