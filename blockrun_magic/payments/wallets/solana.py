"""The key that pays on Solana: an Ed25519 key in base58, where BlockRun's own SDKs keep theirs.

The same rules as for `wallet.Wallet`: it says its address and signs, and is never shown.
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

if TYPE_CHECKING:
    from solders.keypair import Keypair

__all__ = ["SolanaWallet", "find_solana_wallet", "require_solders"]

_T = TypeVar("_T")

_VARIABLE = "SOLANA_WALLET_KEY"
_FILE = ".solana-session"
_SEED, _PAIR = 32, 64
_HEX = re.compile(r"(?:0[xX])?[0-9a-fA-F]{64}")
_NUMBERS = re.compile(r"\[\s*[0-9]{1,3}(?:\s*,\s*[0-9]{1,3}){63}\s*\]")


class SolanaWallet(SecretHolder):
    """A Solana key that signs and says its address; `source`, `why` and `warning` as in `wallet.Wallet`."""

    __slots__ = ("_address", "_held", "source", "warning", "why")

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
        """Import what signing needs, as `Wallet.prepare` does."""
        import solders.message
        import solders.transaction  # noqa: F401

    def unlock(self) -> None:
        """Do nothing: a key that is not encrypted is always open."""

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of `message`, 64 bytes."""
        return self._with_key(lambda key: bytes(_keypair(key).sign_message(message)))

    def _with_key(self, use: Callable[[str | bytes], _T]) -> _T:
        return with_secrets(use, self._held, blame=lambda _error: _unusable(self.source))


def find_solana_wallet(environ: Mapping[str, str], home: Path) -> SolanaWallet:
    """Return the wallet of `SOLANA_WALLET_KEY`, else that of ~/.blockrun/.solana-session.

    Raises WalletMissing where there is neither, WalletError where the first one found cannot be used, and
    ExtraMissing where solders is not installed.
    """
    require_solders()
    found = _in_variable(environ) or _in_file(environ, home)
    del environ  # holds the key: a traceback that prints local variables must not find it
    if found is None:
        raise WalletMissing(
            "There is no Solana wallet to pay with.",
            f"Set {_VARIABLE} to a key that holds USDC on Solana (base58), or put that key into"
            f" ~/.blockrun/{_FILE} (0600), as the official SDKs do.",
        )
    if isinstance(found, WalletError):
        raise found
    return found


def require_solders() -> None:
    """Raise ExtraMissing unless solders is installed, which Solana's transactions are made and signed with."""
    try:
        import solders.pubkey  # noqa: F401
    except ImportError:
        raise MissingDependency(
            "Paying on Solana needs a library that is not installed: solders.",
            'Run `%pip install "blockrun-magic[solana]"`, or pay on Base: `%blockrun use base`.',
        ) from None


def _in_variable(environ: Mapping[str, str]) -> SolanaWallet | WalletError | None:
    text = environ.get(_VARIABLE, "")
    if not text.strip():
        return None
    key = _read_key(Secret(text), _VARIABLE)
    return key if isinstance(key, WalletError) else SolanaWallet(key, _VARIABLE, why="a key in the environment")


def _in_file(environ: Mapping[str, str], home: Path) -> SolanaWallet | WalletError | None:
    places = WalletRegistry.of(environ, home)
    path = places.folder / _FILE
    source = places.display_path(path)
    found = read_keyfile(path, source)
    if found is None or isinstance(found, WalletError):
        return found
    content, warning = found
    key = _read_key(content, source)
    return (
        key if isinstance(key, WalletError) else SolanaWallet(key, source, warning, "where the official SDKs keep it")
    )


def _read_key(secret: Secret, source: str) -> Secret | WalletError:
    """Return the 64 bytes of the key pair that is meant, or the error to raise, from a frame without the key."""
    text = str(secret.reveal()).strip().strip("\"'").strip()
    if _HEX.fullmatch(text):
        return WalletError(f"{source} holds an Ethereum key; Solana needs one of its own, in base58.", _advice(source))
    raw = _bytes_of(text)
    if raw is None:
        return WalletError(f"The key in {source} is no Solana key.", _advice(source))
    try:
        return Secret(bytes(_keypair(raw)))
    except ValueError:
        return WalletError(f"The two halves of the key in {source} do not belong together.", _advice(source))


def _bytes_of(text: str) -> bytes | None:
    """Return what `text` says: base58 of a seed or a pair, or a pair as solana-keygen writes it; else None."""
    from solders.pubkey import Pubkey
    from solders.signature import Signature

    if _NUMBERS.fullmatch(text):
        numbers = [int(number) for number in text.strip("[]").split(",")]
        return bytes(numbers) if max(numbers) < 256 else None
    for kind in (Signature, Pubkey):
        # Sixty-four bytes, or thirty-two, whatever they stand for.
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
    return f"Put a Solana private key into {source}: base58, as wallets export it."
