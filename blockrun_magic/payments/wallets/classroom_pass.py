"""Passes of classrooms: in a file of mode 0600, or in memory on a hub; each is sent only to its own classroom."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from blockrun_magic.errors import WalletError
from blockrun_magic.files import read_file, write_atomically
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.secrets import Secret, SecretHeaders
from blockrun_magic.safejson import read_json

__all__ = ["ClassroomPass", "HubProof", "JoinedClassroom", "PassFile", "hub_proof"]

_MAX_BYTES = 1_000_000
_ADDRESS = "BLOCKRUN_CLASSROOM_URL"
_TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105  the name of a variable


class ClassroomPass:
    """Pass of a student for one classroom, which is never displayed; `expires_at` is Unix seconds or None."""

    __slots__ = ("_reveal", "expires_at")

    _reveal: Callable[[], str]
    expires_at: float | None

    def __init__(self, value: Secret, expires_at: float | None) -> None:
        self._reveal = lambda: str(value.reveal())
        self.expires_at = expires_at

    def headers(self) -> SecretHeaders:
        """Return the header that goes with one request to the classroom."""
        return SecretHeaders(Authorization=f"Bearer {self._reveal()}")

    def record(self) -> dict[str, Any]:
        """Return the pass as it is stored in the file."""
        return {"pass": self._reveal(), "expires_at": self.expires_at}

    def __repr__(self) -> str:
        return "<ClassroomPass>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a pass is never pickled or copied")


@dataclass(frozen=True, slots=True)
class JoinedClassroom:
    """A joined classroom: its address, its kind of money, and the pass, if it is stored on disk."""

    url: str
    money: Realm
    ticket: ClassroomPass | None


@dataclass(frozen=True, slots=True)
class HubProof:
    """Proof of a kernel on JupyterHub: the token of its server, for the address that its server was given."""

    url: str
    token: Secret


def hub_proof(environ: Mapping[str, str]) -> HubProof | None:
    """Return the proof of a kernel whose server has both variables of the hub, or None elsewhere."""
    url, token = environ.get(_ADDRESS, "").strip(), Secret(environ.get(_TOKEN, ""))
    return HubProof(url, token) if url and token.reveal() else None


class PassFile:
    """The joined classrooms by address, in one file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, url: str) -> JoinedClassroom | None:
        """Return the classroom at `url`, or None if it was never joined here; raises WalletError."""
        entry = self._entries().get(url)
        if not isinstance(entry, Mapping) or entry.get("money") not in tuple(Realm):
            return None
        value, expires_at = Secret(str(entry.get("pass") or "")), entry.get("expires_at")
        ends = float(expires_at) if isinstance(expires_at, int | float) else None
        return JoinedClassroom(url, Realm(entry["money"]), ClassroomPass(value, ends) if value.reveal() else None)

    def write(self, joined: JoinedClassroom) -> None:
        """Remember a classroom, with its pass if it has one; raises WalletError."""
        entries = dict(self._entries())
        entries[joined.url] = {"money": str(joined.money), **(joined.ticket.record() if joined.ticket else {})}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self.path, json.dumps({"classrooms": entries}).encode(), mode=0o600)
        except OSError as error:
            raise self._unusable(error.strerror or "it cannot be written") from None

    def _entries(self) -> Mapping[str, Any]:
        try:
            entries = read_json(read_file(self.path, _MAX_BYTES))["classrooms"]
            if os.name == "posix" and self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(error.strerror or "it cannot be read") from None
        except (ValueError, KeyError, TypeError):
            raise self._unusable("it does not hold passes") from None
        return entries if isinstance(entries, Mapping) else {}

    def _unusable(self, why: str) -> WalletError:
        return WalletError(
            f"The file of your classroom passes, {self.path}, cannot be used: {why}.",
            "Check its permissions, or remove it and join again with a new code.",
        )
