"""Wallets on EVM chains: the source of a key, its address, and signatures.

Nothing here shows a key; see `secrets`. An encrypted wallet has its address at once, and is opened when it signs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from blockrun_magic.errors import WalletError, WalletLocked, WalletMissing
from blockrun_magic.payments.secrets import Secret, SecretHolder, with_secrets
from blockrun_magic.payments.signing_library import address_of, load_account, load_encode_typed_data, parse_key
from blockrun_magic.payments.wallets.key_files import read_keyfile
from blockrun_magic.payments.wallets.keystore import Keystore, read_keystore, unusable
from blockrun_magic.payments.wallets.passphrase import VARIABLE, from_environment, from_keyring
from blockrun_magic.payments.wallets.private_key import read_key
from blockrun_magic.payments.wallets.registry import DEFAULT, WalletRegistry, hex_of
from blockrun_magic.payments.x402.networks import EVM

__all__ = ["Wallet", "all_wallets", "find_wallet", "practice_wallet"]

_T = TypeVar("_T")

_VARIABLES = ("BLOCKRUN_WALLET_KEY", "BASE_CHAIN_WALLET_KEY")


class Wallet(SecretHolder):
    """A key that signs and has an address, and is never shown.

    `source` is the location of the key ("BLOCKRUN_WALLET_KEY", "~/.blockrun/.session"), `why` the reason why this
    wallet pays, `name` the wallet's name, if it has one, and `warning` a remark about the location, or None.
    """

    __slots__ = ("_address", "_held", "_parsed", "_passphrase", "name", "source", "warning", "why")

    namespace = EVM
    source: str
    why: str
    name: str | None
    warning: str | None

    def __init__(
        self,
        held: Secret | Keystore,
        source: str,
        warning: str | None = None,
        *,
        name: str | None = None,
        why: str = "",
        passphrase: Secret | None = None,
    ) -> None:
        self._held = held
        self._parsed: tuple[Secret, Secret] | None = None
        self._passphrase = passphrase
        self._address = held.address if isinstance(held, Keystore) else None
        self.source = source
        self.warning = warning
        self.name = name
        self.why = why

    @classmethod
    def from_key(cls, key: str | bytes, source: str) -> Wallet:
        """Return the wallet of `key`: 64 hex digits, 0x or not, or 32 bytes.

        Raises WalletError, which names `source` and never the key.
        """
        secret = read_key(Secret(key), source)
        del key  # a traceback that prints local variables must not find it
        if isinstance(secret, WalletError):
            raise secret
        return cls(secret, source)

    @property
    def address(self) -> str:
        """The EIP-55 address, computed once."""
        if self._address is None:
            self._address = self._with_key(address_of)
        return self._address

    @property
    def encrypted(self) -> bool:
        """Whether the key is in a keystore, which a passphrase opens."""
        return isinstance(self._held, Keystore)

    @property
    def locked(self) -> bool:
        """Whether this process has not opened the key yet."""
        return isinstance(self._held, Keystore) and self._held.opened is None

    def unlock(self, passphrase: Secret | None = None) -> None:
        """Open the key with `passphrase`, or with the one in the variable or the keyring, once per process.

        Raises WalletLocked if there is no passphrase, or it is the wrong one.
        """
        if not isinstance(self._held, Keystore) or (passphrase is None and not self.locked):
            return
        if passphrase is not None:
            self._held.open(passphrase, self.source)
        elif self._passphrase is not None:
            self._held.open(self._passphrase, self.source, f"in {VARIABLE} ", reopen=False)
        elif (passphrase := from_keyring(self.address)) is not None:
            self._held.open(passphrase, self.source, "in the system's keyring ", reopen=False)
        else:
            raise WalletLocked(
                f"The wallet {self.address} is locked: its key is encrypted ({self.source}).",
                f"`%blockrun wallet unlock` asks for its passphrase; without a keyboard, set {VARIABLE}.",
            )

    @staticmethod
    def prepare() -> None:
        """Import the libraries for signing, which takes a moment; safe in any thread."""
        load_encode_typed_data()

    def sealed_key(self) -> Secret:
        """Return the key as 0x and 64 hex digits, sealed; raises WalletLocked."""
        self.unlock()
        return hex_of(self._key())

    def sign_typed_data(
        self, domain: Mapping[str, Any], types: Mapping[str, list[dict[str, str]]], message: Mapping[str, Any]
    ) -> str:
        """Return the EIP-712 signature as 0x and 130 hex digits, r, s and v; low s, v 27 or 28.

        Raises WalletLocked.
        """
        account, encode_typed_data = load_account(), load_encode_typed_data()
        self.unlock()
        signable = encode_typed_data(dict(domain), dict(types), dict(message))
        return with_secrets(
            lambda key: "0x" + bytes(account.sign_message(signable, key).signature).hex(),
            self._parsed_key(),
            on_error=unusable(self.source),
        )

    def _key(self) -> Secret:
        key = self._held.opened if isinstance(self._held, Keystore) else self._held
        assert key is not None  # noqa: S101  who needs it unlocks first
        return key

    def _parsed_key(self) -> Secret:
        """Return the key in eth-account's form with its public key, which is half the work of a signature."""
        key = self._key()
        if self._parsed is None or self._parsed[0] is not key:
            self._parsed = key, self._with_key(lambda value: Secret(parse_key(value)))
        return self._parsed[1]

    def _with_key(self, use: Callable[[bytes], _T]) -> _T:
        """Return use(key); its exceptions lose the frames that saw the key."""
        return with_secrets(use, self._key(), on_error=unusable(self.source))


