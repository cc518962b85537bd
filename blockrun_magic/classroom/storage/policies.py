"""The rules of the class and of its groups, as stored."""

from __future__ import annotations

from blockrun_magic.classroom.policy import CLASS, Policy, combined, policy_from_json, policy_to_json
from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.database.engine import Connection, Database

__all__ = ["Policies"]


class Policies:
    """The rules of every scope: "class", "group:NAME" or "member:ID"."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, scope: str = CLASS) -> Policy:
        """Return the rules of one scope."""
        return self.all().get(scope, Policy())

    def all(self) -> dict[str, Policy]:
        """Return the rules of every scope that has any."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT scope, rules FROM policies ORDER BY scope").fetchall()
        return {row["scope"]: policy_from_json(row["rules"]) for row in rows}

    def for_member(self, member: Member) -> Policy:
        """Return the rules that apply to a person; for a teacher, only the rate."""
        policies = self.all()
        whole = policies.get(CLASS, Policy())
        if member.role == "teacher":
            return Policy(rate=whole.rate, at_a_time=whole.at_a_time, keep_days=whole.keep_days, see=whole.see)
        scopes = [*(f"group:{name}" for name in member.groups), member.subject]
        return combined([whole, *(policies[scope] for scope in scopes if scope in policies)])

    def save(self, connection: Connection, scope: str, policy: Policy) -> None:
        """Change the rules of a scope."""
        connection.execute(
            """INSERT INTO policies (scope, rules) VALUES (?, ?)
            ON CONFLICT (scope) DO UPDATE SET rules = excluded.rules""",
            (scope, policy_to_json(policy)),
        )
