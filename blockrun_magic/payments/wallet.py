"""Where a key comes from, and what may be done with it: show its address, sign.

Nothing here shows a key. It lives in a closure that repr, pickle, copy, `vars` and tracebacks
printed with their local variables cannot see into, and functions that have seen one raise only
after they have let go of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from blockrun_magic.errors import WalletError, WalletMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Wallet", "find_wallet", "practice_wallet"]

_T = TypeVar("_T")

_VARIABLES = ("BLOCKRUN_WALLET_KEY", "BASE_CHAIN_WALLET_KEY")
_FILES = (".session", "wallet.key")
_FILE_LIMIT = 4096
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HEX = re.compile(r"(?:0[xX])?([0-9a-fA-F]*)")
_WORDS = re.compile(r"[a-z]+(?:[\s,]+[a-z]+){11,23}", re.IGNORECASE)
_BASE58 = re.compile(r"[1-9A-HJ-NP-Za-km-z]{43,44}|[1-9A-HJ-NP-Za-km-z]{86,88}")


class _Secret:
    """32 bytes or a text that only `reveal()` gives out."""

    __slots__ = ("reveal",)

    reveal: Callable[[], str | bytes]

    def __init__(self, value: str | bytes) -> None:
        self.reveal = lambda: value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is never pickled or copied")


class Wallet:
    """A key that signs and says its address, and is never shown.

    `source` says where the key came from ("BLOCKRUN_WALLET_KEY", "~/.blockrun/.session");
    `warning` is what its owner should know about that place, or None.
    """

    __slots__ = ("_address", "_secret", "source", "warning")

    source: str
    warning: str | None

    def __init__(self, secret: _Secret, source: str, warning: str | None = None) -> None:
        self._secret = secret
        self._address: str | None = None
        self.source = source
        self.warning = warning

    @classmethod
    def from_key(cls, key: str | bytes, source: str) -> Wallet:
        """Return the wallet of `key`: 64 hex digits, 0x or not, or 32 bytes.

        Raises WalletError, which names `source` and never the key.
        """
        found = _read_key(_Secret(key), source)
        del key  # a traceback that prints local variables must not find it
        if isinstance(found, WalletError):
            raise found
        return cls(found, source)

    @property
    def address(self) -> str:
        """The EIP-55 address, computed once."""
        if self._address is None:
            from eth_account import Account

            self._address = self._with_key(lambda key: str(Account.from_key(key).address))
        return self._address

    def sign_typed_data(
        self, domain: Mapping[str, Any], types: Mapping[str, list[dict[str, str]]], message: Mapping[str, Any]
    ) -> str:
        """Return the EIP-712 signature as 0x and 130 hex digits, r, s and v; low s, v 27 or 28."""
        from eth_account import Account
        from eth_account.messages import encode_typed_data

        signable = encode_typed_data(dict(domain), dict(types), dict(message))
        return self._with_key(lambda key: "0x" + bytes(Account.sign_message(signable, key).signature).hex())

    def _with_key(self, use: Callable[[str | bytes], _T]) -> _T:
        """Return use(key); what it raises comes out without the frames that saw the key."""
        try:
            return use(self._secret.reveal())
        except Exception as error:  # noqa: BLE001  whatever it says, it may say the key
            failure: BaseException = WalletError(
                f"The key from {self.source} could not be used ({type(error).__name__}).",
                "Check that eth-account is installed in a current version, then try again.",
            )
        except BaseException as stop:  # noqa: BLE001  KeyboardInterrupt, in the middle of signing
            stop.__context__ = None
            failure = stop.with_traceback(None)
        # Outside the handlers, so that no __context__ leads back to those frames.
        raise failure

    def __repr__(self) -> str:
        return f"<Wallet from {self.source}>"

    def __copy__(self) -> Wallet:
        return self

    def __deepcopy__(self, memo: object) -> Wallet:
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("a wallet is never pickled: its key stays in this process")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.__getstate__()


def find_wallet(environ: Mapping[str, str], home: Path) -> Wallet:
    """Return the wallet of the first key there is: environment, then the official SDKs' files.

    `environ["BLOCKRUN_HOME"]` stands for `home`/.blockrun. Raises WalletMissing where there is no
    key, and WalletError where the first one found cannot be used.
    """
    found = _look_in_variables(environ) or _look_in_files(_folder(environ, home), home)
    del environ  # holds the key: a traceback that prints local variables must not find it
    if found is None:
        raise WalletMissing(
            "There is no wallet to pay with.",
            "Either `%blockrun use practice` (free, play money), or set BLOCKRUN_WALLET_KEY to a key that "
            "holds USDC on Base, or put that key into ~/.blockrun/.session (0600) as the official SDKs do.",
        )
    if isinstance(found, WalletError):
        raise found
    return found


def practice_wallet() -> Wallet:
    """Return the wallet that practice pays with; its key is well known, so never fund it."""
    return Wallet(_Secret(hashlib.sha256(b"blockrun-magic practice wallet").digest()), "practice")


def _look_in_variables(environ: Mapping[str, str]) -> Wallet | WalletError | None:
    for name in _VARIABLES:
        text = environ.get(name, "")
        if text.strip():
            return _wallet_or_error(_Secret(text), name)
    return None


def _look_in_files(folder: Path, home: Path) -> Wallet | WalletError | None:
    for name in _FILES:
        path = folder / name
        source = _shown(path, home)
        found = _read_file(path, source)
        if isinstance(found, WalletError):
            return found
        if found is not None:
            secret, warning = found
            return _wallet_or_error(secret, source, warning)
    return None


def _wallet_or_error(secret: _Secret, source: str, warning: str | None = None) -> Wallet | WalletError:
    key = _read_key(secret, source)
    return key if isinstance(key, WalletError) else Wallet(key, source, warning)


def _folder(environ: Mapping[str, str], home: Path) -> Path:
    moved = environ.get("BLOCKRUN_HOME", "")
    return Path(moved).expanduser() if moved else home / ".blockrun"


def _shown(path: Path, home: Path) -> str:
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


def _read_file(path: Path, source: str) -> tuple[_Secret, str | None] | WalletError | None:
    """Return the file's text and a warning; None where there is no file or nothing in it."""
    advice = f"Put the key alone into {source}, as text, readable by you only (chmod 600)."
    try:
        # A directory cannot be read as a file, and opening a pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            return WalletError(f"{source} is not a file.", advice)
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_FILE_LIMIT).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return WalletError(f"{source} cannot be read: {error.strerror or type(error).__name__}.", advice)
    except UnicodeDecodeError:
        return WalletError(f"{source} is not a text file.", advice)
    if not text.strip():
        return None
    open_to_others = os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH)
    warning = f"{source} can be read by others: chmod 600 {source}" if open_to_others else None
    return _Secret(text), warning


def _read_key(secret: _Secret, source: str) -> _Secret | WalletError:
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


def _checked(key: bytes, source: str) -> _Secret | WalletError:
    if 0 < int.from_bytes(key, "big") < _CURVE_ORDER:
        return _Secret(key)
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
