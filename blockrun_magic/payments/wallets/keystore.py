"""Encrypted key files: Web3 Secret Storage, version 3, as geth, MetaMask and eth-account write it.

Opening one takes about a second and 256 MB, on purpose; so it is done once per process.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from blockrun_magic.errors import WalletError, WalletLocked
from blockrun_magic.payments.secrets import Secret, with_secrets
from blockrun_magic.payments.signing_library import checksum_address, load_account
from blockrun_magic.payments.wallets.private_key import read_key
from blockrun_magic.safejson import read_json

__all__ = ["Keystore", "address_of", "lock_key", "read_keystore", "unusable"]

_MAX_MEMORY = 1 << 30
_MAX_ROUNDS = 10_000_000
_OPENED: dict[str, Secret] = {}
"""Keys that this process has opened, by the digest of the file: a changed file has to be opened again."""
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class Keystore:
    """One keystore file: its `text`, and the EIP-55 address that it names, or None."""

    text: str
    address: str | None

    @property
    def opened(self) -> Secret | None:
        """The key, when this process has opened the file before."""
        return _OPENED.get(self._digest)

    def open(self, passphrase: Secret, source: str, place: str = "", *, reopen: bool = True) -> Secret:
        """Return the key, opened with `passphrase` and remembered; unless `reopen`, an open key is returned.

        `place` names the source of the passphrase in an error, with a trailing blank.

        Raises WalletLocked when it does not open, WalletError when the key is not that of the address.
        """
        account = load_account()
        with _ONE_AT_A_TIME:  # eight requests at once need to open it only once
            key = None if reopen else self.opened
            if key is None:
                fields = json.loads(self.text)
                key = with_secrets(
                    lambda phrase: Secret(bytes(account.decrypt(fields, phrase))),
                    passphrase,
                    on_error=lambda _: WalletLocked(
                        f"The passphrase {place}does not open {source}.",
                        "Try again. Without the passphrase nobody can open it, and neither can we.",
                    ),
                )
                self._remember(key, source)
        return key

    def with_address(self, key: Secret, source: str) -> Keystore:
        """Return this keystore with the address of its `key`, which keystores of other programs may lack."""
        if self.address is not None:
            return self
        address = address_of(key, source)
        named = Keystore(json.dumps(json.loads(self.text) | {"address": address.removeprefix("0x")}), address)
        named._remember(key, source)
        return named

    def _remember(self, key: Secret, source: str) -> None:
        read = read_key(key, source)
        if isinstance(read, WalletError):
            raise read
        if self.address is not None and address_of(key, source) != self.address:
            raise WalletError(
                f"The key in {source} does not belong to {self.address}, the address in the file.",
                "Do not use this file: it was changed or is damaged.",
            )
        _OPENED[self._digest] = read

    @property
    def _digest(self) -> str:
        return sha256(self.text.encode()).hexdigest()


def address_of(key: Secret, source: str) -> str:
    """Return the EIP-55 address of a key; raises WalletError if it cannot be derived."""
    account = load_account()
    return with_secrets(lambda value: str(account.from_key(value).address), key, on_error=unusable(source))


def lock_key(key: Secret, passphrase: Secret) -> Keystore:
    """Return a new keystore of `key` that `passphrase` opens; in this process, it is already open."""
    account = load_account()
    text = with_secrets(
        lambda value, phrase: json.dumps(account.encrypt(value, phrase, kdf="scrypt")),
        key,
        passphrase,
        on_error=unusable("the new wallet"),
    )
    keystore = Keystore(text, address_of(key, "the new wallet"))
    keystore._remember(key, "the new wallet")  # noqa: SLF001  our own
    return keystore


def read_keystore(content: Secret, source: str) -> Keystore | WalletError:
    """Return the keystore in a file's text, or the error to raise, which says nothing of the text.

    A keystore that needs too much memory is an error as well.
    """
    text = str(content.reveal())
    try:
        fields = read_json(text.encode())
        crypto = {name.lower(): value for name, value in _lower(fields)["crypto"].items()}
        sound = _lower(fields)["version"] == 3 and _is_sound(crypto)
        address = _address(_lower(fields).get("address"))
    except (ValueError, TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        return WalletError(
            f"{source} is not a keystore of version 3 that can be opened here.",
            "Export the account again as a keystore file (Web3 Secret Storage), or import its key.",
        )
    return Keystore(text, address)


def _lower(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in fields.items()}


def _is_sound(crypto: Mapping[str, Any]) -> bool:
    """Return whether all fields for opening are present and in bounds; raises KeyError or TypeError if not."""
    costs: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "scrypt": _scrypt_is_bearable,
        "pbkdf2": _pbkdf2_is_bearable,
    }
    params = crypto["kdfparams"]
    return (
        crypto["cipher"] == "aes-128-ctr"
        and all(_is_hex(crypto[name], 64) for name in ("ciphertext", "mac"))
        and _is_hex(crypto["cipherparams"]["iv"], 32)
        and _is_hex(params["salt"])
        and params["dklen"] == 32
        and costs[crypto["kdf"]](params)
    )


def _scrypt_is_bearable(params: Mapping[str, Any]) -> bool:
    n, r, p = (_count(params[name]) for name in "nrp")
    return n > 1 and n & (n - 1) == 0 and 128 * n * r <= _MAX_MEMORY and p <= 16


def _pbkdf2_is_bearable(params: Mapping[str, Any]) -> bool:
    return params["prf"] == "hmac-sha256" and _count(params["c"]) <= _MAX_ROUNDS


def _count(number: object) -> int:
    if type(number) is not int or number < 1:
        raise ValueError("a count is a whole number from 1")
    return number


def _is_hex(text: object, digits: int | None = None) -> bool:
    return isinstance(text, str) and re.fullmatch(rf"(?:0x)?[0-9a-fA-F]{{{digits or '2,128'}}}", text) is not None


def _address(text: object) -> str | None:
    return checksum_address(text) if isinstance(text, str) and text else None


def unusable(source: str) -> Callable[[Exception], WalletError]:
    """Return a function that turns an eth-account exception into a WalletError, for `with_secrets`."""
    return lambda error: WalletError(
        f"The key from {source} could not be used ({type(error).__name__}).",
        "Check that eth-account is installed in a current version, then try again.",
    )
