"""Access to the teacher's page: cookies, the token of each form, the origin of each change, and the headers of a page.

A session's cookie opens only the page, and a student's pass does not open it. A form has a token that only the
session's own pages contain, and the browser reports the site that sent a form.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse, Response

from blockrun_magic.classroom.page.sessions import SESSION_SECONDS, PageSession, Sessions
from blockrun_magic.classroom.storage.members import TEACHER, Members
from blockrun_magic.errors import BlockrunError

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["FILE_HEADERS", "FORM_TOKEN", "IMAGE_HEADERS", "Access", "NotAllowed", "Visitor", "page_response"]

FORM_TOKEN = "form_token"  # noqa: S105  the name of a field
_COOKIE, _STATE = "classroom", "classroom-login"
_STATE_SECONDS = 600
_MAX_COOKIE = 200
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, a browser would hide the origin of our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


FILE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "public, max-age=3600"}
"""Headers of the style sheet and the icon, which contain nothing about the class."""
IMAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Headers that make a browser show the bytes only as an image, and never store them."""


class NotAllowed(BlockrunError):
    """A change that was not sent by a form of this session."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A teacher with an open session; the forms of their pages send `form_token` back."""

    session: PageSession
    form_token: str


def page_response(html: str, status: int = 200) -> HTMLResponse:
    """Return a page with the headers of all pages."""
    return HTMLResponse(html, status, headers=_HEADERS)


class Access:
    """Access to the page; `on_hub` is whether other services and notebook servers share the page's domain.

    There, the cookie is limited to this service's path, so that notebook servers, which run students' code, never get
    it. Elsewhere the whole host is ours, and the name of a cookie over https binds it to the host. `address` is the
    public one.
    """

    def __init__(self, sessions: Sessions, members: Members, *, on_hub: bool, address: str = "") -> None:
        self._sessions = sessions
        self._members = members
        self._on_hub = on_hub
        parts = urlsplit(address)
        self._https_host = parts.netloc.lower() if parts.scheme == "https" else None

    def visitor(self, request: Request) -> Visitor | None:
        """Return the visitor who sends a request, or None without a session; blocks on the database."""
        secret = request.cookies.get(self._name(request, _COOKIE), "")
        session = self._sessions.find(secret) if 0 < len(secret) <= _MAX_COOKIE else None
        if session is None or not self._still_a_teacher(session):
            return None
        return Visitor(session, hashlib.sha256(f"form:{secret}".encode()).hexdigest())

    def let_in(self, request: Request, response: Response, actor: str) -> None:
        """Open a session; blocks on the database."""
        self._set(request, response, _COOKIE, self._sessions.open(actor), int(SESSION_SECONDS))

    def let_out(self, request: Request, response: Response, session: PageSession) -> None:
        """End a session; blocks on the database."""
        self._sessions.close(session)
        self._set(request, response, _COOKIE, "", 0)

    def remember_state(self, request: Request, response: Response, state: str) -> None:
        """Give a browser the state that it must bring back from the hub."""
        self._set(request, response, _STATE, state, _STATE_SECONDS)

    def forget_state(self, request: Request, response: Response) -> None:
        """Remove the state, which is valid only once."""
        self._set(request, response, _STATE, "", 0)

    def is_state(self, request: Request, state: str) -> bool:
        """Return whether a browser brings back the state that it was given."""
        cookie = request.cookies.get(self._name(request, _STATE), "")
        return bool(cookie) and hmac.compare_digest(cookie.encode(), state.encode())

    def check_form(self, request: Request, visitor: Visitor, form: Mapping[str, object]) -> None:
        """Raise NotAllowed unless a form of this session, on this site, was sent."""
        origin, host = request.headers.get("origin", "").lower(), request.headers.get("host", "").lower()
        schemes = ("https",) if self._is_secure(request) else ("http", "https")  # a proxy may not report https
        if not host or origin not in [f"{scheme}://{host}" for scheme in schemes]:
            raise NotAllowed("This change came from another site.", "Open the page itself, and change it there.")
        given = form.get(FORM_TOKEN)
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), visitor.form_token.encode()):
            raise NotAllowed("This form belongs to another session.", "Load the page again, and send the form again.")

    def _still_a_teacher(self, session: PageSession) -> bool:
        if session.member_id is None:
            return True
        member = self._members.by_id(session.member_id)
        return member is not None and member.role == TEACHER and member.revoked_at is None

    def _name(self, request: Request, name: str) -> str:
        if not self._is_secure(request):
            return name
        return f"__Secure-{name}" if self._on_hub else f"__Host-{name}"

    def _set(self, request: Request, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            self._name(request, name),
            value,
            max_age=seconds,
            path=f"{request.scope.get('root_path', '')}/" if self._on_hub else "/",
            secure=self._is_secure(request),
            httponly=True,
            samesite="lax",
        )

    def _is_secure(self, request: Request) -> bool:
        """Return whether the browser uses https, by the public address or the proxy's header; for cookies only."""
        forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
        by_address = request.headers.get("host", "").lower() == self._https_host
        return by_address or (forwarded or request.url.scheme) == "https"
