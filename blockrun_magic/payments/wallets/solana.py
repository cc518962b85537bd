"""The wallet that pays on Solana: an Ed25519 key in the file of BlockRun's own SDKs.

As with `evm.Wallet`, it offers its address and signatures, and never shows its key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from blockrun_magic.errors import MissingDependency, WalletError, WalletMissing
from blockrun_magic.payments.secrets import Secret, SecretHolder, with_secrets
from blockrun_magic.payments.wallets.key_files import read_keyfile
from blockrun_magic.payments.wallets.registry import WalletRegistry
from blockrun_magic.payments.x402.networks import SVM

if TYPE_CHECKING:
    from solders.keypair import Keypair

__all__ = ["SolanaWallet", "find_solana_wallet", "read_solana_key", "require_solders", "solana_text"]

_T = TypeVar("_T")

_VARIABLE = "SOLANA_WALLET_KEY"
_SEED, _PAIR = 32, 64
_HEX = re.compile(r"(?:0[xX])?[0-9a-fA-F]{64}")
_HEX_PAIR = re.compile(r"(?:0[xX])?([0-9a-fA-F]{128})")
_NUMBERS = re.compile(r"\[\s*[0-9]{1,3}(?:\s*,\s*[0-9]{1,3}){31}(?:(?:\s*,\s*[0-9]{1,3}){32})?\s*\]")


class SolanaWallet(SecretHolder):
    """A Solana key that signs and has an address; `source`, `why` and `warning` as in `evm.Wallet`."""

    __slots__ = ("_address", "_held", "source", "warning", "why")

    namespace = SVM
    source: str
    why: str
    warning: str | None
    name: str | None = None
    encrypted = False
    locked = False

    def __init__(self, held: Secret, source: str, warning: str | None = None, why: str = "") -> None:
        self._held = held
        self._address: str | None = None
        self.source = source
        self.warning = warning
        self.why = why

    @property
    def address(self) -> str:
        """The public key in base58, computed once."""
        if self._address is None:
            self._address = self._with_key(lambda key: str(_keypair(key).pubkey()))
        return self._address

    @staticmethod
    def prepare() -> None:
        """Import the libraries for signing, as `Wallet.prepare` does."""
        import solders.message
        import solders.transaction  # noqa: F401

    def unlock(self) -> None:
        """Do nothing: a key that is not encrypted is always open."""

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of `message`, 64 bytes."""
        return self._with_key(lambda key: bytes(_keypair(key).sign_message(message)))

    def _with_key(self, use: Callable[[str | bytes], _T]) -> _T:
        return with_secrets(use, self._held, on_error=lambda _error: _unusable(self.source))


def find_solana_wallet(environ: Mapping[str, str], home: Path) -> SolanaWallet:
    """Return the wallet of `SOLANA_WALLET_KEY`, else that of ~/.blockrun/.solana-session.

    Raises WalletMissing without either, WalletError if the first one cannot be used, and MissingDependency if solders
    is not installed.
    """
    require_solders()
    wallet = _in_variable(environ) or _in_file(environ, home)
    del environ  # holds the key: a traceback that prints local variables must not find it
    if wallet is None:
        raise WalletMissing(
            "There is no Solana wallet to pay with.",
            f"Set {_VARIABLE} to a key that holds USDC on Solana (base58), or put that key into"
            f" ~/.blockrun/.solana-session (0600), as the official SDKs do.",
        )
    if isinstance(wallet, WalletError):
        raise wallet
    return wallet


def require_solders() -> None:
    """Raise MissingDependency unless solders is installed, which builds and signs Solana's transactions."""
    try:
        import solders.pubkey  # noqa: F401
    except ImportError:
        raise MissingDependency(
            "Paying on Solana needs the library solders, which is not installed.",
            'Run `%pip install "blockrun-magic[solana]"`, or pay on Base: `%blockrun use base`.',
        ) from None


def _in_variable(environ: Mapping[str, str]) -> SolanaWallet | WalletError | None:
    text = environ.get(_VARIABLE, "")
    if not text.strip():
        return None
    key = read_solana_key(Secret(text), _VARIABLE)
    return key if isinstance(key, WalletError) else SolanaWallet(key, _VARIABLE, why="a key in the environment")


def _in_file(environ: Mapping[str, str], home: Path) -> SolanaWallet | WalletError | None:
    registry = WalletRegistry.of(environ, home)
    for path in registry.solana_files:
        source = registry.display_path(path)
        keyfile = read_keyfile(path, source)
        if isinstance(keyfile, WalletError):
            return keyfile
        if keyfile is not None:
            content, warning = keyfile
            key = read_solana_key(content, source)
            why = "the file of the official SDKs"
            return key if isinstance(key, WalletError) else SolanaWallet(key, source, warning, why)
    return None


def read_solana_key(secret: Secret, source: str) -> Secret | WalletError:
    """Return the 64 bytes of a key pair, or the error to raise, from a frame without the key.

    The text is base58 or a JSON array of numbers, of a pair (64 bytes) or its seed (32), or a pair in hex.
    """
    text = str(secret.reveal()).strip().strip("\"'").strip()
    if _HEX.fullmatch(text):
        return WalletError(f"{source} holds an Ethereum key; Solana needs a Solana key, in base58.", _advice(source))
    raw = _bytes_of(text)
    if raw is None:
        return WalletError(f"The key in {source} is not a Solana key.", _advice(source))
    try:
        return Secret(bytes(_keypair(raw)))
    except ValueError:
        return WalletError(f"The two halves of the key in {source} do not match.", _advice(source))


def solana_text(key: Secret) -> Secret:
    """Return the 64 bytes of a key pair in base58, as BlockRun's own SDKs write it."""
    return with_secrets(
        lambda value: Secret(str(_keypair(value))), key, on_error=lambda _: WalletError("This is not a Solana key.", "")
    )


def _bytes_of(text: str) -> bytes | None:
    """Return the seed or the pair in `text`, or None."""
    from solders.pubkey import Pubkey
    from solders.signature import Signature

    if _NUMBERS.fullmatch(text):
        numbers = [int(number) for number in text.strip("[]").split(",")]
        return bytes(numbers) if max(numbers) < 256 else None
    if pair := _HEX_PAIR.fullmatch(text):
        return bytes.fromhex(pair[1])
    for kind in (Signature, Pubkey):
        # Sixty-four or thirty-two bytes; they are not checked here.
        try:
            return bytes(kind.from_string(text))
        except ValueError:
            continue
    return None


def _keypair(raw: str | bytes) -> Keypair:
    from solders.keypair import Keypair

    assert isinstance(raw, bytes)  # noqa: S101  as `_read_key` makes them
    return Keypair.from_seed(raw) if len(raw) == _SEED else Keypair.from_bytes(raw)


def _unusable(source: str) -> WalletError:
    return WalletError(f"The key in {source} cannot be used.", _advice(source))


def _advice(source: str) -> str:
    return f"Put a Solana private key into {source}, in base58 as wallets export it."
