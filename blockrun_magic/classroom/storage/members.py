"""People: names, roles, groups and passes; revoking and forgetting."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blockrun_magic.database.engine import Connection, Database, Row
from blockrun_magic.errors import UsageError
from blockrun_magic.text import quoted

__all__ = ["STUDENT", "TEACHER", "Holder", "Member", "Members", "check_name", "secret_hash"]

STUDENT, TEACHER = "student", "teacher"
MAX_NAME = 64
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Member:
    """A person; `name` is None once it is forgotten, `origin` is "code" or "hub", times are Unix seconds."""

    id: int
    name: str | None
    origin: str
    role: str
    created_at: float
    revoked_at: float | None
    forgotten_at: float | None
    groups: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The person's subject in the ledger and in the audit."""
        return f"member:{self.id}"

    @property
    def label(self) -> str:
        """The name for the teacher's page."""
        return self.name or f"(forgotten {self.id})"

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects whose limits apply: the member, the groups, the class, all."""
        return (self.subject, *(f"group:{name}" for name in self.groups), "class", "all")


@dataclass(frozen=True, slots=True)
class Holder:
    """The owner of a pass, and the state of the pass."""

    member: Member
    expires_at: float
    revoked: bool


def secret_hash(secret: str) -> str:
    """Return the SHA-256 (hex) under which a pass, a code or a ticket is stored."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def check_name(name: str, kind: str = "name") -> str:
    """Return the name of a person or a group in its stored form; raises UsageError for one that cannot be shown."""
    plain = unicodedata.normalize("NFC", name).strip()
    hidden = any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in plain)
    if not plain or len(plain) > MAX_NAME or hidden or _BIDIRECTIONAL & set(plain):
        raise UsageError(
            f"{quoted(name)} is not a {kind}.",
            f"Use 1 to {MAX_NAME} characters, without line breaks or direction marks.",
        )
    return plain


class Members:
    """The people of the class."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, connection: Connection, name: str, origin: str, role: str, groups: Iterable[str] = ()) -> Member:
        """Add a person, and return them; raises NotUnique if the name is taken."""
        row = connection.execute(
            "INSERT INTO members (name, origin, role, created_at) VALUES (?, ?, ?, ?) RETURNING *",
            (name, origin, role, self._database.now()),
        ).fetchone()
        self.set_groups(connection, row["id"], groups)
        return _member(row, sorted(set(groups)))

    def set_groups(self, connection: Connection, member_id: int, groups: Iterable[str]) -> None:
        """Make `groups` the groups of a person."""
        connection.execute("DELETE FROM member_groups WHERE member_id = ?", (member_id,))
        for name in sorted(set(groups)):
            connection.execute("INSERT INTO member_groups (member_id, name) VALUES (?, ?)", (member_id, name))

    def set_role(self, connection: Connection, member_id: int, role: str) -> None:
        """Change the role of a person."""
        connection.execute("UPDATE members SET role = ? WHERE id = ?", (role, member_id))

    def by_id(self, member_id: int) -> Member | None:
        """Return the person with this id, or None."""
        return next(iter(self._select("WHERE members.id = ?", (member_id,))), None)

    def by_name(self, name: str, origin: str | None = None) -> list[Member]:
        """Return the people of this name: at most one who joined with a code, and one from a hub."""
        people = self._select("WHERE members.name = ?", (unicodedata.normalize("NFC", name).strip(),))
        return [member for member in people if origin in (None, member.origin)]

    def all(self) -> list[Member]:
        """Return everyone, oldest first."""
        return self._select("", ())

    def groups(self) -> list[str]:
        """Return the names of all groups."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT DISTINCT name FROM member_groups ORDER BY name")
            return [str(row["name"]) for row in rows]

    # -- passes

    def add_pass(
        self,
        connection: Connection,
        member_id: int,
        secret: str,
        expires_at: float,
        invitation_id: int | None = None,
        attempt: str | None = None,
    ) -> None:
        """Store the SHA-256 of a new pass."""
        connection.execute(
            """INSERT INTO passes (hash, member_id, created_at, expires_at, invitation_id, attempt_hash)
            VALUES (?, ?, ?, ?, ?, ?)""",
            (
                *(secret_hash(secret), member_id, self._database.now(), expires_at, invitation_id),
                secret_hash(attempt) if attempt else None,
            ),
        )

    def holder(self, secret: str) -> Holder | None:
        """Return the holder of a pass, or None; reads one indexed row, and those of their groups."""
        query = f"""
            SELECT {_COLUMNS}, passes.expires_at AS pass_expires_at, passes.revoked_at AS pass_revoked_at
            FROM passes JOIN members ON members.id = passes.member_id {_GROUPS} WHERE hash = ? ORDER BY group_name"""
        with self._database.reading() as connection:
            rows = connection.execute(query, (secret_hash(secret),)).fetchall()
        if not rows:
            return None
        [member], row = _members(rows), rows[0]
        revoked = row["pass_revoked_at"] is not None or member.revoked_at is not None
        return Holder(member, row["pass_expires_at"], revoked)

    def revoke_passes(self, connection: Connection, member_id: int) -> None:
        """End every pass of a person."""
        connection.execute(
            "UPDATE passes SET revoked_at = ? WHERE member_id = ? AND revoked_at IS NULL",
            (self._database.now(), member_id),
        )

    def revoke(self, connection: Connection, member_id: int) -> None:
        """Revoke every pass and code of a person."""
        now = self._database.now()
        connection.execute("UPDATE members SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?", (now, member_id))
        self.revoke_passes(connection, member_id)
        connection.execute(
            "UPDATE invitations SET revoked_at = ? WHERE member_id = ? AND revoked_at IS NULL", (now, member_id)
        )

    def readmit(self, connection: Connection, member_id: int) -> None:
        """Allow a revoked person to join again; their old passes stay invalid."""
        connection.execute("UPDATE members SET revoked_at = NULL WHERE id = ?", (member_id,))

    def erase_name(self, connection: Connection, member_id: int) -> None:
        """Erase the name and the groups of a person; their id stays, and with it their amounts."""
        connection.execute(
            "UPDATE members SET name = NULL, forgotten_at = ? WHERE id = ?", (self._database.now(), member_id)
        )
        self.set_groups(connection, member_id, ())

    # -- helpers

    def _select(self, condition: str, values: Sequence[object]) -> list[Member]:
        query = f"SELECT {_COLUMNS} FROM members {_GROUPS} {condition} ORDER BY members.id, group_name"
        with self._database.reading() as connection:
            return _members(connection.execute(query, values).fetchall())


_NAMES = ("id", "name", "origin", "role", "created_at", "revoked_at", "forgotten_at")
_COLUMNS = ", ".join([*(f"members.{name} AS {name}" for name in _NAMES), "member_groups.name AS group_name"])
_GROUPS = "LEFT JOIN member_groups ON member_groups.member_id = members.id"
"""A person has a row for each of their groups, or one row without a group."""


def _members(rows: Iterable[Row]) -> list[Member]:
    """Return the people in these rows, in order."""
    people: dict[int, tuple[Row, list[str]]] = {}
    for row in rows:
        _, groups = people.setdefault(row["id"], (row, []))
        if row["group_name"] is not None:
            groups.append(row["group_name"])
    return [_member(row, groups) for row, groups in people.values()]


def _member(row: Row, groups: Iterable[str]) -> Member:
    return Member(**{name: row[name] for name in _NAMES}, groups=tuple(groups))
