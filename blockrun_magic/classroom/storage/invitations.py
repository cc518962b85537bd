"""Invitations: join codes of 80 random bits, for one name or for several people, until they expire."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

from blockrun_magic.classroom.storage.members import Member, Members, secret_hash
from blockrun_magic.database.engine import Connection, Database, Row
from blockrun_magic.errors import UsageError

__all__ = ["BAD_CODE", "CODE_EXPIRED", "CODE_USED", "CodeRefused", "Invitation", "Invitations", "normal_code"]

BAD_CODE, CODE_USED, CODE_EXPIRED = "bad_code", "code_used", "code_expired"
MAX_PEOPLE = 10_000
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""32 distinguishable letters and digits, five bits each."""
_LENGTH, _GROUP = 16, 4
_SAME_ATTEMPT = 3600.0
"""Seconds within which the same attempt may repeat a join after a lost answer."""
_MISTAKEN = str.maketrans({"O": "0", "I": "1", "L": "1"})


class CodeRefused(Exception):
    """An invalid join code; `code` is one of `bad_code`, `code_used` and `code_expired`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class Invitation:
    """A stored join code: `member_id` is None for one that several people use."""

    id: int
    member_id: int | None
    people: int
    uses_left: int
    role: str
    groups: tuple[str, ...]
    created_at: float
    expires_at: float
    revoked_at: float | None


def normal_code(text: str) -> str:
    """Return a typed code without its separators, and with confusable characters corrected."""
    return "".join(text.upper().translate(_MISTAKEN).replace("-", "").split())


class Invitations:
    """The codes by which people join; only their SHA-256 is stored."""

    def __init__(self, database: Database, members: Members) -> None:
        self._database = database
        self._members = members

    def create(
        self,
        connection: Connection,
        *,
        member: Member | None,
        people: int,
        role: str,
        groups: list[str],
        expires: float,
    ) -> str:
        """Return a new code for `member`, or for up to `people` persons; `expires` is in Unix seconds."""
        if not 1 <= people <= MAX_PEOPLE:
            raise UsageError(f"An invitation cannot be for {people} people.", f"Choose from 1 to {MAX_PEOPLE}.")
        now = self._database.now()
        if expires <= now:
            raise UsageError("The invitation would have expired already.", "Choose a later time for --expires.")
        letters = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        connection.execute(
            """INSERT INTO invitations (code_hash, member_id, people, uses_left, role, group_names, created_at,
                expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                *(secret_hash(letters), member.id if member else None, people, people),
                *(role, json.dumps(sorted(set(groups))), now, expires),
            ),
        )
        return "-".join(letters[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))

    def use(self, connection: Connection, code: str) -> Invitation:
        """Take one use of a code; raises CodeRefused."""
        digest, now = secret_hash(normal_code(code)), self._database.now()
        row = connection.execute(
            """UPDATE invitations SET uses_left = uses_left - 1
            WHERE code_hash = ? AND uses_left > 0 AND expires_at > ? AND revoked_at IS NULL RETURNING *""",
            (digest, now),
        ).fetchone()
        if row is not None:
            return _invitation(row)
        invitation = self.find(connection, code)
        if invitation is None or invitation.revoked_at is not None:
            raise CodeRefused(BAD_CODE)
        raise CodeRefused(CODE_USED if invitation.uses_left == 0 else CODE_EXPIRED)

    def find(self, connection: Connection, code: str) -> Invitation | None:
        """Return the invitation with this code, or None; locks it against others who join at the same moment."""
        query = f"SELECT * FROM invitations WHERE code_hash = ?{self._database.row_lock}"
        row = connection.execute(query, (secret_hash(normal_code(code)),)).fetchone()
        return None if row is None else _invitation(row)

    def joined_before(self, connection: Connection, invitation: Invitation, attempt: str) -> int | None:
        """Return the id of the person who has just joined with this attempt, which repeats after a lost answer."""
        if invitation.revoked_at is not None:
            return None
        row = connection.execute(
            "SELECT member_id FROM passes WHERE invitation_id = ? AND attempt_hash = ? AND created_at > ?",
            (invitation.id, secret_hash(attempt), self._database.now() - _SAME_ATTEMPT),
        ).fetchone()
        return None if row is None else int(row["member_id"])

    def listed(self) -> list[Invitation]:
        """Return every invitation, newest first; the codes cannot be derived from them."""
        with self._database.reading() as connection:
            return [_invitation(row) for row in connection.execute("SELECT * FROM invitations ORDER BY id DESC")]

    def revoke(self, connection: Connection, invitation_id: int) -> None:
        """End an invitation; the people who have joined with it stay."""
        connection.execute(
            "UPDATE invitations SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?",
            (self._database.now(), invitation_id),
        )


def _invitation(row: Row) -> Invitation:
    names = ("id", "member_id", "people", "uses_left", "role", "created_at", "expires_at", "revoked_at")
    return Invitation(**{name: row[name] for name in names}, groups=tuple(json.loads(row["group_names"])))
