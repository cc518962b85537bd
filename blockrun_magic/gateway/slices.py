"""Slices of a JSON body, handed out by msgspec without a copy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from blockrun_magic.safejson import read_json

__all__ = ["MAX_FIELD", "Fields", "read_list", "read_value", "size_of", "split", "split_body"]

MAX_FIELD = 64 * 1024
"""Bytes of a field that is read as a value; longer ones are images."""
_START = 1024
Fields = dict[str, msgspec.Raw]
_decode_fields = msgspec.json.Decoder(Fields).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_objects = msgspec.json.Decoder(list[Fields]).decode
_decode_common = msgspec.json.Decoder(dict[str, list[Fields] | Fields | str | int | float | bool | None]).decode


def split(raw: bytes | msgspec.Raw) -> Fields:
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


def split_body(raw: bytes) -> tuple[Fields, Sequence[msgspec.Raw | Fields]]:
    """Return the fields of an object, and the entries of its list `data`; raises ValueError for anything else."""
    common = _split_common(raw)
    if common is not None:
        return common
    fields = split(raw)
    return fields, _read_objects(fields.get("data"))


def _split_common(raw: bytes) -> tuple[Fields, Sequence[Fields]] | None:
    """Return the fields and the entries of `data` in one pass over megabytes, or None for another shape than that."""
    if b'"data"' not in raw[:_START]:
        return None
    try:
        values = _decode_common(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    entries = values.get("data")
    if not isinstance(entries, list):
        return None
    short = sum(map(size_of, (text for entry in entries for text in entry.values()))) <= MAX_FIELD
    return {
        name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items() if name != "data" or short
    }, entries


def read_list(raw: bytes | msgspec.Raw | None) -> list[msgspec.Raw]:
    """Return the entries of a list, none for anything else."""
    try:
        return _decode_list(b"null" if raw is None else raw)
    except msgspec.DecodeError:
        return []


def _read_objects(raw: msgspec.Raw | None) -> Sequence[msgspec.Raw | Fields]:
    """Return the entries of a list: all as objects, read in one pass, or each as it is."""
    try:
        return _decode_objects(b"null" if raw is None else raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return read_list(raw)


def read_value(raw: bytes | msgspec.Raw) -> Any:
    """Return the value; raises ValueError."""
    return read_json(bytes(raw))


def size_of(raw: bytes | msgspec.Raw) -> int:
    """Return the bytes that it has."""
    return memoryview(raw).nbytes
