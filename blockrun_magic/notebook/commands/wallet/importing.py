"""`%blockrun wallet import`: a key from a hidden prompt, a file, or another program's wallet."""

from __future__ import annotations

import re
from pathlib import Path

from blockrun_magic.errors import UsageError, WalletError, WalletLocked
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
from blockrun_magic.payments.wallets.external import (
    find_external_keys,
    find_external_solana_keys,
    read_key_or_keystore,
    read_solana_file,
)
from blockrun_magic.payments.wallets.key_files import display_path
from blockrun_magic.payments.wallets.keystore import Keystore, address_of
from blockrun_magic.payments.wallets.passphrase import from_environment, prompt_hidden
from blockrun_magic.payments.wallets.private_key import read_key
from blockrun_magic.payments.wallets.registry import DEFAULT
from blockrun_magic.payments.wallets.solana import SolanaWallet, solana_text
from blockrun_magic.wiring import ENVIRON

__all__ = ["import_key"]

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_TYPED = "your answer"


def import_key(_context: Context, arguments: Arguments) -> Card:
    """Store a key from elsewhere as a wallet here; without an argument, return the keys that can be imported."""
    source = arguments["KEY"]
    if source is None:
        return _offers()
    if arguments["--solana"]:
        return _import_solana(source, arguments)
    name = arguments["--as"] or DEFAULT
    places_here().check_available(name)
    return save_wallet(name, _from_elsewhere(source), arguments, "Imported")


def _from_elsewhere(origin: str) -> ImportedKey:
    result: Secret | Keystore | WalletError
    if origin == "key":
        result = _typed_key()
    elif _ADDRESS.fullmatch(origin):
        result = _key_of(origin)
    else:
        path = Path(origin).expanduser().absolute()
        source = display_path(path, Path.home())
        result = read_key_or_keystore(path, source)
        if isinstance(result, Keystore):
            return _opened(result, source)
    if not isinstance(result, Secret):
        raise result
    return ImportedKey(result)


def _typed_key() -> Secret | WalletError:
    typed = prompt_hidden("Private key (it is not shown): ")
    if typed is None:
        return WalletError(
            "A key must be typed at a hidden prompt, and this session has no keyboard.",
            "Run it in an interactive session, or import a key file by its path.",
        )
    return read_key(typed, _TYPED)


def _key_of(address: str) -> Secret | WalletError:
    for path, key in find_external_keys(Path.home()):
        if address_of(key, str(path)).lower() == address.lower():
            return key
    return WalletError(
        f"No known file of another program holds the key of {address}.",
        "`%blockrun wallet import` lists the keys that were found. You can also give the path of a file.",
    )


def _opened(keystore: Keystore, source: str) -> ImportedKey:
    """Return the key of a keystore file, opened with the passphrase from the environment or a typed one."""
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


def _import_solana(source: str, arguments: Arguments) -> Card:
    """Store the Solana key of a file where BlockRun's own SDKs read theirs."""
    if any(arguments[name] for name in ("--as", "--encrypt", "--keyring")):
        raise UsageError(
            "There is one Solana wallet, in a plain file.", "Write: `%blockrun wallet import FILE --solana`."
        )
    path = Path(source).expanduser().absolute()
    key = read_solana_file(path, display_path(path, Path.home()))
    if isinstance(key, WalletError):
        raise key
    registry = places_here()
    file = registry.save_solana_key(solana_text(key))
    stored = registry.display_path(file)
    return Message(
        f"Imported: {SolanaWallet(key, stored).address}\n"
        f"Its key is in {stored}, readable by you only.\n"
        "Next: `%blockrun use solana` to pay with it."
    )


def _offers() -> Card:
    home = Path.home()
    own_addresses = {wallet.address for _, wallet in wallets_here() if not isinstance(wallet, WalletError)}
    keys = {address_of(key, str(path)): path for path, key in find_external_keys(home)}
    rows = [
        ("EVM", address, display_path(path, home)) for address, path in keys.items() if address not in own_addresses
    ]
    solana = {SolanaWallet(key, str(path)).address: path for path, key in find_external_solana_keys(home)}
    own = set(places_here().solana_files)
    rows += [("Solana", address, display_path(path, home)) for address, path in solana.items() if path not in own]
    note = (
        "`%blockrun wallet import ADDRESS` copies one of the EVM keys, `import FILE --solana` the Solana key of a file."
        " `import FILE` copies the key of any key file, keystore or recovery phrase; `import key` asks for a key"
        " without showing it. The files stay where they are."
    )
    if not rows:
        return Message(f"No wallets of other programs were found.\n{note}")
    return Table(("for", "address", "stored in"), rows, title="Wallets of other programs", note=note, left=3)
