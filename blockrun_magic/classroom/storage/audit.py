"""The audit: an append-only record of changes and their actors, with member ids and values, but no names or prompts."""

from __future__ import annotations

from dataclasses import dataclass

from blockrun_magic.database.engine import Connection, Database

__all__ = ["OWNER", "Audit", "AuditEntry"]

OWNER = "owner"
"""The actor of the command line; a teacher on the page is `member:ID`, the service itself `service`."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change: `at` is in Unix seconds, `subject` is, for example, "member:7" or "group:red"."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    old_value: str | None
    new_value: str | None


class Audit:
    """The changes that people made; the database itself refuses to change or remove one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        connection: Connection,
        actor: str,
        action: str,
        subject: str,
        old_value: object = None,
        new_value: object = None,
    ) -> None:
        """Record a change, in the transaction that makes it."""
        connection.execute(
            "INSERT INTO audit (at, actor, action, subject, old_value, new_value) VALUES (?, ?, ?, ?, ?, ?)",
            (self._database.now(), actor, action, subject, _text(old_value), _text(new_value)),
        )

    def record(self, actor: str, action: str, subject: str, old_value: object = None, new_value: object = None) -> None:
        """Record a change in a separate transaction."""
        with self._database.transaction() as connection:
            self.add(connection, actor, action, subject, old_value, new_value)

    def entries(self, limit: int = 100, offset: int = 0) -> list[AuditEntry]:
        """Return the newest changes, newest first."""
        query = "SELECT * FROM audit ORDER BY id DESC LIMIT ? OFFSET ?"
        with self._database.reading() as connection:
            return [AuditEntry(*row) for row in connection.execute(query, (limit, offset))]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
