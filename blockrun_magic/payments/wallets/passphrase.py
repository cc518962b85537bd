"""Passphrases: from the environment, from the system's keyring, or typed.

Never waits for input that cannot come: without an interactive front end, prompting fails immediately.
"""

from __future__ import annotations

import builtins
import getpass
import sys
from collections.abc import Callable, Mapping
from typing import Any

from blockrun_magic.errors import WalletError
from blockrun_magic.payments.secrets import Secret, with_secrets

__all__ = [
    "VARIABLE",
    "ask_new_passphrase",
    "from_environment",
    "from_keyring",
    "prompt_hidden",
    "prompt_visible",
    "save_to_keyring",
]

VARIABLE = "BLOCKRUN_WALLET_PASSPHRASE"
_SERVICE = "blockrun-magic"


def from_environment(environ: Mapping[str, str]) -> Secret | None:
    """Return the passphrase in `BLOCKRUN_WALLET_PASSPHRASE`, exactly as it is, or None."""
    return Secret(environ[VARIABLE]) if environ.get(VARIABLE) else None


def from_keyring(address: str) -> Secret | None:
    """Return the passphrase that the system's keyring holds for a wallet, or None; needs the extra `keyring`."""
    try:
        import keyring
    except ImportError:
        return None
    try:
        passphrase = keyring.get_password(_SERVICE, address)
    except Exception:  # noqa: BLE001  no keyring here, or it stays closed: each system has its own errors
        return None
    return Secret(passphrase) if passphrase else None


def save_to_keyring(address: str, passphrase: Secret) -> None:
    """Store a wallet's passphrase in the system's keyring; raises WalletError if that fails."""
    try:
        import keyring
    except ImportError:
        keep: Callable[[str], Any] | None = None
    else:
        keep = lambda phrase: keyring.set_password(_SERVICE, address, phrase)  # noqa: E731
    if keep is None:
        raise WalletError(
            "The passphrase was not stored: the keyring library is not installed.",
            'Run `pip install "blockrun-magic[keyring]"`, then `%blockrun wallet unlock --keyring`.',
        )
    with_secrets(
        keep,
        passphrase,
        on_error=lambda error: WalletError(
            f"The passphrase was not stored: this machine's keyring refused it ({type(error).__name__}).",
            f"Set {VARIABLE} instead, or type it once per session.",
        ),
    )


def prompt_hidden(prompt: str) -> Secret | None:
    """Return the hidden input after `prompt`, or None in a session without a keyboard.

    Raises WalletError if the input is cancelled (Stop, end of input) or empty.
    """
    return _typed(getpass.getpass, prompt)


def prompt_visible(prompt: str) -> Secret | None:
    """Return the visible input after `prompt`; otherwise the same as `prompt_hidden`."""
    return _typed(builtins.input, prompt)


def ask_new_passphrase(source: str) -> Secret | None:
    """Return a new passphrase, typed twice, or None in a session without a keyboard; raises WalletError."""
    first = prompt_hidden(f"New passphrase for {source}: ")
    if first is None:
        return None
    second = prompt_hidden("Repeat it: ")
    if second is None or first.reveal() != second.reveal():
        raise WalletError("The two passphrases are not the same.", "Nothing was written. Try again.")
    return first


def _typed(reader: Callable[[str], str], prompt: str) -> Secret | None:
    # While a cell runs, a kernel replaces Python's readers by its own, which know whether a front end can answer.
    # Python's own would wait at a terminal, or for a line that never comes.
    if getattr(reader, "__module__", None) in ("getpass", "builtins") and not _at_a_terminal():
        return None
    try:
        typed = Secret(reader(prompt))
    except NotImplementedError:  # ipykernel's error for a front end without input
        return None
    except (KeyboardInterrupt, EOFError):
        typed = Secret("")
    if not typed.reveal():
        raise WalletError("Nothing was typed.", "Nothing was changed and nothing signed. Try again when you are ready.")
    return typed


def _at_a_terminal() -> bool:
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # closed
        return False
