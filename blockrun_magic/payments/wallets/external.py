"""Keys in other programs' files, looked at only when asked: nothing found here ever pays by itself.

BlockRun's SDKs know `~/.PROGRAM/wallet.json` with a "privateKey" in it; ClawRouter keeps its own in
`~/.openclaw/blockrun/wallet.key`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from blockrun_magic.errors import WalletError
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.key_files import read_keyfile
from blockrun_magic.payments.wallets.keystore import Keystore, read_keystore
from blockrun_magic.payments.wallets.private_key import read_key
from blockrun_magic.safejson import read_json

__all__ = ["find_external_keys", "read_key_or_keystore"]

_CLAWROUTER = ".openclaw/blockrun/wallet.key"
_OFFICIAL = (".blockrun/.session", ".blockrun/wallet.key")


def find_external_keys(home: Path) -> list[tuple[Path, Secret]]:
    """Return the plain keys in the files where programs of this kind keep them in `home`, and the files."""
    found = ((path, read_key_or_keystore(path, str(path))) for path in _candidates(home))
    return [(path, key) for path, key in found if isinstance(key, Secret)]


def _candidates(home: Path) -> list[Path]:
    known = [home / file for file in (*_OFFICIAL, _CLAWROUTER)]
    with suppress(OSError):
        known += sorted(home.glob(".*/wallet.json"))
    return known


def read_key_or_keystore(path: Path, source: str) -> Secret | Keystore | WalletError:
    """Return the key in a file, or the keystore that it is, or the error to raise.

    The file holds 64 hex digits, a keystore, or JSON with a "privateKey".
    """
    found = read_keyfile(path, source)
    if found is None:
        return WalletError(
            f"There is nothing in {source}, or no such file.", "Give the path of a key or keystore file."
        )
    if isinstance(found, WalletError):
        return found
    content, _ = found
    named = _private_key(content)
    if named is not None:
        return read_key(named, source)
    return read_keystore(content, source) if _is_json(content) else read_key(content, source)


def _is_json(content: Secret) -> bool:
    return str(content.reveal()).lstrip().startswith("{")


def _private_key(content: Secret) -> Secret | None:
    """Return what a JSON object calls its "privateKey"."""
    try:
        fields = read_json(str(content.reveal()).encode())
    except ValueError:
        return None
    value = fields.get("privateKey") if isinstance(fields, dict) else None
    return Secret(value) if isinstance(value, str) else None
