"""The real parts, put together: the one place that knows where everything is kept."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.payments.secrets import RedactedEnviron

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.payments.wallets.evm import Wallet
    from blockrun_magic.payments.wallets.solana import SolanaWallet
    from blockrun_magic.studio import Studio

__all__ = ["ENVIRON", "blockrun_home", "open_practice", "open_studio", "wallet_for"]

ENVIRON = RedactedEnviron(os.environ)
"""The environment of this process, as it is at each moment; it may hold keys."""


def blockrun_home(environ: Mapping[str, str] = ENVIRON) -> Path:
    """Return the folder of wallet files and our own `magic/`: `BLOCKRUN_HOME`, or ~/.blockrun."""
    moved = environ.get("BLOCKRUN_HOME")
    return Path(moved).expanduser() if moved else Path.home() / ".blockrun"


def open_studio(environ: Mapping[str, str] = ENVIRON) -> Studio:
    """Return the studio of this process: its ledger and store are the user's, its session is new.

    Raises LedgerError when the ledger cannot be opened.
    """
    from blockrun_magic.gateway.client import Client
    from blockrun_magic.images.store import Store
    from blockrun_magic.payments.ledger.ledger import Ledger
    from blockrun_magic.payments.wallets.api_key import find_api_key
    from blockrun_magic.studio import Studio

    folder = blockrun_home(environ) / "magic"
    session = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}-{secrets.token_hex(3)}"
    return Studio(
        client=Client(),
        ledger=Ledger(folder / "ledger.sqlite", session),
        store=Store(folder / "pictures"),
        wallet_for=lambda gateway: wallet_for(gateway, environ),
        api_key=lambda: find_api_key(environ),
        locks=folder / "locks",
        catalogs=folder / "catalogs",  # the name on disk  codespell:ignore catalogs
        usage_logs=Path.home() / ".openclaw" / "blockrun" / "logs",
    )


def wallet_for(gateway: Gateway, environ: Mapping[str, str] = ENVIRON) -> Wallet | SolanaWallet:
    """Return the wallet that pays at `gateway`; raises WalletError, or ExtraMissing where that is on Solana.

    The practice gateway is paid by a key that is worthless everywhere; a real key never signs for it.
    """
    from blockrun_magic.payments.wallets.evm import find_wallet, practice_wallet
    from blockrun_magic.payments.wallets.solana import find_solana_wallet
    from blockrun_magic.payments.x402.networks import SolanaNetwork

    if any(isinstance(network, SolanaNetwork) for network in gateway.networks):
        return find_solana_wallet(environ, Path.home())
    return practice_wallet() if gateway.realm == "practice" else find_wallet(environ, Path.home())


def open_practice(environ: Mapping[str, str] = ENVIRON) -> tuple[Gateway, Callable[[], None]]:
    """Return the practice gateway, and what ends it.

    That is a shared one at `BLOCKRUN_PRACTICE_URL`, or else one of our own, started now, whose books are
    kept between kernels.
    """
    from blockrun_magic.gateway.gateways import practice_at

    shared = environ.get("BLOCKRUN_PRACTICE_URL")
    if shared:
        return practice_at(shared), lambda: None
    from blockrun_magic.practice.server.server import PracticeServer

    folder = blockrun_home(environ) / "magic"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    server = PracticeServer(db=folder / "practice.sqlite")
    return practice_at(server.start()), server.stop
