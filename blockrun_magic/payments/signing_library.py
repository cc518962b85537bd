"""Import of eth-account and its libraries at first use: one thread at a time, and without a side effect.

Two threads that import them at once can wait for each other, or find a module half imported. py_ecc, which comes with
them, raises Python's recursion limit to 100,000, so that deeply nested JSON or code would crash the process instead of
raising RecursionError.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blockrun_magic.safejson import same_recursion_limit

if TYPE_CHECKING:
    from eth_account import Account
    from eth_keys.datatypes import PrivateKey

__all__ = ["address_of", "checksum_address", "load_account", "load_encode_typed_data", "load_module", "parse_key"]

_lock = threading.Lock()


def address_of(key: str | bytes) -> str:
    """Return the EIP-55 address of a private key: 64 hex digits, 0x or not, or 32 bytes.

    Importing eth-account takes a second; the parts of it used here take a tenth of that.
    """
    secret = bytes.fromhex(key.removeprefix("0x")) if isinstance(key, str) else key
    return checksum_address(_keccak(_public_key(secret))[-20:].hex())


def checksum_address(address: str) -> str:
    """Return an address with EIP-55's checksum, from 40 hex digits, 0x or not; raises ValueError for others."""
    digits = address.removeprefix("0x").lower()
    if len(bytes.fromhex(digits)) != 20 or len(digits) != 40:
        raise ValueError("an address has 40 hex digits")
    marks = _keccak(digits.encode()).hex()
    letters = (digit.upper() if mark >= "8" else digit for digit, mark in zip(digits, marks, strict=False))
    return "0x" + "".join(letters)


def _public_key(secret: bytes) -> bytes:
    """Return both coordinates of the public key, computed by the library that also signs."""
    try:
        coincurve = _imported("coincurve")
    except ImportError:
        return bytes(_imported("eth_keys").keys.PrivateKey(secret).public_key.to_bytes())
    return bytes(coincurve.PublicKey.from_secret(secret).format(compressed=False)[1:])


def _keccak(data: bytes) -> bytes:
    return bytes(_imported("Crypto.Hash.keccak").new(data=data, digest_bits=256).digest())


def load_account() -> type[Account]:
    """Return eth-account's `Account`."""
    account: type[Account] = load_module("eth_account").Account
    return account


def load_encode_typed_data() -> Callable[..., Any]:
    """Return eth-account's `encode_typed_data`."""
    encode: Callable[..., Any] = load_module("eth_account.messages").encode_typed_data
    return encode


def parse_key(key: bytes) -> PrivateKey:
    """Return the key for `Account.sign_message`, which then does not compute its public key again."""
    parsed: PrivateKey = _imported("eth_keys").keys.PrivateKey(key)
    return parsed


def load_module(name: str) -> Any:
    """Return a module of eth-account, or of a library that it uses."""
    return _imported("eth_account", name)  # always eth_account first: one order in every thread


def _imported(*names: str) -> Any:
    """Import modules one after the other, and return the last."""
    with _lock, same_recursion_limit():
        return [importlib.import_module(name) for name in names][-1]
