"""Slices of a JSON body, from msgspec, without a copy."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from blockrun_magic.safejson import check_bounds, read_json

__all__ = ["MAX_FIELD", "Fields", "Slice", "read_list", "read_value", "size_of", "split", "split_body", "split_common"]

MAX_FIELD = 64 * 1024
"""Bytes of a field that is read as a value; longer ones are images."""
_MAX_QUOTES, _MARK_SIZE = 4096, 32
Slice = bytes | msgspec.Raw | memoryview
"""JSON of one value."""
Fields = Mapping[str, msgspec.Raw | memoryview]
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_Objects = list[dict[str, msgspec.Raw]]
_decode_common = msgspec.json.Decoder(
    dict[str, _Objects | dict[str, msgspec.Raw] | str | int | float | bool | None]
).decode


def split(raw: Slice) -> Fields:
    """Return the fields of a JSON object as slices of `raw`; raises ValueError for anything else."""
    try:
        return _decode_fields(raw)
    except msgspec.ValidationError:
        raise ValueError("not an object") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Python writes NaN and Infinity, which are not JSON: a paid answer is read nevertheless.
        value = read_json(bytes(raw))
        if not isinstance(value, dict):
            raise ValueError("not an object") from None  # noqa: TRY004  of JSON, not of an argument
        return {name: msgspec.Raw(json.dumps(each).encode()) for name, each in value.items()}


def split_body(raw: bytes) -> tuple[Fields, Sequence[msgspec.Raw | Fields]]:
    """Return the fields of an object, and the entries of its list `data`; raises ValueError for anything else."""
    fields = split(raw)
    return fields, _read_objects(fields.get("data"))


def split_common(raw: bytes) -> tuple[Fields, Sequence[Fields]] | None:
    """Return the fields and the entries of `data` without reading long strings, or None for another shape than that."""
    outline, strings = _outline(raw)
    if not strings:
        return None
    try:
        check_bounds(outline)
        values = _decode_common(outline)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return None
    entries = values.pop("data", None)
    if not isinstance(entries, list):
        return None
    items = [{name: _restored(text, strings) for name, text in entry.items()} for entry in entries]
    if strings:  # not a field of an image, or not a string
        return None
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items()}, items


def _outline(raw: bytes) -> tuple[bytes, dict[bytes, memoryview]]:
    """Return a JSON text with marks in place of long strings without escapes, and the strings by their marks.

    Text between two quotes may also be the gap between two strings. Then the mark is not a value, and the outline is
    not JSON.
    """
    name, view = secrets.token_hex(8), memoryview(raw)
    parts: list[bytes] = []
    strings: dict[bytes, memoryview] = {}
    begin, quote = 0, raw.find(b'"')
    for _ in range(_MAX_QUOTES):
        if quote < 0:
            break
        following = raw.find(b'"', quote + 1)
        if following - quote > MAX_FIELD and raw.find(b"\\", quote, following) < 0:
            mark = f'"{name}-{len(strings)}"'.encode()
            strings[mark] = view[quote : following + 1]
            parts += [raw[begin:quote], mark]
            begin = following + 1
            following = raw.find(b'"', begin)
        quote = following
    return b"".join([*parts, raw[begin:]]), strings


def _restored(text: msgspec.Raw, strings: dict[bytes, memoryview]) -> msgspec.Raw | memoryview:
    """Return the string of a mark, and anything else unchanged."""
    return strings.pop(bytes(text), text) if size_of(text) <= _MARK_SIZE else text


def read_list(raw: Slice | None) -> list[msgspec.Raw]:
    """Return the entries of a list, none for anything else."""
    try:
        return _decode_list(b"null" if raw is None else raw)
    except msgspec.DecodeError:
        return []


def _read_objects(raw: Slice | None) -> Sequence[msgspec.Raw | Fields]:
    """Return the entries of a list: all as objects, read in one pass, or each unchanged."""
    try:
        return _decode_objects(b"null" if raw is None else raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return read_list(raw)


def read_value(raw: Slice) -> Any:
    """Return the value; raises ValueError."""
    return read_json(bytes(raw))


def size_of(raw: Slice) -> int:
    """Return its size in bytes."""
    return memoryview(raw).nbytes
