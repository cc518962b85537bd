"""Wallets by name: their files, the selected one, and new ones.

`default` is the wallet of BlockRun's own SDKs (gateway protocol, section 1); the others are files of ours, hex or
encrypted. With `BLOCKRUN_HOME`, the SDKs' files are in a folder `.blockrun` below it (section 9), and we read those in
`BLOCKRUN_HOME` itself, too.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blockrun_magic.errors import WalletError
from blockrun_magic.files import read_file, write_atomically
from blockrun_magic.payments.secrets import Secret, with_secrets
from blockrun_magic.payments.wallets.key_files import create_private_dir, create_private_file, display_path
from blockrun_magic.payments.wallets.keystore import Keystore
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["DEFAULT", "WALLET_VARIABLE", "WalletRegistry", "check_name", "hex_of", "new_key"]

_MAX_CHOICE = 4096
WALLET_VARIABLE = "BLOCKRUN_WALLET"
DEFAULT = "default"
_OFFICIAL = (".session", "wallet.key")
_SOLANA = ".solana-session"
_CHOSEN = "chosen"
_TYPED = "This"
_MAX_SHOWN = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class WalletRegistry:
    """The files of a user's wallets: `folder` is ours, `shared` that of BlockRun's SDKs, `home` the user's."""

    folder: Path
    home: Path
    moved: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str], home: Path) -> WalletRegistry:
        """Return the registry of this user, in `BLOCKRUN_HOME` or `home`/.blockrun."""
        moved, usual = environ.get("BLOCKRUN_HOME", ""), home / ".blockrun"
        folder = Path(moved).expanduser() if moved else usual
        return cls(folder, home, folder != usual)

    @property
    def shared(self) -> Path:
        """The folder in which BlockRun's SDKs look for their files, and a new default wallet is written."""
        return self.folder / ".blockrun" if self.moved else self.folder

    @property
    def _folders(self) -> tuple[Path, ...]:
        return (self.folder, self.folder / ".blockrun")

    @property
    def solana_files(self) -> tuple[Path, ...]:
        """The files that may hold the Solana wallet; the first that exists does."""
        return tuple(folder / _SOLANA for folder in self._folders)

    @property
    def named(self) -> Path:
        """The folder of the wallets that have a name."""
        return self.folder / "magic" / "wallets"

    def display_path(self, path: Path) -> str:
        """Return a path as people write it: "~/.blockrun/.session"."""
        return display_path(path, self.home)

    def files(self, name: str) -> tuple[Path, ...]:
        """Return the files that may hold the wallet `name`; the first that exists does."""
        keystore = self.named / f"{name}.json"
        if name == DEFAULT:
            return (keystore, *(folder / file for file in _OFFICIAL for folder in self._folders))
        return (keystore, self.named / f"{name}.key")

    def names(self) -> list[str]:
        """Return the name of every wallet that has a file, `default` first."""
        stems = {DEFAULT}
        with suppress(OSError):
            stems |= {path.stem for path in self.named.iterdir() if _NAME.fullmatch(path.stem)}
        names = [name for name in stems if any(os.path.lexists(path) for path in self.files(name))]
        return sorted(names, key=lambda name: (name != DEFAULT, name))

    def selected(self, environ: Mapping[str, str]) -> tuple[str, str] | WalletError:
        """Return the name of the paying wallet and the reason, or the error to raise."""
        named = environ.get(WALLET_VARIABLE, "").strip()
        if named:
            return _name_or_error(named, WALLET_VARIABLE) or (named, f"selected by {WALLET_VARIABLE}")
        file = self.named / _CHOSEN
        try:
            chosen = read_file(file, _MAX_CHOICE).decode().strip()
        except (FileNotFoundError, NotADirectoryError):
            return DEFAULT, "the default"
        except (OSError, ValueError) as error:
            message = (
                f"{self.display_path(file)}, which selects the paying wallet, cannot be read ({type(error).__name__})."
            )
            return WalletError(message, "Select a wallet again with `%blockrun wallet use NAME`.")
        return _name_or_error(chosen, self.display_path(file)) or (chosen, "selected with `%blockrun wallet use`")

    def select(self, name: str) -> None:
        """Select the paying wallet for every kernel; raises WalletError if there is no such wallet."""
        check_name(name)
        names = self.names()
        if name not in (*names, DEFAULT):
            raise WalletError(
                f"Unknown wallet: {name}.",
                f"{did_you_mean(name, names)}`%blockrun wallet list` shows the names.",
            )
        create_private_dir(self.named)
        try:
            write_atomically(self.named / _CHOSEN, name.encode())
        except OSError as error:
            raise WalletError(
                f"Could not save the selected wallet: {_lower(error.strerror or type(error).__name__)}.",
                f"Free some space or check the permissions of {self.display_path(self.named)},"
                f" or set {WALLET_VARIABLE}={name}.",
            ) from error

    def check_available(self, name: str) -> None:
        """Raise WalletError for a bad name, and for one that is taken."""
        check_name(name)
        taken = [path for path in self.files(name) if os.path.lexists(path)]
        if taken:
            raise WalletError(
                f"The wallet {name} exists already ({self.display_path(taken[0])}); wallets are never overwritten.",
                "Choose another name: `%blockrun wallet create NAME`, or `%blockrun wallet import ... --as NAME`.",
            )

    def save_key(self, name: str, key: Secret) -> Path:
        """Write `key` as 0x and hex into a new file, and return the file; raises WalletError.

        The wallet `default` gets the file that BlockRun's own SDKs read.
        """
        path = self.shared / _OFFICIAL[0] if name == DEFAULT else self.named / f"{name}.key"
        return self._keep(name, path, hex_of(key))

    def save_solana_key(self, text: Secret) -> Path:
        """Write a Solana key pair in base58 into the SDKs' file, and return the file; raises WalletError."""
        taken = next((path for path in self.solana_files if os.path.lexists(path)), None)
        if taken is not None:
            raise WalletError(
                f"A Solana wallet exists already ({self.display_path(taken)}); it is never overwritten.",
                "Move that file elsewhere first, if you no longer use its wallet.",
            )
        path = self.shared / _SOLANA
        create_private_dir(path.parent)
        create_private_file(path, text, self.display_path(path))
        return path

    def save_keystore(self, name: str, keystore: Keystore) -> Path:
        """Write `keystore` into a new file, and return the file; raises WalletError."""
        return self._keep(name, self.named / f"{name}.json", Secret(keystore.text))

    def _keep(self, name: str, path: Path, content: Secret) -> Path:
        self.check_available(name)
        create_private_dir(path.parent)
        create_private_file(path, content, self.display_path(path))
        return path


def check_name(name: str) -> None:
    """Raise WalletError if `name` is not a valid wallet name."""
    error = _name_or_error(name, _TYPED)
    if error is not None:
        raise error


def new_key() -> Secret:
    """Return a new random key."""
    return Secret(secrets.token_bytes(32))


def hex_of(key: Secret) -> Secret:
    """Return a key's 32 bytes as 0x and 64 hex digits."""
    return with_secrets(lambda value: Secret(f"0x{value.hex()}"), key, on_error=_no_key)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _no_key(error: Exception) -> WalletError:
    return WalletError(f"This is not a private key ({type(error).__name__}).", "Create or import a wallet again.")


def _name_or_error(name: str, source: str) -> WalletError | None:
    """Return the error to raise for an invalid name; a long one is not shown, because it may be a key."""
    if _NAME.fullmatch(name):
        return None
    subject = quoted(name) if source == _TYPED and len(name) <= _MAX_SHOWN else source
    return WalletError(
        f"{subject} is not a valid wallet name.",
        "A name is up to 32 lower-case letters, digits, - and _, such as: main.",
    )
