"""Search for secrets in a notebook before it is exported as a lesson.

The texts of the parsed notebook are searched for every key and passphrase of this user, in every usual encoding,
and for anything that looks like a key or a payment header.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from blockrun_magic.errors import LessonError
from blockrun_magic.files import read_bounded
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.safejson import read_json

__all__ = ["check_no_secrets", "secrets_of_user"]

_MAX_NOTEBOOK = 100 * 1024 * 1024
_MAX_KEY_FILE = 64 * 1024
_NAMES = re.compile(r"KEY|SECRET|TOKEN|PASSPHRASE|PASSWORD|MNEMONIC|SEED", re.IGNORECASE)
_KEY_FILES = (".session", ".solana-session", "wallet.key", "wallet.json", "magic/wallets/*", "magic/proxy*")
_FOREIGN_FILES = (".openclaw/blockrun/*", ".*/wallet.json", ".blockrun/.session", ".blockrun/.solana-session")
_MIN_SECRET = 8
_HEX_KEY = re.compile(r"(?<![0-9a-zA-Z])(?:0x)?([0-9a-fA-F]{64})(?![0-9a-zA-Z])")
_KEY_WORD = re.compile(r"[0-9a-fA-F]{64}|[1-9A-HJ-NP-Za-km-z]{43,90}")
_HEADER = re.compile(r"(?:PAYMENT-SIGNATURE|X-PAYMENT)\b[^A-Za-z0-9+/]{1,8}[A-Za-z0-9+/_-]{40}", re.IGNORECASE)
_ENVELOPE = re.compile(r"(?<![A-Za-z0-9+/_-])eyJ[A-Za-z0-9+/_-]{97}")
_API_KEY = re.compile(r"\bbrk_[A-Za-z0-9_-]{16,}")
_BYTES = re.compile(r"(?:\b\d{1,3}\b[\s,;]{1,4}){31,}\d{1,3}\b")
_SEPARATORS = re.compile(r"0x|\\x|[\s:,;_'\"\-\[\]()]")
_FILE = re.compile(r"\.(?:png|jpe?g|webp)\b")
_HARMLESS = re.compile(r"(?:sha256[:=/-]\s*|transaction\W{1,20}|tx(?:_hash)?\W{1,10}|/tx/)(?:0x)?$", re.IGNORECASE)


def secrets_of_user(environ: Mapping[str, str], home: Path, blockrun_home: Path) -> list[Secret]:
    """Return every key, passphrase and API key of this user, from environment variables and key files."""
    values = (value.strip() for name, value in environ.items() if _NAMES.search(name))
    secrets = [Secret(value) for value in values if not value.startswith(("/", "~", "http"))]
    paths = [path for pattern in _KEY_FILES for path in _glob(blockrun_home, pattern)]
    paths += [path for pattern in _FOREIGN_FILES for path in _glob(home, pattern)]
    for path in dict.fromkeys(paths):
        with suppress(OSError):
            text = read_bounded(path, _MAX_KEY_FILE).decode("utf-8", "replace")
            secrets += [Secret(word) for word in _KEY_WORD.findall(text)]
            secrets += [Secret(_numbers(match[0])) for match in _BYTES.finditer(text)]
    return [secret for secret in secrets if len(secret.reveal()) >= _MIN_SECRET]


def _glob(folder: Path, pattern: str) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.glob(pattern))
    return []


def check_no_secrets(notebook: Path, secrets: Collection[Secret], allowed: Collection[str]) -> None:
    """Raise LessonError if the notebook contains one of `secrets`, or text that looks like a key or a payment header.

    `allowed` are the 64 hex digits of the lesson's own transactions and digests.
    """
    try:
        content = read_json(read_bounded(notebook, _MAX_NOTEBOOK))  # a longer file is cut, which makes it invalid JSON
        cells = content["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LessonError(f"{notebook} is not a notebook that can be read: {error}.", "Save it again.") from error
    public = {text.removeprefix("0x").lower() for text in allowed}
    for place, part in [*((f"cell {number}", cell) for number, cell in enumerate(cells, 1)), ("its metadata", content)]:
        for text in _texts({**part, "cells": None} if part is content else part):
            kind = _secret_in(text, secrets, public)
            if kind is not None:
                raise LessonError(
                    f"The notebook contains {kind} in {place}.",
                    "Remove it, save the notebook and export it again. If others have seen a key, move its funds.",
                )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of a JSON value; a list of lines is one text, keys come with their values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        if all(isinstance(line, str) for line in value):
            yield "".join(value)
        elif all(isinstance(number, int) for number in value):
            yield repr(value)
        else:
            for item in value:
                yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name.startswith("image/"):  # megabytes of base64 are an image
                continue
            yield from (f"{name}: {item}",) if isinstance(item, str | int) else _texts(item)


def _secret_in(text: str, secrets: Collection[Secret], allowed: Collection[str]) -> str | None:
    """Return the kind of secret in `text`, or None."""
    if _HEADER.search(text) or _ENVELOPE.search(text):
        return "a payment header"
    if _API_KEY.search(text):
        return "an API key"
    bare = _SEPARATORS.sub("", text).lower()
    arrays = [_numbers(match[0]) for match in _BYTES.finditer(text)]
    for secret in secrets:
        if any(spelling in text for spelling in _spellings(secret)):
            return "one of your keys or passphrases"
        for raw in _raw_forms(secret):
            if raw.hex() in bare or any(raw in array for array in arrays):
                return "one of your keys or passphrases"
    for match in _HEX_KEY.finditer(text):
        before = text[max(0, match.start(1) - 40) : match.start(1)]
        if match[1].lower() not in allowed and not _HARMLESS.search(before) and not _FILE.match(text, match.end()):
            return "a text that looks like a private key"
    return None


def _raw_forms(secret: Secret) -> list[bytes]:
    """Return the bytes of a secret's text, and of the key if the text encodes one."""
    value = secret.reveal()
    if isinstance(value, bytes):
        return [value]
    digits = value.removeprefix("0x")
    forms = [value.encode(), digits.encode(), digits.lower().encode()]
    with suppress(ValueError):
        forms.append(bytes.fromhex(digits))
    with suppress(ValueError):
        forms.append(_from_base58(value))
    return [form for form in forms if len(form) >= _MIN_SECRET]


def _spellings(secret: Secret) -> Iterator[str]:
    """Yield the usual encodings of a secret: plain, base64, base58, as a number."""
    value = secret.reveal()
    if isinstance(value, str):
        yield value
    for raw in _raw_forms(secret):
        yield base64.b64encode(raw).decode().rstrip("=")
        yield base64.urlsafe_b64encode(raw).decode().rstrip("=")
        if len(raw) >= 32:
            yield str(int.from_bytes(raw, "big"))
            yield _to_base58(raw)
            yield repr(raw)[2:-1]


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def _from_base58(text: str) -> bytes:
    number = 0
    for letter in text[:100]:
        number = number * 58 + _BASE58.index(letter)
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _to_base58(raw: bytes) -> str:
    number, letters = int.from_bytes(raw, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        letters = _BASE58[rest] + letters
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + letters


def _numbers(text: str) -> bytes:
    values = [int(number) for number in re.findall(r"\d+", text)]
    return bytes(values) if all(value < 256 for value in values) else b""
