"""The API key of a prepaid account: found in the environment, sent in one header, never shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from blockrun_magic.errors import WalletError, WalletMissing
from blockrun_magic.payments.secrets import SecretHeaders

__all__ = ["ApiKey", "find_api_key"]

_VARIABLE = "BLOCKRUN_API_KEY"
_KEY = re.compile(r"brk_[A-Za-z0-9_-]{4,250}")


class ApiKey:
    """A key that opens an account's credit, and is never shown; `source` says where it came from."""

    __slots__ = ("_reveal", "source")

    _reveal: Callable[[], str]
    source: str

    def __init__(self, key: str, source: str) -> None:
        self._reveal = lambda: key
        self.source = source

    def headers(self) -> SecretHeaders:
        """Return the header that authorizes one request at the account's own host."""
        return SecretHeaders(Authorization=f"Bearer {self._reveal()}")

    def __repr__(self) -> str:
        return f"<ApiKey from {self.source}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an API key is never pickled or copied")


def find_api_key(environ: Mapping[str, str]) -> ApiKey:
    """Return the key in `BLOCKRUN_API_KEY`; raises WalletMissing without one, WalletError for no key.

    The message says nothing of what the variable holds.
    """
    value = environ.get(_VARIABLE, "").strip()
    missing, found = not value, _KEY.fullmatch(value) is not None
    key = ApiKey(value, _VARIABLE) if found else None
    del environ, value  # a traceback that prints local variables must not find the key
    if key is not None:
        return key
    if missing:
        raise WalletMissing(
            "There is no API key to pay with.",
            f"Set {_VARIABLE} to your account's key (brk_...), or choose another gateway with `%blockrun use`.",
        )
    raise WalletError(
        f"{_VARIABLE} does not hold an API key.", "A key is brk_ and letters or digits, without spaces or quotes."
    )
