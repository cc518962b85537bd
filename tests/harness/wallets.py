"""Helpers for signatures and for the search for keys in tracebacks."""

from __future__ import annotations

import hashlib
import traceback

from eth_account import Account

KEY = hashlib.sha256(b"a throwaway key of the wallet tests").digest()


ADDRESS = Account.from_key(KEY).address


TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


MESSAGE = {
    "from": ADDRESS,
    "to": ADDRESS,
    "value": 52_500,
    "validAfter": 0,
    "validBefore": 300,
    "nonce": b"n" * 32,
}


def shows_key(text: str, key: bytes = KEY) -> bool:
    """Return whether `text` contains the key as hex, as a bytes literal or as a number."""
    forms = (key.hex(), repr(key)[2:-1], str(int.from_bytes(key, "big")))
    return any(form.lower() in text.lower() for form in forms)


def verbose(error: BaseException) -> str:
    """Return the traceback of `error` and its causes with all local variables."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(shown.format()) + repr(error.__context__) + repr(error.__cause__)
