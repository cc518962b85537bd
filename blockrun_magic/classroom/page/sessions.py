"""Sessions of the teacher's page and the one-time links that open them; only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass

from blockrun_magic.database.engine import Database, Migration

__all__ = ["SESSION_SECONDS", "TEACHER_BY_LINK", "PageSession", "Sessions", "new_ticket"]

SESSION_SECONDS = 8 * 3600.0
_TICKET_SECONDS = 24 * 3600.0
TEACHER_BY_LINK = "teacher"
"""The actor of a session that a one-time link opened; after a hub's login, it is `member:ID`."""

_TABLES = """
CREATE TABLE page_sessions (
    hash TEXT PRIMARY KEY,
    actor TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    hides_names INTEGER NOT NULL DEFAULT 0,
    notice TEXT
);
CREATE TABLE page_tickets (
    hash TEXT PRIMARY KEY,
    expires_at REAL NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class PageSession:
    """One session: `hash` identifies it, and with `hides_names` its pages show numbers in place of names."""

    hash: str
    actor: str
    expires_at: float
    hides_names: bool
    notice: tuple[str, str] | None = None
    """The notice of the next page: "good" or "bad", and the text."""

    @property
    def member_id(self) -> int | None:
        """The person whom a hub has logged in, or None."""
        kind, _, number = self.actor.partition(":")
        return int(number) if kind == "member" else None


class Sessions:
    """The sessions of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        migrations: list[Migration] = [("sessions", _TABLES)]
        database.migrate("classroom_page", migrations)

    def open(self, actor: str) -> str:
        """Return the secret of a new session, 256 random bits, for its cookie."""
        secret, now = secrets.token_urlsafe(32), self._database.now()
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM page_sessions WHERE expires_at < ?", (now,))
            connection.execute(
                "INSERT INTO page_sessions (hash, actor, created_at, expires_at) VALUES (?, ?, ?, ?)",
                (_hash(secret), actor, now, now + SESSION_SECONDS),
            )
        return secret

    def find(self, secret: str) -> PageSession | None:
        """Return the session of a cookie, or None if there is none or it has ended."""
        query = "SELECT * FROM page_sessions WHERE hash = ? AND expires_at > ?"
        with self._database.reading() as connection:
            row = connection.execute(query, (_hash(secret), self._database.now())).fetchone()
        if row is None:
            return None
        kind, text = json.loads(row["notice"]) if row["notice"] else ("", "")
        notice = (str(kind), str(text)) if kind else None
        return PageSession(row["hash"], row["actor"], row["expires_at"], bool(row["hides_names"]), notice)

    def close(self, session: PageSession) -> None:
        """End a session."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM page_sessions WHERE hash = ?", (session.hash,))

    def hide_names(self, session: PageSession, hidden: bool) -> None:
        """Show numbers in place of names from now on, or names again."""
        with self._database.transaction(durable=False) as connection:
            connection.execute("UPDATE page_sessions SET hides_names = ? WHERE hash = ?", (int(hidden), session.hash))

    def notify(self, session: PageSession, kind: str, text: str) -> None:
        """Leave a notice for the next page of a session; `kind` is "good" or "bad"."""
        self._set_notice(session, json.dumps([kind, text]))

    def clear_notice(self, session: PageSession) -> None:
        """Remove the notice, which a page has shown."""
        self._set_notice(session, None)

    def _set_notice(self, session: PageSession, notice: str | None) -> None:
        with self._database.transaction(durable=False) as connection:
            connection.execute("UPDATE page_sessions SET notice = ? WHERE hash = ?", (notice, session.hash))

    # -- links

    def new_ticket(self) -> str:
        """Return a ticket of 256 random bits that opens one session, within a day."""
        ticket, now = secrets.token_urlsafe(32), self._database.now()
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM page_tickets WHERE expires_at < ?", (now,))
            connection.execute(
                "INSERT INTO page_tickets (hash, expires_at) VALUES (?, ?)", (_hash(ticket), now + _TICKET_SECONDS)
            )
        return ticket

    def redeem(self, ticket: str) -> bool:
        """Return whether a ticket is valid, and use it up."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "DELETE FROM page_tickets WHERE hash = ? RETURNING expires_at", (_hash(ticket),)
            ).fetchone()
        return row is not None and row["expires_at"] > self._database.now()


def new_ticket(database: Database) -> str:
    """Return a ticket for the teacher's link, `URL/teacher?ticket=…`."""
    return Sessions(database).new_ticket()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
