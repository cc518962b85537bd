"""`%blockrun wallet` commands that create, export, choose and unlock a key.

A key is typed hidden or read from a file; it is never on the line, in an output or in the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blockrun_magic.errors import WalletError, WalletLocked, WalletMissing
from blockrun_magic.notebook.commands.arguments import Arguments
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message
from blockrun_magic.notebook.display.output import show
from blockrun_magic.notebook.unlock import paying_wallet, prompt_passphrase, unlock_by_asking
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.evm import Wallet, all_wallets
from blockrun_magic.payments.wallets.key_files import check_absent, create_private_file, display_path
from blockrun_magic.payments.wallets.keystore import Keystore, address_of, lock_key
from blockrun_magic.payments.wallets.passphrase import (
    VARIABLE,
    ask_new_passphrase,
    from_environment,
    prompt_visible,
    save_to_keyring,
)
from blockrun_magic.payments.wallets.registry import DEFAULT, WalletRegistry, new_key
from blockrun_magic.wiring import ENVIRON

__all__ = [
    "ImportedKey",
    "create",
    "export",
    "no_input_error",
    "places_here",
    "save_wallet",
    "unlock",
    "use",
    "wallets_here",
]

_NEXT = "Next: `%blockrun wallet qr` to fund it, `%blockrun wallet balance` to see the funds arrive."


@dataclass(frozen=True, slots=True)
class ImportedKey:
    """A key to store, with its keystore and passphrase if it came in one."""

    key: Secret
    keystore: Keystore | None = None
    passphrase: Secret | None = None


def create(_context: Context, arguments: Arguments) -> Card:
    """Create a wallet and return its address; an existing wallet is never replaced."""
    name = arguments["NAME"] or DEFAULT
    places_here().check_available(name)
    return save_wallet(name, ImportedKey(new_key()), arguments, "A new wallet")


def export(_context: Context, arguments: Arguments) -> Card:
    """Write the paying key into a new file, after the user has confirmed it."""
    encrypt = bool(arguments["--encrypt"])
    path = Path(arguments["FILE"]).expanduser().absolute()
    where = display_path(path, Path.home())
    check_absent(path, where)
    wallet = paying_wallet()
    show(
        Message(
            f"CAREFUL: anyone who can read that file can spend the funds of {wallet.address}.\n"
            f"{where} will contain its key{', encrypted' if arguments['--encrypt'] else ', unencrypted'}."
            " Keep it out of notebooks, repositories and synchronized folders."
        )
    )
    answer = prompt_visible("Type the word export to continue: ")
    if answer is None:
        raise WalletError(
            "An export has to be confirmed, but this front end has no keyboard input.",
            f"Run the command in an interactive notebook. The key is in {wallet.source}.",
        )
    if str(answer.reveal()).strip().lower() != "export":
        return Message("Nothing was written.")
    unlock_by_asking(wallet)
    key = wallet.sealed_key()
    create_private_file(path, Secret(lock_key(key, _new_passphrase(where)).text) if encrypt else key, where)
    return Message(f"The key of {wallet.address} is now in {where}, readable only by you.")


def use(_context: Context, arguments: Arguments) -> Card:
    """Select the named wallet for payments."""
    name = arguments["NAME"]
    wallet = dict(wallets_here()).get(name)
    if isinstance(wallet, WalletError):
        raise wallet
    places_here().select(name)
    address = f": {wallet.address}" if wallet is not None else ""
    return Message(
        "\n".join([f"The wallet {name} pays from now on, in every kernel{address}.", *_other_payer_note(name)])
    )


def unlock(_context: Context, arguments: Arguments) -> Card:
    """Ask for the passphrase of the wallet that pays, once for this session."""
    wallet = paying_wallet()
    if not wallet.encrypted:
        return Message(f"{wallet.address} is not encrypted: it needs no passphrase.")
    if not wallet.locked and not arguments["--keyring"]:
        return Message(f"{wallet.address} is already unlocked for this session.")
    passphrase = prompt_passphrase(wallet, no_input_error())
    wallet.unlock(passphrase)
    notes = [_into_keyring(wallet.address, passphrase)] if arguments["--keyring"] else []
    return Message("\n".join([f"{wallet.address} is unlocked for this session.", *notes]))


def wallets_here() -> list[tuple[str, Wallet | WalletError]]:
    """Return every wallet, or its error, by name."""
    return all_wallets(ENVIRON, Path.home())


def places_here() -> WalletRegistry:
    """Return the registry of this user's wallets."""
    return WalletRegistry.of(ENVIRON, Path.home())


def save_wallet(name: str, imported: ImportedKey, arguments: Arguments, event: str) -> Card:
    """Write a key into a new file, select it if it is the first wallet, and return a message."""
    places, first = places_here(), _nobody_pays()
    keystore, passphrase = imported.keystore, imported.passphrase
    if keystore is None and (arguments["--encrypt"] or arguments["--keyring"]):
        passphrase = _new_passphrase(f"the wallet {name}")
        keystore = lock_key(imported.key, passphrase)
    address = address_of(
        imported.key, f"the wallet {name}"
    )  # derived before the file is written, so that no file lacks its address
    path = places.save_key(name, imported.key) if keystore is None else places.save_keystore(name, keystore)
    if first and name != DEFAULT:
        places.select(name)
    lines = [f"{event}: {address}", *_saved_hints(places, path)]
    if arguments["--keyring"] and passphrase is not None:
        lines.append(_into_keyring(address, passphrase))
    return Message("\n".join([*lines, *(_other_payer_note(name) or [_NEXT])]))


def _saved_hints(places: WalletRegistry, path: Path) -> list[str]:
    lines = [
        f"Its key is in {places.display_path(path)}, readable only by you.",
        "Back up that file in a safe place. Anyone with the key can spend the funds; a lost key cannot be recovered.",
    ]
    if path.suffix == ".json":
        lines.append("You enter its passphrase once per session. BlockRun's own SDKs cannot read such a file.")
    elif path == places.home / ".blockrun" / ".session":
        lines.append("BlockRun's own SDKs use the same wallet.")
    elif path.parent == places.shared:
        lines.append("BlockRun's TypeScript SDK uses the same wallet; the Python SDK does not read BLOCKRUN_HOME.")
    return lines


def _into_keyring(address: str, passphrase: Secret) -> str:
    try:
        save_to_keyring(address, passphrase)
    except WalletError as error:
        return f"{error.message} {error.hint}"
    return "Its passphrase is in the system's keyring."


def _nobody_pays() -> bool:
    try:
        paying_wallet()
    except WalletMissing:
        return True
    except WalletError:
        return False
    return False


def _other_payer_note(name: str) -> list[str]:
    """Return a line about the paying wallet, if it is not `name`."""
    try:
        payer = paying_wallet()
    except WalletError as error:
        return [f"{error.message} {error.hint}"]
    if payer.name == name:
        return []
    other = f"{payer.address} from {payer.source} pays in this process ({payer.why})"
    return [f"{other}." if payer.name is None else f"{other}; `%blockrun wallet use {name}` changes that."]


def _new_passphrase(whose: str) -> Secret:
    """Return the passphrase for a new file, from the environment or typed twice; raises WalletError."""
    passphrase = from_environment(ENVIRON) or ask_new_passphrase(whose)
    if passphrase is None:
        raise no_input_error()
    return passphrase


def no_input_error() -> WalletLocked:
    """Return the error for a missing passphrase without keyboard input."""
    return WalletLocked(
        "A passphrase is needed, but this front end has no keyboard input.",
        f"Run the command in an interactive notebook, or set {VARIABLE}.",
    )
