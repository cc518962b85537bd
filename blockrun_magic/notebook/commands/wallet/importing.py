"""`%blockrun wallet import`: a key that is typed unseen, in a file, or in another program's wallet."""

from __future__ import annotations

import re
from pathlib import Path

from blockrun_magic.errors import WalletError, WalletLocked
from blockrun_magic.notebook.commands.arguments import Arguments
from blockrun_magic.notebook.commands.wallet.keys import (
    ImportedKey,
    no_input_error,
    places_here,
    save_wallet,
    wallets_here,
)
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.wallets.external import find_external_keys, read_key_or_keystore
from blockrun_magic.payments.wallets.key_files import display_path
from blockrun_magic.payments.wallets.keystore import Keystore, address_of
from blockrun_magic.payments.wallets.passphrase import from_environment, prompt_hidden
from blockrun_magic.payments.wallets.private_key import read_key
from blockrun_magic.payments.wallets.registry import DEFAULT
from blockrun_magic.wiring import ENVIRON

__all__ = ["import_key"]

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_TYPED = "your answer"


def import_key(_context: Context, arguments: Arguments) -> Card:
    """Keep a key from elsewhere as a wallet here; without a word, return what there is to import."""
    source = arguments["KEY"]
    if source is None:
        return _offers()
    name = arguments["--as"] or DEFAULT
    places_here().check_available(name)
    return save_wallet(name, _from_elsewhere(source), arguments, "Imported")


def _from_elsewhere(what: str) -> ImportedKey:
    found: Secret | Keystore | WalletError
    if what == "key":
        found = _typed_key()
    elif _ADDRESS.fullmatch(what):
        found = _key_of(what)
    else:
        path = Path(what).expanduser().absolute()
        source = display_path(path, Path.home())
        found = read_key_or_keystore(path, source)
        if isinstance(found, Keystore):
            return _opened(found, source)
    if not isinstance(found, Secret):
        raise found
    return ImportedKey(found)


def _typed_key() -> Secret | WalletError:
    typed = prompt_hidden("Private key (it is not shown): ")
    if typed is None:
        return WalletError(
            "A key is typed unseen, and there is nobody to type it.",
            "Run it where there is a keyboard, or import a key file by its path.",
        )
    return read_key(typed, _TYPED)


def _key_of(address: str) -> Secret | WalletError:
    for path, key in find_external_keys(Path.home()):
        if address_of(key, str(path)).lower() == address.lower():
            return key
    return WalletError(
        f"No file of another program that is known here holds the key of {address}.",
        "`%blockrun wallet import` lists those that do; or give the path of the file.",
    )


def _opened(keystore: Keystore, source: str) -> ImportedKey:
    """Return the key of a keystore file, opened with the passphrase of the variable, else with one that is typed."""
    passphrase, wrong = from_environment(ENVIRON), None
    if passphrase is not None:
        try:
            key = keystore.open(passphrase, source)
        except WalletLocked as error:
            wrong = error
        else:
            return ImportedKey(key, keystore.with_address(key, source), passphrase)
    passphrase = prompt_hidden(f"Passphrase of {source}: ")
    if passphrase is None:
        raise wrong or no_input_error()
    key = keystore.open(passphrase, source)
    return ImportedKey(key, keystore.with_address(key, source), passphrase)


def _offers() -> Card:
    ours = {kept.address for _, kept in wallets_here() if isinstance(kept, Wallet)}
    found = {address_of(key, str(path)): path for path, key in find_external_keys(Path.home())}
    rows = [(address, display_path(path, Path.home())) for address, path in found.items() if address not in ours]
    note = (
        "`%blockrun wallet import ADDRESS` takes one of these over and leaves its file where it is; `import FILE` takes"
        " any key or keystore file; `import key` asks for a key without showing it."
    )
    if not rows:
        return Message(f"No wallet of another program was found.\n{note}")
    return Table(("address", "kept in"), rows, title="Wallets of other programs", note=note, left=2)
