"""The changes of the page: functions of a request, the visitor and the fields of a form.

If a change fails, the page of its form shows the reason, and keeps the typed values.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from blockrun_magic.classroom.page.context import PageSettings, base_of
from blockrun_magic.classroom.page.rendering import PERIODS, subject_words
from blockrun_magic.classroom.page.views import NotHere, Views
from blockrun_magic.classroom.policy import CLASS, MAX_N
from blockrun_magic.classroom.storage.actions import Actions
from blockrun_magic.errors import UsageError
from blockrun_magic.gateway.catalog.catalog import dimensions
from blockrun_magic.payments.ledger.windows import find_zone
from blockrun_magic.payments.money import format_usd, parse_usd
from blockrun_magic.text import quoted

if TYPE_CHECKING:
    from starlette.requests import Request

    from blockrun_magic.classroom.page.security import Visitor
    from blockrun_magic.classroom.page.sessions import Sessions

__all__ = ["Changes"]

_DAY = 86_400.0
_MAX_DAYS = 366
_BACK = re.compile(r"(people(/\d{1,12})?|limits|orders|gallery|invitations|audit)?", re.ASCII)
_FIELDS = (
    *("scope", "subject", "period", "amount", "max_size", "max_n", "edits", "starts_at", "ends_at"),
    *("name", "people", "groups", "days"),
)
_EACH = {"total": "in total", "month": "a month", "week": "a week", "day": "a day"}


class Changes:
    """The changes of one class; every method blocks on the database, and raises UsageError for an impossible change."""

    def __init__(self, settings: PageSettings, views: Views, sessions: Sessions) -> None:
        self._settings = settings
        self._records = settings.records
        self._views = views
        self._sessions = sessions

    def limit(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        """Change a limit, or remove it if the amount is empty."""
        subject, period, amount = (_text(form, name) for name in ("subject", "period", "amount"))
        if period not in PERIODS:
            raise UsageError(f"{quoted(period)} is not a period.", "Choose one from the list.")
        self._check_subject(subject)
        micros = _amount(amount)
        self._actions(visitor).set_limit(subject, period, micros)
        whose = self._words(visitor, subject)
        done = f"is now {format_usd(micros)} {_EACH[period]}" if micros is not None else f"{_EACH[period]} is removed"
        return self._done(request, visitor, form, f"The limit of {whose} {done}.")

    def pause(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        """Pause the class, a group or a person, or let them continue."""
        scope, paused = _text(form, "scope"), _text(form, "paused") == "1"
        self._check_subject(scope)
        if scope in ("each", "all"):
            raise UsageError("Pause the class to pause everyone.", "Use the button on Today.")
        self._actions(visitor).pause(paused=paused, scope=scope)
        whose = self._words(visitor, scope, first=True)
        return self._done(request, visitor, form, f"{whose} {'is paused' if paused else 'may order again'}.")

    def revoke(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        """Revoke the access of a person."""
        member = self._views.member(request)
        self._actions(visitor).revoke(member)
        text = f"The pass of {self._words(visitor, member.subject)} is revoked."
        return self._done(request, visitor, form, text, f"people/{member.id}")

    def readmit(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        """Let a revoked person in again."""
        member = self._views.member(request)
        self._actions(visitor).readmit(member)
        how = "use the class again" if member.origin == "hub" else "join again with a new invitation"
        text = f"{self._words(visitor, member.subject, first=True)} may {how}."
        return self._done(request, visitor, form, text, f"people/{member.id}")

    def rules(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        """Change the rules of the class or of a group."""
        scope = _text(form, "scope")
        if scope != CLASS and not scope.startswith("group:"):
            raise UsageError("Rules are for the class or for a group.", "Choose one of them.")
        self._check_subject(scope)
        served = [model.id for model in self._settings.catalog().models if model.served]
        chosen = [value for value in form.getlist("models") if value in served]
        if not chosen:
            raise UsageError("No model is chosen.", "Choose at least one, or pause the class.")
        rules = {
            "models": None if len(chosen) == len(served) else tuple(str(value) for value in chosen),
            "max_size": _size(_text(form, "max_size")),
            "max_n": _count(_text(form, "max_n"), MAX_N),
            "edits": _text(form, "edits") == "1",
            "starts_at": self._moment(_text(form, "starts_at")),
            "ends_at": self._moment(_text(form, "ends_at")),
        }
        self._actions(visitor).set_policy(scope, **rules)
        return self._done(request, visitor, form, f"The rules of {subject_words(scope)} are saved.", "limits")

    def invite(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        """Create a join code, and show it once."""
        name, people = _text(form, "name"), _text(form, "people")
        groups = [group.strip() for group in _text(form, "groups").split(",") if group.strip()]
        days = _count(_text(form, "days"), _MAX_DAYS) or 7
        expires_at = self._records.database.now() + days * _DAY
        if bool(name) == bool(people):
            raise UsageError("An invitation is for one name, or for a number of people.", "Fill in one of the two.")
        actions = self._actions(visitor)
        if name:
            count, code = 1, actions.invite(name, groups=groups, expires_at=expires_at)
        else:
            count = _count(people, 1000) or 1
            code = actions.invite_people(count, groups=groups, expires_at=expires_at)
        return self._views.invitations(request, visitor, code=code, people=count)

    def withdraw(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        """End an invitation."""
        number = request.path_params["id"]
        if number not in {invitation.id for invitation in self._records.invitations.listed()}:
            raise NotHere("There is no such invitation.", "Look at Invitations.")
        self._actions(visitor).revoke_invitation(number)
        return self._done(request, visitor, form, "The invitation is withdrawn.", "invitations")

    def names(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        """Hide names, or show them again, in this session."""
        self._sessions.hide_names(visitor.session, not visitor.session.hides_names)
        return RedirectResponse(f"{base_of(request)}/{_back(form)}", 303)

    def again(self, request: Request, visitor: Visitor, form: FormData, error: UsageError) -> Response:
        """Return the page of an invalid form, with the typed values."""
        notices = [("bad", f"{error.message} {error.hint}")]
        typed: dict[str, Any] = dict.fromkeys(_FIELDS, "") | {name: _text(form, name) for name in form}
        typed |= {"models": form.getlist("models")}
        path = request.url.path.removeprefix(base_of(request)).strip("/")
        if path == "invitations":
            return self._views.invitations(request, visitor, notices, typed=typed)
        if path == "rules" or _back(form) == "limits":
            return self._views.limits(request, visitor, notices, typed=typed)
        if (match := re.fullmatch(r"people/(\d{1,12})", _back(form))) is not None:
            request.scope["path_params"] = {"id": int(match[1])}
            return self._views.person(request, visitor, notices)
        view = self._views.people if _back(form) == "people" else self._views.today
        return view(request, visitor, notices)

    # -- helpers

    def _actions(self, visitor: Visitor) -> Actions:
        return Actions(self._records, visitor.session.actor)

    def _done(self, request: Request, visitor: Visitor, form: FormData, text: str, back: str | None = None) -> Response:
        self._sessions.notify(visitor.session, "good", text)
        return RedirectResponse(f"{base_of(request)}/{_back(form) if back is None else back}", 303)

    def _check_subject(self, subject: str) -> None:
        kind, _, name = subject.partition(":")
        if kind == "member" and name.isdigit() and len(name) < 13 and self._records.members.by_id(int(name)):
            return
        if subject in ("class", "each", "all") or (kind == "group" and name in self._records.members.groups()):
            return
        raise NotHere(f"This class has no {quoted(subject)}.", "Choose from the page.")

    def _words(self, visitor: Visitor, subject: str, *, first: bool = False) -> str:
        """Return the owner of a limit or rule as words, capitalized if they come `first`; a name is never changed."""
        kind, _, name = subject.partition(":")
        member = self._records.members.by_id(int(name)) if kind == "member" else None
        if member is not None:
            return self._views.class_view(visitor).name_of(member)
        words = subject_words(subject)
        return words[:1].upper() + words[1:] if first else words

    def _moment(self, text: str) -> float | None:
        if not text:
            return None
        try:
            zone = find_zone(self._records.ledger.setting("class.timezone"))
            return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()
        except (ValueError, OverflowError):
            raise UsageError(f"{quoted(text)} is not a date and time.", "Write it like 2027-01-31T08:00.") from None


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value.strip() if isinstance(value, str) else ""


def _back(form: FormData) -> str:
    back = _text(form, "back")
    return back if _BACK.fullmatch(back) else ""


def _amount(text: str) -> int | None:
    if not text:
        return None
    try:
        return parse_usd(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        raise UsageError(f"{quoted(text)} is not an amount in US dollars.", "Write it like 0.50.") from None


def _size(text: str) -> str | None:
    if text and dimensions(text) is None:
        raise UsageError(f"{quoted(text)} is not a size.", "Write it like 1024x1024.")
    return text or None


def _count(text: str, most: int) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= most):
        raise UsageError(f"{quoted(text)} is not a number from 1 to {most}.", "Write it in digits.")
    return int(text)
