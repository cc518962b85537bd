"""Wiring of the real parts: the one module that knows where everything is stored.

A session is the process: every studio that is opened here has the same one, which a forked child does not share.
"""

from __future__ import annotations

import os
import secrets
import time
import tomllib
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from blockrun_magic.errors import LedgerError, Money, StoreError, UsageError
from blockrun_magic.files import read_file
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.secrets import RedactedEnviron

if TYPE_CHECKING:
    from blockrun_magic.gateway.classroom.account import ClassroomAccount
    from blockrun_magic.gateway.client import Client
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.payments.ledger.ledger import Ledger
    from blockrun_magic.payments.wallets.evm import Wallet
    from blockrun_magic.payments.wallets.solana import SolanaWallet
    from blockrun_magic.studio import Studio
    from blockrun_magic.studio.lessons.open_lessons import OpenLessons

__all__ = [
    "ENVIRON",
    "Notebook",
    "blockrun_home",
    "current_notebook",
    "find_classroom",
    "joined_address",
    "open_ledger",
    "open_practice",
    "open_studio",
    "process_session",
    "set_notebook",
    "wallet_for",
]

T = TypeVar("T")

ENVIRON = RedactedEnviron(os.environ)
"""The environment of this process, as it is at each moment; it may hold keys."""

_MAX_CONFIG = 1_000_000
_homes: dict[str, Path] = {}
"""The folder for each value of `BLOCKRUN_HOME`, fixed when it is first read: `cd` does not move it."""
_sessions: dict[int, str] = {}


