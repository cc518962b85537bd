"""eth-account, imported when it is first needed: one thread at a time, and without its side effect.

Two threads that import it at once can find it half imported. py_ecc, which comes with it, raises Python's recursion
limit to 100,000, so that JSON or code nested deep would end the process instead of raising RecursionError.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blockrun_magic.safejson import same_recursion_limit

if TYPE_CHECKING:
    from eth_account import Account

__all__ = ["load_account", "load_encode_typed_data"]

_lock = threading.Lock()


def load_account() -> type[Account]:
    """Return eth-account's `Account`."""
    account: type[Account] = _module("eth_account").Account
    return account


def load_encode_typed_data() -> Callable[..., Any]:
    """Return eth-account's `encode_typed_data`."""
    encode: Callable[..., Any] = _module("eth_account.messages").encode_typed_data
    return encode


def _module(name: str) -> Any:
    with _lock, same_recursion_limit():
        importlib.import_module("eth_account")  # first, whatever is needed: one order in every thread
        return importlib.import_module(name)
