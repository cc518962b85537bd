"""Joining: exchange of a join code or a hub's proof for a pass of 256 random bits, stored only as its SHA-256."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Protocol

from blockrun_magic.classroom.hub import HubRefused, HubUnavailable, HubUser
from blockrun_magic.classroom.refusals import Refusal, revoked
from blockrun_magic.classroom.storage.audit import Audit
from blockrun_magic.classroom.storage.invitations import CodeRefused, Invitation, Invitations
from blockrun_magic.classroom.storage.members import STUDENT, TEACHER, Member, Members, check_name
from blockrun_magic.database.engine import Connection, Database, NotUnique
from blockrun_magic.errors import UsageError
from blockrun_magic.threads import run_io

__all__ = ["HubProof", "Joined", "Joining"]

_DAY = 86_400.0
_PASS_DAYS, _HUB_PASS_DAYS = 180, 1
_MAX_PASS, _MAX_CODE, _MAX_TOKEN = 100, 100, 4096
_REFUSALS = {
    "bad_code": ("This join code is not known.", "Check it for typing mistakes, or ask your teacher for a new one."),
    "code_used": ("This join code has already been used.", "Ask your teacher for a new one."),
    "code_expired": ("This join code has expired.", "Ask your teacher for a new one."),
}


class HubProof(Protocol):
    """The requests to a hub for joining."""

    async def user_of_kernel(self, token: str) -> HubUser:
        """Return the user to whom a notebook server's token belongs; raises HubRefused or HubUnavailable."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A person and their new pass; `expires_at` is in Unix seconds."""

    member: Member
    secret: str
    expires_at: float


class Joining:
    """Admission to the classroom; `hub` is None without a hub, `teachers` is its group of teachers."""

    def __init__(
        self,
        database: Database,
        members: Members,
        invitations: Invitations,
        audit: Audit,
        hub: HubProof | None = None,
        teachers: str | None = None,
    ) -> None:
        self._database = database
        self._members = members
        self._invitations = invitations
        self._audit = audit
        self._hub = hub
        self._teachers = teachers

    def holder_of(self, secret: str) -> tuple[Member, float]:
        """Return the owner of a pass, and its time of expiry; raises Refusal (401)."""
        holder = self._members.holder(secret) if secret and len(secret) <= _MAX_PASS else None
        if holder is None:
            raise Refusal(
                401, "no_pass", "This classroom does not know your pass.", "Join again with `%blockrun join`."
            )
        if holder.revoked:
            raise revoked()
        if holder.expires_at <= self._database.now():
            raise Refusal(401, "expired", "Your pass has expired.", "Join again with `%blockrun join`.")
        return holder.member, holder.expires_at

    # -- with a code

    def join_with_code(self, code: str, name: str | None, attempt: str | None = None) -> Joined:
        """Return a person and a pass for a join code; raises Refusal (401, or 422 for a name).

        `attempt` is a random text of the caller: if the answer was lost, the same attempt may join once more.
        """
        if len(code) > _MAX_CODE:
            raise _refused("bad_code")
        try:
            with self._database.transaction() as connection:
                return self._join(connection, code, name, attempt)
        except CodeRefused as error:
            raise _refused(error.code) from None
        except NotUnique:
            raise Refusal(
                422, "name_taken", "That name is already taken in this class.", "Join with another name."
            ) from None
        except UsageError as error:
            raise Refusal(422, "bad_request", error.message, error.hint) from None

    def _join(self, connection: Connection, code: str, name: str | None, attempt: str | None) -> Joined:
        invitation = self._invitations.find(connection, code)
        if invitation is not None and attempt:
            again = self._invitations.joined_before(connection, invitation, attempt)
            member = None if again is None else self._members.by_id(again)
            if member is not None and member.revoked_at is None:
                return self._admit(connection, member, _PASS_DAYS, invitation.id, attempt)
        invitation = self._invitations.use(connection, code)
        if invitation.member_id is not None:
            member = self._members.by_id(invitation.member_id)
            assert member is not None  # noqa: S101  the row refers to one
        else:
            member = self._newcomer(connection, invitation, name)
        return self._admit(connection, member, _PASS_DAYS, invitation.id, attempt)

    def _newcomer(self, connection: Connection, invitation: Invitation, name: str | None) -> Member:
        number = invitation.people - invitation.uses_left
        chosen = check_name(name) if name else f"guest {invitation.id}-{number}"
        return self._members.add(connection, chosen, "code", invitation.role, invitation.groups)

    # -- with a hub

    async def join_from_hub(self, token: str) -> Joined:
        """Return a person and a pass for the hub token of their kernel; raises Refusal."""
        if self._hub is None or not 0 < len(token) <= _MAX_TOKEN:
            raise Refusal(401, "no_hub", "This classroom does not accept hub tokens.", "Join with a code.")
        try:
            user = await self._hub.user_of_kernel(token)
            return await run_io(self.admit_hub_user, user)
        except HubRefused as error:
            raise Refusal(401, "bad_token", error.message, error.hint) from None
        except HubUnavailable as error:
            raise Refusal(503, "hub_unavailable", error.message, error.hint, retry_after=10) from None

    def admit_hub_user(self, user: HubUser) -> Joined:
        """Return a hub user as a person, with their current groups and role, and a pass; raises Refusal."""
        try:
            name, groups = check_name(user.name), sorted({check_name(group, "group") for group in user.groups})
        except UsageError as error:
            raise Refusal(422, "bad_request", error.message, error.hint) from None
        role = TEACHER if self._teachers in groups else STUDENT
        try:
            joined = self._admitted(name, groups, role)
        except NotUnique:  # another kernel of the same person was faster
            joined = self._admitted(name, groups, role)
        current = self._members.by_id(joined.member.id)
        return Joined(current or joined.member, joined.secret, joined.expires_at)

    def _admitted(self, name: str, groups: list[str], role: str) -> Joined:
        with self._database.transaction() as connection:
            people = self._members.by_name(name, "hub")
            member = people[0] if people else self._members.add(connection, name, "hub", role, groups)
            if member.revoked_at is not None:
                raise revoked()
            if people and (member.role != role or member.groups != tuple(groups)):
                self._members.set_role(connection, member.id, role)
                self._members.set_groups(connection, member.id, groups)
            return self._admit(connection, member, _HUB_PASS_DAYS)

    def _admit(
        self,
        connection: Connection,
        member: Member,
        days: int,
        invitation_id: int | None = None,
        attempt: str | None = None,
    ) -> Joined:
        secret, expires_at = f"brc_{secrets.token_urlsafe(32)}", self._database.now() + days * _DAY
        self._members.add_pass(connection, member.id, secret, expires_at, invitation_id, attempt)
        self._audit.add(connection, "service", "join", member.subject, None, member.role)
        return Joined(member, secret, expires_at)


def _refused(code: str) -> Refusal:
    message, hint = _REFUSALS[code]
    return Refusal(401, code, message, hint)
