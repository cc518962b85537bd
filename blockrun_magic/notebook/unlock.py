"""Unlocking of an encrypted wallet when it is first needed: the cell asks for the passphrase."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from blockrun_magic.errors import WalletLocked
from blockrun_magic.wiring import ENVIRON

if TYPE_CHECKING:
    from blockrun_magic.notebook.session import Session
    from blockrun_magic.payments.secrets import Secret
    from blockrun_magic.payments.wallets.evm import Wallet

__all__ = ["paying_wallet", "prompt_passphrase", "run_with_unlock", "unlock_by_asking"]

T = TypeVar("T")


def run_with_unlock(session: Session, work: Callable[[], Coroutine[Any, Any, T]], tick: Callable[[], None]) -> T:
    """Return what `work` returns; if it needs the passphrase of the wallet, ask for it and start again.

    A locked wallet is detected before anything is written or sent. Raises WalletLocked if the session has no keyboard,
    or the passphrase is wrong.
    """
    try:
        return session.run(work(), tick)
    except WalletLocked as error:
        locked = error
    wallet = paying_wallet()
    wallet.unlock(prompt_passphrase(wallet, locked))
    return session.run(work(), tick)


def paying_wallet() -> Wallet:
    """Return the wallet that real and test money come from; raises WalletError."""
    from blockrun_magic.payments.wallets.evm import find_wallet

    return find_wallet(ENVIRON, Path.home())


def unlock_by_asking(wallet: Wallet) -> None:
    """Open `wallet` with a stored passphrase, or else ask for one; raises WalletError."""
    try:
        wallet.unlock()
    except WalletLocked as error:
        locked = error
    else:
        return
    wallet.unlock(prompt_passphrase(wallet, locked))


def prompt_passphrase(wallet: Wallet, locked: WalletLocked) -> Secret:
    """Ask for the passphrase of `wallet` and return it; raises `locked` if the session has no keyboard."""
    from blockrun_magic.payments.wallets.passphrase import prompt_hidden

    passphrase = prompt_hidden(f"Passphrase of {wallet.source}: ")
    if passphrase is None:
        raise locked
    return passphrase
