"""Private keys as text: reading, checking, and detection in the wrong place."""

from __future__ import annotations

import re

from blockrun_magic.errors import WalletError
from blockrun_magic.payments.secrets import Secret

__all__ = ["contains_secret", "read_key"]


_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


_HEX = re.compile(r"(?:0[xX])?([0-9a-fA-F]*)")


_WORDS = re.compile(r"(?<![a-z])[a-z]++(?:[\s,]++[a-z]++){11,23}+", re.IGNORECASE)


_BASE58 = re.compile(r"[1-9A-HJ-NP-Za-km-z]{43,44}|[1-9A-HJ-NP-Za-km-z]{86,88}")


_MAX_KEY = re.compile(r"[0-9a-fA-F]{56}|\b(?:[1-9A-HJ-NP-Za-km-z]{43,44}|[1-9A-HJ-NP-Za-km-z]{86,88})\b")


def contains_secret(words: str) -> bool:
    """Return whether `words` hold a private key, most of one, or a recovery phrase."""
    return _MAX_KEY.search(words) is not None or _WORDS.search(words) is not None


def read_key(secret: Secret, source: str) -> Secret | WalletError:
    """Return the 32 bytes of the key, or the error to raise, from a frame without the key."""
    value = secret.reveal()
    if isinstance(value, bytes):
        if len(value) == 32:
            return _checked(value, source)
        if not value.isascii():
            message = f"The key in {source} is {len(value)} bytes long; a private key has 32."
            return WalletError(message, _advice(source))
        value = value.decode("ascii")
    text = value.strip().strip("\"'").strip()
    match = _HEX.fullmatch(text)
    if match is not None and len(match[1]) == 64:
        return _checked(bytes.fromhex(match[1]), source)
    return _complaint(text, match, source)


def _checked(key: bytes, source: str) -> Secret | WalletError:
    if 0 < int.from_bytes(key, "big") < _CURVE_ORDER:
        return Secret(key)
    return WalletError(f"The key in {source} is not a number that can be a private key.", _advice(source))


def _complaint(text: str, hex_match: re.Match[str] | None, source: str) -> WalletError:
    if _WORDS.fullmatch(text):
        return WalletError(
            f"{source} holds a recovery phrase, not a private key.",
            "Export the private key of one account (64 hex digits) from your wallet, and put that there.",
        )
    # Most short runs of hex digits are valid base58 as well; they are treated as hex.
    if text.startswith("[") or (hex_match is None and _BASE58.fullmatch(text)):
        return WalletError(f"{source} holds a Solana key; Base needs an Ethereum one.", _advice(source))
    if hex_match is None:
        message = f"The key in {source} has characters that are not hex digits."
    else:
        message = f"The key in {source} is {len(hex_match[1])} hex digits long; a private key has 64."
    return WalletError(message, _advice(source))


def _advice(source: str) -> str:
    return f"Put an Ethereum private key into {source}: 64 hex digits, with or without 0x."
