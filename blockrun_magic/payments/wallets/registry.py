"""Wallets by name: where their files are, which one is chosen, and how a new one is kept.

`default` is the one that BlockRun's own SDKs use, too (gateway protocol, section 1); the others are
files of ours, hex or encrypted.
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
from blockrun_magic.text import did_you_mean

__all__ = ["DEFAULT", "WALLET_VARIABLE", "WalletRegistry", "check_name", "hex_of", "new_key"]

_MAX_CHOICE = 4096
WALLET_VARIABLE = "BLOCKRUN_WALLET"
DEFAULT = "default"
_OFFICIAL = (".session", "wallet.key")
_CHOSEN = "chosen"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class WalletRegistry:
    """Where keys are kept: `folder`, which BlockRun's tools share, below somebody's `home`."""

    folder: Path
    home: Path

    @classmethod
    def of(cls, environ: Mapping[str, str], home: Path) -> WalletRegistry:
        """Return the places of this user: `BLOCKRUN_HOME`, or `home`/.blockrun."""
        moved = environ.get("BLOCKRUN_HOME", "")
        return cls(Path(moved).expanduser() if moved else home / ".blockrun", home)

    @property
    def named(self) -> Path:
        """The folder of the wallets that have a name."""
        return self.folder / "magic" / "wallets"

    def display_path(self, path: Path) -> str:
        """Return a path as people write it: "~/.blockrun/.session"."""
        return display_path(path, self.home)

    def files(self, name: str) -> tuple[Path, ...]:
        """Return where the wallet `name` may be; the first file that is there is it."""
        keystore = self.named / f"{name}.json"
        if name == DEFAULT:
            return (keystore, *(self.folder / file for file in _OFFICIAL))
        return (keystore, self.named / f"{name}.key")

    def names(self) -> list[str]:
        """Return the name of every wallet that has a file, `default` first."""
        stems = {DEFAULT}
        with suppress(OSError):
            stems |= {path.stem for path in self.named.iterdir() if _NAME.fullmatch(path.stem)}
        names = [name for name in stems if any(os.path.lexists(path) for path in self.files(name))]
        return sorted(names, key=lambda name: (name != DEFAULT, name))

    def selected(self, environ: Mapping[str, str]) -> tuple[str, str] | WalletError:
        """Return the name of the wallet that is to pay, and why it is that one; or the error to raise."""
        named = environ.get(WALLET_VARIABLE, "").strip()
        if named:
            return _name_or_error(named, WALLET_VARIABLE) or (named, f"named by {WALLET_VARIABLE}")
        file = self.named / _CHOSEN
        try:
            chosen = read_file(file, _MAX_CHOICE).decode().strip()
        except (FileNotFoundError, NotADirectoryError):
            return DEFAULT, "the default"
        except (OSError, ValueError) as error:
            what = (
                f"{self.display_path(file)}, which names the wallet that pays, cannot be read ({type(error).__name__})."
            )
            return WalletError(what, "Choose again with `%blockrun wallet use NAME`.")
        return _name_or_error(chosen, self.display_path(file)) or (chosen, "chosen with `%blockrun wallet use`")

    def select(self, name: str) -> None:
        """Let the wallet `name` pay from now on, in every kernel; raises WalletError when there is none."""
        check_name(name)
        names = self.names()
        if name not in (*names, DEFAULT):
            raise WalletError(
                f"There is no wallet called {name}.",
                f"{did_you_mean(name, names)}`%blockrun wallet list` shows those that there are.",
            )
        create_private_dir(self.named)
        try:
            write_atomically(self.named / _CHOSEN, name.encode())
        except OSError as error:
            raise WalletError(
                f"The choice cannot be remembered: {error.strerror or type(error).__name__}.",
                f"See to {self.display_path(self.named)} (space? permissions?), or set {WALLET_VARIABLE}={name}.",
            ) from error

    def check_available(self, name: str) -> None:
        """Raise WalletError for a bad name, and for one that a wallet has already."""
        check_name(name)
        taken = [path for path in self.files(name) if os.path.lexists(path)]
        if taken:
            raise WalletError(
                f"There is a wallet called {name} already ({self.display_path(taken[0])}); none is ever written over.",
                "Choose another name: %blockrun wallet create NAME, or import ... --as NAME.",
            )

    def keep_key(self, name: str, key: Secret) -> Path:
        """Write `key` as 0x and hex into a new file of its own, and return that; raises WalletError.

        As `default` it is where BlockRun's own SDKs find it.
        """
        path = self.folder / _OFFICIAL[0] if name == DEFAULT else self.named / f"{name}.key"
        return self._keep(name, path, hex_of(key))

    def keep_keystore(self, name: str, keystore: Keystore) -> Path:
        """Write `keystore` into a new file of its own, and return that; raises WalletError."""
        return self._keep(name, self.named / f"{name}.json", Secret(keystore.text))

    def _keep(self, name: str, path: Path, content: Secret) -> Path:
        self.check_available(name)
        create_private_dir(path.parent)
        create_private_file(path, content, self.display_path(path))
        return path


def check_name(name: str) -> None:
    """Raise WalletError when `name` cannot be that of a wallet."""
    error = _name_or_error(name, "the line")
    if error is not None:
        raise error


def new_key() -> Secret:
    """Return a key that nobody has, from the system's own source of chance."""
    return Secret(secrets.token_bytes(32))


def hex_of(key: Secret) -> Secret:
    """Return a key's 32 bytes as 0x and 64 hex digits."""
    return with_secrets(lambda value: Secret(f"0x{value.hex()}"), key, blame=_no_key)


def _no_key(error: Exception) -> WalletError:
    return WalletError(f"This is not a key ({type(error).__name__}).", "Create or import a wallet again.")


def _name_or_error(name: str, source: str) -> WalletError | None:
    """Return the error to raise for a bad name; a long one is not shown, because it may be a key."""
    if _NAME.fullmatch(name):
        return None
    said = repr(name) if len(name) <= 32 else "by more than a name"
    return WalletError(
        f"{source} calls a wallet {said}.",
        "A name is up to 32 lower-case letters, digits, - and _, such as: main.",
    )
