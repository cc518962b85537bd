"""The records of a classroom: its people, orders and rules beside the ledger, in one database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blockrun_magic.classroom.storage.audit import Audit
from blockrun_magic.classroom.storage.invitations import Invitations
from blockrun_magic.classroom.storage.members import Members
from blockrun_magic.classroom.storage.orders import OrderRows
from blockrun_magic.classroom.storage.policies import Policies
from blockrun_magic.classroom.storage.schema import create_tables
from blockrun_magic.database.engine import Database
from blockrun_magic.database.opening import open_database
from blockrun_magic.errors import UsageError
from blockrun_magic.files import create_folder
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.realm import Realm
from blockrun_magic.text import public_url
from blockrun_magic.wiring import process_session

__all__ = ["REALM", "Records", "has_records", "open_records"]

_SCHEMES = ("postgresql://", "postgres://")
_ADDRESS = "Write it like postgresql://user@host/name, or leave out --database to use SQLite."
REALM = "classroom.realm"
"""The setting with the kind of money of the last gateway."""


@dataclass(frozen=True, slots=True)
class Records:
    """All records of a classroom; `home` is the owner's BLOCKRUN_HOME."""

    home: Path
    database: Database
    ledger: Ledger
    store: Store
    members: Members
    invitations: Invitations
    orders: OrderRows
    policies: Policies
    audit: Audit

    @property
    def realm(self) -> Realm:
        """The kind of money of the class, which is never mixed with others."""
        return Realm(self.ledger.setting(REALM) or Realm.REAL)

    def close(self) -> None:
        """Close the ledger and the database."""
        self.ledger.close()
        self.database.close()


def has_records(home: Path) -> bool:
    """Return whether `home` has the records of a class, or a notebook's, which can serve a class."""
    return _ledger_file(home).exists()


def _ledger_file(home: Path) -> Path:
    return home / "magic" / "ledger.sqlite"


def open_records(home: Path, database_url: str | None = None) -> Records:
    """Return the records in `home`, or in the PostgreSQL database at `database_url`; raises BlockrunError."""
    folder = home / "magic"
    if database_url is not None and not database_url.startswith(_SCHEMES):
        raise UsageError(f"{public_url(database_url)} is not the address of a PostgreSQL database.", _ADDRESS)
    try:
        create_folder(folder)
    except OSError as error:
        raise UsageError(f"{home} cannot be used: {error.strerror}.", "Name another folder with --home.") from None
    ledger = Ledger(open_database(database_url or _ledger_file(home)), process_session())
    database = ledger.database
    create_tables(database)
    members = Members(database)
    return Records(
        home=home,
        database=database,
        ledger=ledger,
        store=Store(folder / "pictures"),
        members=members,
        invitations=Invitations(database, members),
        orders=OrderRows(database),
        policies=Policies(database),
        audit=Audit(database),
    )
