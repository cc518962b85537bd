"""The API key of a prepaid account: found in the environment or a key file, sent in one header, never shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from blockrun_magic.errors import WalletError, WalletMissing
from blockrun_magic.payments.secrets import Secret, SecretHeaders
from blockrun_magic.payments.wallets.key_files import display_path, read_keyfile

__all__ = ["ApiKey", "find_api_key"]

_VARIABLE = "BLOCKRUN_API_KEY"
_FILES = (".blockrun/.api-key", ".openclaw/blockrun/api-key")
"""Files of BlockRun's tools and of ClawRouter, below the user's home."""
_KEY = re.compile(r"brk_[A-Za-z0-9_-]{4,250}")


class ApiKey:
    """A key that opens an account's credit, and is never shown; `source` is its location."""

    __slots__ = ("_reveal", "source", "warning")

    _reveal: Callable[[], str]
    source: str
    warning: str | None

    def __init__(self, key: str, source: str, warning: str | None = None) -> None:
        self._reveal = lambda: key
        self.source = source
        self.warning = warning

    def headers(self) -> SecretHeaders:
        """Return the header that authorizes one request at the account's own host."""
        return SecretHeaders(Authorization=f"Bearer {self._reveal()}")

    def __repr__(self) -> str:
        return f"<ApiKey from {self.source}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an API key is never pickled or copied")


def find_api_key(environ: Mapping[str, str], home: Path | None = None) -> ApiKey:
    """Return the key in `BLOCKRUN_API_KEY`, else in a key file below `home`.

    The files are `.blockrun/.api-key` and ClawRouter's `.openclaw/blockrun/api-key`. Raises WalletMissing if there is
    no key, and WalletError for the first source whose content is not a key; neither quotes the content.
    """
    value = Secret(environ.get(_VARIABLE, ""))
    del environ  # a traceback that prints local variables must not find the key
    key = _key_in(value, _VARIABLE) or _in_files(home)
    if isinstance(key, WalletError):
        raise key
    if key is None:
        raise WalletMissing(
            "There is no API key to pay with.",
            f"Set {_VARIABLE} to your account's key (brk_...), or choose another gateway with `%blockrun use`.",
        )
    return key


def _in_files(home: Path | None) -> ApiKey | WalletError | None:
    if home is None:
        return None
    for path in (home / file for file in _FILES):
        source = display_path(path, home)
        content = read_keyfile(path, source)
        if isinstance(content, WalletError):
            return content
        if content is not None:
            return _key_in(content[0], source, content[1])
    return None


def _key_in(value: Secret, source: str, warning: str | None = None) -> ApiKey | WalletError | None:
    text = str(value.reveal()).strip()
    if not text:
        return None
    if _KEY.fullmatch(text):
        return ApiKey(text, source, warning)
    return WalletError(f"{source} does not hold an API key.", "A key is brk_ and letters or digits, without quotes.")
