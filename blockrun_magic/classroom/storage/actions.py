"""Changes by owners and teachers: limits, rules, people; each one is in the audit.

The command line acts for the owner; the page acts for a teacher, who cannot raise or exceed the ceiling.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blockrun_magic.classroom.policy import CLASS, Policy
from blockrun_magic.classroom.storage.audit import OWNER
from blockrun_magic.classroom.storage.members import STUDENT, Member, check_name
from blockrun_magic.classroom.storage.records import Records
from blockrun_magic.errors import UsageError
from blockrun_magic.payments.money import format_usd
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["MAX_LIMIT", "Actions"]

CEILING = "all"
MAX_LIMIT = 10**15
"""The largest limit, in micro-USDC."""


class Actions:
    """The changes that `actor` makes: the owner at the command line, or a teacher (`member:ID`) on the page."""

    def __init__(self, records: Records, actor: str = OWNER) -> None:
        self._records = records
        self._actor = actor

    # -- limits and rules

    def set_limit(self, subject: str, period: str, micros: int | None) -> None:
        """Change a limit, or remove it with None; raises UsageError if the actor may not."""
        ledger = self._records.ledger
        limits = ledger.limits()
        if micros is not None and not 0 <= micros <= MAX_LIMIT:
            raise UsageError("That is not an amount for a limit.", "Use an amount in US dollars, such as 0.50.")
        if self._actor != OWNER:
            self._check_ceiling(subject, micros, limits)
        ledger.set_limit(subject, period, micros)
        self._records.audit.record(
            *(self._actor, "limit", f"{subject}/{period}"), _dollars(limits.get((subject, period))), _dollars(micros)
        )

    def _check_ceiling(self, subject: str, micros: int | None, limits: dict[tuple[str, str], int]) -> None:
        """Raise UsageError for changes that only the owner may make: the ceiling, and limits above it."""
        ceiling = limits.get((CEILING, "total"))
        if subject == CEILING:
            raise UsageError("The ceiling cannot be changed here.", "Change it on the command line of the service.")
        if ceiling is not None and micros is not None and micros > ceiling:
            raise UsageError(
                f"{format_usd(micros)} is above the ceiling of {format_usd(ceiling)}.", "Choose a lower limit."
            )

    def set_timezone(self, name: str) -> None:
        """Change the time zone in which days, weeks and months begin."""
        old = self._records.ledger.setting("class.timezone")
        self._records.ledger.set_timezone(name)
        self._records.audit.record(self._actor, "timezone", "class", old, name)

    def set_policy(self, scope: str, **rules: Any) -> Policy:
        """Change rules of the class or of a group, and return all of them."""
        with self._records.database.transaction() as connection:
            before = self._records.policies.of(scope)
            after = replace(before, **rules)
            self._records.policies.save(connection, scope, after)
            for name in rules:
                old, new = getattr(before, name), getattr(after, name)
                if old != new:
                    self._records.audit.add(connection, self._actor, f"rule {name}", scope, old, new)
        return after

    def pause(self, *, paused: bool, scope: str = CLASS) -> None:
        """Pause the class or a group, or let it continue."""
        self.set_policy(scope, paused=paused)

    # -- people

    def invite(self, name: str, *, role: str = STUDENT, groups: list[str], expires_at: float) -> str:
        """Return a join code for one name; an existing person keeps everything, and may join again."""
        name, groups = check_name(name), [check_name(group, "group") for group in groups]
        records = self._records
        with records.database.transaction() as connection:
            people = records.members.by_name(name, "code")
            if people:
                [member] = people
                records.members.readmit(connection, member.id)
                records.members.set_role(connection, member.id, role)
                if groups:
                    records.members.set_groups(connection, member.id, [*member.groups, *groups])
            else:
                member = records.members.add(connection, name, "code", role, groups)
            code = records.invitations.create(
                connection, member=member, people=1, role=role, groups=groups, expires=expires_at
            )
            records.audit.add(connection, self._actor, "invite", member.subject, None, role)
        return code

    def invite_people(self, people: int, *, role: str = STUDENT, groups: list[str], expires_at: float) -> str:
        """Return a join code for up to `people` persons, who choose their names."""
        groups = [check_name(group, "group") for group in groups]
        with self._records.database.transaction() as connection:
            code = self._records.invitations.create(
                connection, member=None, people=people, role=role, groups=groups, expires=expires_at
            )
            self._records.audit.add(connection, self._actor, "invite", f"{people} people", None, role)
        return code

    def revoke_invitation(self, invitation_id: int) -> None:
        """End an invitation."""
        with self._records.database.transaction() as connection:
            self._records.invitations.revoke(connection, invitation_id)
            self._records.audit.add(connection, self._actor, "revoke invitation", f"invitation:{invitation_id}")

    def revoke(self, member: Member) -> None:
        """Revoke the access of a person."""
        with self._records.database.transaction() as connection:
            self._records.members.revoke(connection, member.id)
            self._records.audit.add(connection, self._actor, "revoke", member.subject)

    def readmit(self, member: Member) -> None:
        """Allow a revoked person to join again, with a new code."""
        with self._records.database.transaction() as connection:
            self._records.members.readmit(connection, member.id)
            self._records.audit.add(connection, self._actor, "readmit", member.subject)

    def set_groups(self, member: Member, groups: list[str]) -> None:
        """Change the groups of a person."""
        names = sorted({check_name(group, "group") for group in groups})
        with self._records.database.transaction() as connection:
            self._records.members.set_groups(connection, member.id, names)
            old, new = ", ".join(member.groups), ", ".join(names)
            self._records.audit.add(connection, self._actor, "groups", member.subject, old, new)

    def forget(self, member: Member) -> None:
        """Refuse a person and erase their name."""
        with self._records.database.transaction() as connection:
            self._records.members.revoke(connection, member.id)
            self._records.members.erase_name(connection, member.id)
            self._records.audit.add(connection, self._actor, "forget", member.subject)

    def people_named(self, name: str) -> list[Member]:
        """Return the people of this name; raises UsageError if there are none."""
        people = self._records.members.by_name(name)
        if not people:
            names = [member.name for member in self._records.members.all() if member.name]
            raise UsageError(
                f"Unknown person: {quoted(name)}.", f"{did_you_mean(name, names)}`report` lists the people."
            )
        return people


def _dollars(micros: int | None) -> str:
    return "none" if micros is None else format_usd(micros)