def find_wallet(environ: Mapping[str, str], home: Path) -> Wallet:
    """Return the paying wallet: a key in the environment, else the selected wallet, else the default one.

    `BLOCKRUN_WALLET` selects for one process, `%blockrun wallet use` for all; the default wallet is that of
    BlockRun's own SDKs. `environ["BLOCKRUN_HOME"]` replaces `home`/.blockrun. Raises WalletMissing if there is no
    key, and WalletError if the first one found cannot be used.
    """
    wallet = _in_variables(environ) or _chosen(environ, home)
    del environ  # holds the key: a traceback that prints local variables must not find it
    if wallet is None:
        raise WalletMissing(
            "There is no wallet to pay with.",
            "Use `%blockrun use practice` (free, play money), create a wallet with `%blockrun wallet create`, set"
            " BLOCKRUN_WALLET_KEY to a key that holds USDC on Base, or put that key into ~/.blockrun/.session (0600)"
            " as the official SDKs do.",
        )
    if isinstance(wallet, WalletError):
        raise wallet
    return wallet


def all_wallets(environ: Mapping[str, str], home: Path) -> list[tuple[str, Wallet | WalletError]]:
    """Return every wallet, or its error, by name; the one in the environment first."""
    registry, passphrase = WalletRegistry.of(environ, home), from_environment(environ)
    first = _in_variables(environ)
    del environ  # as in `find_wallet`
    wallets = [] if first is None else [(_VARIABLES[0] if isinstance(first, WalletError) else first.source, first)]
    named = ((name, _named(registry, name, "", passphrase)) for name in registry.names())
    return wallets + [(name, wallet) for name, wallet in named if wallet is not None]


def practice_wallet() -> Wallet:
    """Return the wallet of the practice gateway; its key is public, so never fund it."""
    return Wallet(Secret(hashlib.sha256(b"blockrun-magic practice wallet").digest()), "practice")


def _in_variables(environ: Mapping[str, str]) -> Wallet | WalletError | None:
    for name in _VARIABLES:
        wallet = _variable(environ, name)
        if wallet is not None:
            return _wallet_or_error(wallet, name, why="a key in the environment comes first")
    return None


def _variable(environ: Mapping[str, str], name: str) -> Secret | None:
    text = environ.get(name, "")
    return Secret(text) if text.strip() else None


def _chosen(environ: Mapping[str, str], home: Path) -> Wallet | WalletError | None:
    registry = WalletRegistry.of(environ, home)
    selection = registry.selected(environ)
    if isinstance(selection, WalletError):
        return selection
    name, why = selection
    wallet = _named(registry, name, why, from_environment(environ))
    if wallet is None and name != DEFAULT:
        return WalletError(
            f"The wallet file for {name!r} ({why}) no longer exists.",
            "`%blockrun wallet list` shows the wallets; select one with `%blockrun wallet use NAME`.",
        )
    return wallet


def _named(registry: WalletRegistry, name: str, why: str, passphrase: Secret | None) -> Wallet | WalletError | None:
    for path in registry.files(name):
        source = registry.display_path(path)
        keyfile = read_keyfile(path, source)
        if isinstance(keyfile, WalletError):
            return keyfile
        if keyfile is None:
            continue
        content, warning = keyfile
        if path.suffix == ".json":
            return _encrypted(content, source, warning, name, why, passphrase)
        warning = " ".join(filter(None, (warning, _other_default(registry, path, content)))) or None
        return _wallet_or_error(content, source, warning, name=name, why=why)
    return None


def _encrypted(
    content: Secret, source: str, warning: str | None, name: str, why: str, passphrase: Secret | None
) -> Wallet | WalletError:
    keystore = read_keystore(content, source)
    if isinstance(keystore, WalletError):
        return keystore
    if keystore.address is None:
        hint = (
            f"Move it elsewhere, then `%blockrun wallet import FILE --as {name}`, which reads the address from the key."
        )
        return WalletError(f"{source} does not name the address of its key.", hint)
    return Wallet(keystore, source, warning, name=name, why=why, passphrase=passphrase)


def _other_default(registry: WalletRegistry, path: Path, content: Secret) -> str | None:
    """Return a warning if the SDKs' file below `BLOCKRUN_HOME` holds another wallet than `path`, which pays."""
    sdk_file = registry.folder / ".blockrun" / path.name
    if path.parent != registry.folder:
        return None
    other = read_keyfile(sdk_file, registry.display_path(sdk_file))
    if not isinstance(other, tuple) or _same_key(other[0], content):
        return None
    return (
        f"{registry.display_path(sdk_file)} holds another wallet, which BlockRun's TypeScript SDK uses;"
        f" here {registry.display_path(path)} pays."
    )


def _same_key(first: Secret, second: Secret) -> bool:
    keys = [read_key(secret, "") for secret in (first, second)]
    values = [key.reveal() for key in keys if isinstance(key, Secret)]
    return len(values) == 2 and values[0] == values[1]


def _wallet_or_error(
    secret: Secret, source: str, warning: str | None = None, name: str | None = None, why: str = ""
) -> Wallet | WalletError:
    key = read_key(secret, source)
    return key if isinstance(key, WalletError) else Wallet(key, source, warning, name=name, why=why)
