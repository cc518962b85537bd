"""What a key is: 32 bytes, read from text, kept out of sight, and used without being seen.

A secret lives in a closure that repr, pickle, copy, `vars` and tracebacks printed with their local
variables cannot see into, and functions that have seen one raise only after they have let go of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn, Self, TypeVar

from blockrun_magic.errors import WalletError

__all__ = ["KeyHolder", "Secret", "UnseenEnviron", "looks_secret", "read_key", "shielded"]

_T = TypeVar("_T")

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HEX = re.compile(r"(?:0[xX])?([0-9a-fA-F]*)")
_WORDS = re.compile(r"[a-z]+(?:[\s,]+[a-z]+){11,23}", re.IGNORECASE)
_BASE58 = re.compile(r"[1-9A-HJ-NP-Za-km-z]{43,44}|[1-9A-HJ-NP-Za-km-z]{86,88}")
_MOST_OF_A_KEY = re.compile(r"[0-9a-fA-F]{56}|\b(?:[1-9A-HJ-NP-Za-km-z]{43,44}|[1-9A-HJ-NP-Za-km-z]{86,88})\b")


class Secret:
    """32 bytes or a text that only `reveal()` gives out."""

    __slots__ = ("reveal",)

    reveal: Callable[[], str | bytes]

    def __init__(self, value: str | bytes) -> None:
        self.reveal = lambda: value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is never pickled or copied")


class KeyHolder:
    """What holds a key: shown by its `source`, itself when copied, and never pickled."""

    __slots__ = ()

    source: str

    def __repr__(self) -> str:
        return f"<{type(self).__name__} from {self.source}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("a wallet is never pickled: its key stays in this process")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.__getstate__()


class UnseenEnviron(Mapping[str, str]):
    """An environment, with whatever keys are in it; a traceback that prints local variables shows none."""

    __slots__ = ("_environ",)

    _environ: Callable[[], Mapping[str, str]]

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = lambda: environ

    def __getitem__(self, name: str) -> str:
        return self._environ()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ())

    def __len__(self) -> int:
        return len(self._environ())

    def __repr__(self) -> str:
        return "<environment>"


def shielded(use: Callable[..., _T], *secrets: Secret, blame: Callable[[Exception], WalletError]) -> _T:
    """Return what `use` makes of the secrets' values; what it raises comes out without the frames that saw them.

    `blame` says which WalletError stands for an exception of `use`, whose own words may hold a secret.
    """
    try:
        return use(*(secret.reveal() for secret in secrets))
    except Exception as error:  # noqa: BLE001  whatever it says, it may say the key
        failure: BaseException = blame(error)
    except BaseException as stop:  # noqa: BLE001  KeyboardInterrupt, in the middle of signing
        stop.__context__ = stop.__cause__ = None
        failure = stop.with_traceback(None)
    # Outside the handlers, so that no __context__ leads back to those frames.
    raise failure


def looks_secret(words: str) -> bool:
    """Return whether `words` hold a private key, most of one, or a recovery phrase."""
    return _MOST_OF_A_KEY.search(words) is not None or _WORDS.search(words) is not None


def read_key(secret: Secret, source: str) -> Secret | WalletError:
    """Return the 32 bytes that are meant, or the error to raise, from a frame without the key."""
    value = secret.reveal()
    if isinstance(value, bytes):
        if len(value) == 32:
            return _checked(value, source)
        if not value.isascii():
            what = f"The key in {source} is {len(value)} bytes long; a private key has 32."
            return WalletError(what, _advice(source))
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
    # A short run of hex digits is in base58's alphabet too, mostly: call it hex.
    if text.startswith("[") or (hex_match is None and _BASE58.fullmatch(text)):
        return WalletError(f"{source} holds a Solana key; Base needs an Ethereum one.", _advice(source))
    if hex_match is None:
        what = f"The key in {source} has characters that are not hex digits."
    else:
        what = f"The key in {source} is {len(hex_match[1])} hex digits long; a private key has 64."
    return WalletError(what, _advice(source))


def _advice(source: str) -> str:
    return f"Put an Ethereum private key into {source}: 64 hex digits, with or without 0x."
