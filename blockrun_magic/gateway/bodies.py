"""HTTP responses as values: status, headers, and a JSON body whose images are decoded where they are.

msgspec hands out slices of the body without a copy, so that megabytes of base64 are neither copied nor read as text.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import msgspec
import pybase64

from blockrun_magic.errors import InvalidResponse
from blockrun_magic.safejson import MAX_VALUES, check_bounds, read_json
from blockrun_magic.text import sanitize

__all__ = ["ImagePayload", "Response"]

_MAX_WAIT = 120.0
_MAX_FIELD = 64 * 1024
_MAX_HEAD = 200
_MAX_JSON = 1024 * 1024
"""Bytes of a body that are read as plain JSON; of a longer one only short fields are, and its images."""
_Fields = dict[str, msgspec.Raw]
_decode_fields = msgspec.json.Decoder(_Fields).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True)
class Response:
    """An HTTP response, read whole; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the decoded JSON body, or None where it is not JSON, nested absurdly deep, or far too large.

        Of a body with large images only the short fields are there; `images` has the others.
        """
        return self._json

    def images(self, most: int) -> list[ImagePayload]:
        """Return the first `most` images of the body's list, each as it came; none where there is no such list."""
        try:
            entries = _decode_list(self._fields.get("data", b"null"))
        except msgspec.DecodeError:
            return []
        return [_read_entry(entry) for entry in entries[:most]]

    @cached_property
    def _json(self) -> Any:
        try:
            if len(self.body) <= _MAX_JSON:
                return read_json(self.body, max_values=MAX_VALUES)
            if not self._fields:
                return None
            return {name: _value(raw) for name, raw in self._fields.items() if _size(raw) <= _MAX_FIELD}
        except ValueError:
            return None

    @cached_property
    def _fields(self) -> _Fields:
        try:
            check_bounds(self.body)
            return _split(self.body)
        except ValueError:
            return {}

    @property
    def date(self) -> float | None:
        """The Unix time by the server's own clock, or None where the response does not say."""
        try:
            return parsedate_to_datetime(self.headers["date"]).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait as the gateway asks, from the header or the body, at most two minutes."""
        body = self.json()
        asked = body.get("retry_after_seconds") if isinstance(body, Mapping) else None
        for value in (self.headers.get("retry-after"), asked):
            if not isinstance(value, str | int | float):
                continue
            try:
                seconds = float(str(value)[:40])
            except ValueError:
                continue
            if 0 <= seconds < float("inf"):
                return min(seconds, _MAX_WAIT)
        return None


@dataclass(slots=True)
class ImagePayload:
    """One image of a response: base64 that came along, else the URL to download it from."""

    url: str | None = None
    encoded: memoryview | None = field(default=None, repr=False)
    """Base64, a slice of the body as JSON has it, until `data` has decoded it."""
    revised_prompt: str | None = None
    _data: bytes | None = field(default=None, repr=False)

    @property
    def data(self) -> bytes | None:
        """The bytes that came along, None for a URL; raises InvalidResponse where there is neither.

        They are decoded at the first use, and the body is not needed afterwards: there is never a second copy.
        """
        if self.encoded is not None:
            self._data = _decode(self.encoded)
            self.encoded = None
        if self._data is None and not self.url:
            raise InvalidResponse(
                "The gateway's response names no image: neither a URL nor base64 bytes.",
                "This is the gateway's fault; try again later or use another model.",
            )
        return self._data


def _decode(encoded: memoryview) -> bytes:
    try:
        return pybase64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        pass
    try:  # JSON may write any character as an escape, above all / as \/
        return pybase64.b64decode(read_json(b'"%b"' % bytes(encoded)).encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidResponse(
            "The gateway's image is not readable (bad base64).", "Try again later or use another model."
        ) from None


def _split(raw: bytes | msgspec.Raw) -> _Fields:
    """Return the fields of a JSON object as slices of `raw`; raises ValueError for anything else."""
    try:
        return _decode_fields(raw)
    except msgspec.ValidationError:
        raise ValueError("not an object") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Python writes NaN and Infinity, which JSON does not have: what was paid for is read all the same.
        value = read_json(bytes(raw))
        if not isinstance(value, dict):
            raise ValueError("not an object") from None  # noqa: TRY004  of JSON, not of an argument
        return {name: msgspec.Raw(json.dumps(each).encode()) for name, each in value.items()}


def _read_entry(raw: msgspec.Raw) -> ImagePayload:
    try:
        entry = _split(raw)
    except ValueError:
        return ImagePayload()
    revised = _text(entry.get("revised_prompt"))
    revised = sanitize(revised, 4000) if revised else None
    for name, is_uri in (("b64_json", False), ("url", True)):
        encoded = _base64(entry.get(name), is_uri=is_uri)
        if encoded is not None:
            return ImagePayload(encoded=encoded, revised_prompt=revised)
    url = _text(entry.get("url"))
    return ImagePayload(url=url if url and url[:5].lower() != "data:" else None, revised_prompt=revised)


def _base64(raw: msgspec.Raw | None, *, is_uri: bool) -> memoryview | None:
    """Return the base64 of a JSON string, or of the data URI in it; None where there is none."""
    view = memoryview(b"" if raw is None else raw)
    if view.nbytes <= 2 or view[0] != ord('"'):
        return None
    view = view[1:-1]
    if not is_uri:
        return view
    head, comma, _ = bytes(view[:_MAX_HEAD]).partition(b",")
    kind = head.replace(b"\\/", b"/").lower()
    return view[len(head) + 1 :] if comma and kind.startswith(b"data:") and kind.endswith(b";base64") else None


def _text(raw: msgspec.Raw | None) -> str | None:
    if raw is None or _size(raw) > _MAX_FIELD:
        return None
    try:
        value = _value(raw)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _value(raw: msgspec.Raw) -> Any:
    return read_json(bytes(raw))


def _size(raw: msgspec.Raw) -> int:
    return memoryview(raw).nbytes