class Notebook(Protocol):
    """The session of the notebook in this process: its studio, gateway and lessons serve the Python API, too."""

    @property
    def lessons(self) -> OpenLessons:
        """The lessons that are open, for every studio of the session."""

    def studio_and_gateway(self, name: str | None = None) -> tuple[Studio, Gateway]:
        """Return the studio and the gateway in use, or the one called `name`; raises BlockrunError."""

    def is_cache_only(self) -> bool:
        """Return whether only stored images may be used."""

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` on the loop of the studio."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, with Stop alive meanwhile."""


_notebooks: list[Notebook] = []


def set_notebook(notebook: Notebook | None) -> None:
    """Make `notebook` the session that the Python API shares, until it is set to None."""
    _notebooks[:] = [] if notebook is None else [notebook]


def current_notebook() -> Notebook | None:
    """Return the session of the notebook in this process, or None outside of one."""
    return _notebooks[0] if _notebooks else None


def process_session() -> str:
    """Return the name of this process's session, the same for every studio in it."""
    pid = os.getpid()
    if pid not in _sessions:
        _sessions.clear()
        _sessions[pid] = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{pid}-{secrets.token_hex(3)}"
    return _sessions[pid]


def blockrun_home(environ: Mapping[str, str] = ENVIRON) -> Path:
    """Return the absolute path of the folder of wallet files and our own `magic/`: `BLOCKRUN_HOME`, or ~/.blockrun.

    A relative path is resolved once, so that a change of the working directory does not move it. Raises UsageError.
    """
    moved = environ.get("BLOCKRUN_HOME") or ""
    if moved not in _homes or not moved:
        try:
            folder = Path(moved).expanduser() if moved else Path.home() / ".blockrun"
            _homes[moved] = folder.absolute()
        except (RuntimeError, OSError, ValueError) as error:
            raise UsageError(
                f"BLOCKRUN_HOME={moved} is not a folder that can be used: {error}.",
                "Set BLOCKRUN_HOME to an absolute path, or remove it to use ~/.blockrun.",
            ) from error
    return _homes[moved]


def open_ledger(environ: Mapping[str, str] = ENVIRON) -> Ledger:
    """Return the user's ledger, opened by this process's session; raises LedgerError.

    Imports nothing that only a purchase needs.
    """
    from blockrun_magic.payments.ledger.ledger import Ledger

    ledger = Ledger(blockrun_home(environ) / "magic" / "ledger.sqlite", process_session())
    ledger.guards.append(partial(_forbid_in_cache_mode, environ))
    return ledger


def open_studio(
    environ: Mapping[str, str] = ENVIRON, ledger: Ledger | None = None, lessons: OpenLessons | None = None
) -> Studio:
    """Return a studio of this process: its ledger and store are the user's, its session is the process's.

    `ledger` is the user's, if it is open already; `lessons` are the notebook's, if there is one. Raises
    LedgerError when the ledger cannot be opened.
    """
    from blockrun_magic.gateway.client import Client
    from blockrun_magic.images.store import Store
    from blockrun_magic.payments.wallets.api_key import find_api_key
    from blockrun_magic.studio import Studio
    from blockrun_magic.studio.services import Wallets, purchase_services

    folder = blockrun_home(environ) / "magic"
    notebook = current_notebook()
    if lessons is None and notebook is not None:
        lessons = notebook.lessons
    client = Client()
    services = purchase_services(
        client=client,
        ledger=ledger or open_ledger(environ),
        store=Store(folder / "pictures"),
        wallets=Wallets(
            lambda gateway: wallet_for(gateway, environ),
            lambda: find_api_key(environ, Path.home()),
            _classroom_account(client, folder / "classroom.json", environ),
        ),
        catalogs=folder / "catalogs",  # the name on disk  codespell:ignore catalogs
    )
    return Studio(services, folder / "locks", Path.home() / ".openclaw" / "blockrun" / "logs", lessons)


def _classroom_account(client: Client, passes: Path, environ: Mapping[str, str]) -> Callable[[], ClassroomAccount]:
    @cache
    def account() -> ClassroomAccount:
        from blockrun_magic.gateway.classroom.account import ClassroomAccount
        from blockrun_magic.payments.wallets.classroom_pass import PassFile, hub_proof

        return ClassroomAccount(client, PassFile(passes), hub_proof(environ))

    return account


async def find_classroom(studio: Studio, environ: Mapping[str, str] = ENVIRON) -> Gateway:
    """Return the classroom of this kernel: that of its hub, else the one that was joined; raises BlockrunError.

    On a hub, it is joined now if it never was; otherwise no request is sent.
    """
    return await studio.wallets.account().find(joined_address(environ))


def joined_address(environ: Mapping[str, str] = ENVIRON) -> str | None:
    """Return the address that `%blockrun join` has written, or None."""
    path = blockrun_home(environ) / "magic" / "config.toml"
    try:
        value = tomllib.loads(read_file(path, _MAX_CONFIG).decode()).get("classroom")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.", "Correct it, or remove it.") from None
    return value if isinstance(value, str) and value else None


def _forbid_in_cache_mode(environ: Mapping[str, str], _realm: str) -> None:
    """Raise StoreError while only stored images may be used: for cells, scripts, `resume` and the panel alike."""
    notebook = current_notebook()
    if environ.get("BLOCKRUN_CACHE_ONLY", "") not in ("", "0") or (notebook is not None and notebook.is_cache_only()):
        raise StoreError(
            "Only stored images may be used here.",
            "Unset BLOCKRUN_CACHE_ONLY, or set `%config BlockrunMagics.cache_only = False`, to buy images.",
            Money.nothing_signed(),
        )


def wallet_for(gateway: Gateway, environ: Mapping[str, str] = ENVIRON) -> Wallet | SolanaWallet:
    """Return the wallet that pays at `gateway`; raises WalletError, or on Solana, MissingDependency.

    The practice gateway is paid by a key that is worthless everywhere; a real key never signs for it.
    """
    from blockrun_magic.payments.wallets.evm import find_wallet, practice_wallet

    if gateway.on_solana:
        from blockrun_magic.payments.wallets.solana import find_solana_wallet

        return find_solana_wallet(environ, Path.home())
    return practice_wallet() if gateway.realm == Realm.PRACTICE else find_wallet(environ, Path.home())


def open_practice(environ: Mapping[str, str] = ENVIRON, *, reset: bool = False) -> tuple[Gateway, Callable[[], None]]:
    """Return the practice gateway, and a function that stops it.

    It is the one at `BLOCKRUN_PRACTICE_URL`, or else one of this process, whose ledger is shared by all kernels.
    With `reset`, a new ledger is started; the old one is renamed. Raises LedgerError.
    """
    from blockrun_magic.gateway.gateways import practice_at

    shared = environ.get("BLOCKRUN_PRACTICE_URL")
    if shared:
        return practice_at(shared), lambda: None
    from blockrun_magic.practice.server.server import PracticeServer

    path = blockrun_home(environ) / "magic" / "practice.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if reset:
            _rename_ledger(path)
        server = PracticeServer(db=path)
        return practice_at(server.start()), server.stop
    except OSError as error:
        raise LedgerError(
            f"The practice gateway cannot use {path}: {error.strerror or error}.",
            f"Check the permissions and the free space of {path.parent}, or set BLOCKRUN_HOME to another folder.",
            Money.nothing_signed(),
        ) from error


def _rename_ledger(path: Path) -> None:
    """Rename a practice ledger and its companions, so that a new one can be started."""
    suffix = time.strftime(".%Y%m%dT%H%M%S.old")
    for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if os.path.lexists(part):
            part.rename(part.with_name(part.name + suffix))
