"""Keys in other programs' files, read only on request; such a key never pays until it is imported.

BlockRun's SDKs know `~/.PROGRAM/wallet.json` and `~/.PROGRAM/solana-wallet.json` with a "privateKey" in them, and keep
the key that an import replaced in `~/.blockrun/.session.backup-TIME`. ClawRouter has `wallet.key` and `mnemonic` in
`~/.openclaw/blockrun`, Solana's command line `~/.config/solana/id.json`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from blockrun_magic.errors import MissingDependency, WalletError
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.key_files import read_keyfile
from blockrun_magic.payments.wallets.keystore import Keystore, read_keystore
from blockrun_magic.payments.wallets.mnemonic import evm_key_of, holds_phrase, solana_key_of
from blockrun_magic.payments.wallets.private_key import read_key
from blockrun_magic.payments.wallets.solana import read_solana_key, require_solders
from blockrun_magic.safejson import read_json

__all__ = ["find_external_keys", "find_external_solana_keys", "read_key_or_keystore", "read_solana_file"]

_MNEMONIC = ".openclaw/blockrun/mnemonic"
_EVM_FILES = (".blockrun/.session", ".blockrun/wallet.key", ".openclaw/blockrun/wallet.key", _MNEMONIC)
_EVM_PATTERNS = (".blockrun/.session.backup-*", ".*/wallet.json")
_SOLANA_FILES = (".blockrun/.solana-session", ".config/solana/id.json", _MNEMONIC)
_SOLANA_PATTERNS = (".blockrun/.solana-session.backup-*", ".*/solana-wallet.json")


def find_external_keys(home: Path) -> list[tuple[Path, Secret]]:
    """Return the plain EVM keys in the files of other programs in `home`, each with its file."""
    keys = ((path, read_key_or_keystore(path, str(path))) for path in _files(home, _EVM_FILES, _EVM_PATTERNS))
    return [(path, key) for path, key in keys if isinstance(key, Secret)]


def find_external_solana_keys(home: Path) -> list[tuple[Path, Secret]]:
    """Return the Solana keys in the files of other programs in `home`, each with its file; none without solders."""
    with suppress(MissingDependency):
        require_solders()
        keys = ((path, read_solana_file(path, str(path))) for path in _files(home, _SOLANA_FILES, _SOLANA_PATTERNS))
        return [(path, key) for path, key in keys if isinstance(key, Secret)]
    return []


def _files(home: Path, names: tuple[str, ...], patterns: tuple[str, ...]) -> list[Path]:
    files = [home / name for name in names]
    with suppress(OSError):
        files += sorted(path for pattern in patterns for path in home.glob(pattern))
    return files


def read_solana_file(path: Path, source: str) -> Secret | WalletError:
    """Return the 64 bytes of the Solana key pair in a file, or the error to raise; raises MissingDependency.

    The file holds a key in base58, hex or a JSON array, JSON with a "privateKey", or a recovery phrase.
    """
    require_solders()
    content = _content(path, source)
    if isinstance(content, WalletError):
        return content
    if holds_phrase(content):
        return solana_key_of(content, source)
    return read_solana_key(_private_key(content) or content, source)


def _content(path: Path, source: str) -> Secret | WalletError:
    content = read_keyfile(path, source)
    if content is None:
        return WalletError(f"{source} is empty or does not exist.", "Give the path of a key or keystore file.")
    return content if isinstance(content, WalletError) else content[0]


def read_key_or_keystore(path: Path, source: str) -> Secret | Keystore | WalletError:
    """Return the EVM key in a file, the file as a keystore, or the error to raise.

    The file holds 64 hex digits, a keystore, JSON with a "privateKey", or a recovery phrase.
    """
    content = _content(path, source)
    if isinstance(content, WalletError):
        return content
    if holds_phrase(content):
        return evm_key_of(content, source)
    named = _private_key(content)
    if named is not None:
        return read_key(named, source)
    return read_keystore(content, source) if _is_json(content) else read_key(content, source)


def _is_json(content: Secret) -> bool:
    return str(content.reveal()).lstrip().startswith("{")


def _private_key(content: Secret) -> Secret | None:
    """Return the "privateKey" of a JSON object, or None."""
    try:
        fields = read_json(str(content.reveal()).encode())
    except ValueError:
        return None
    value = fields.get("privateKey") if isinstance(fields, dict) else None
    return Secret(value) if isinstance(value, str) else None
