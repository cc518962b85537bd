"""Routes of the teacher's page: login, pages, changes, and files."""

from __future__ import annotations

import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from blockrun_magic.classroom.hub import HubRefused, HubUnavailable
from blockrun_magic.classroom.page.changes import Changes
from blockrun_magic.classroom.page.context import PageSettings, base_of
from blockrun_magic.classroom.page.rendering import render
from blockrun_magic.classroom.page.security import (
    FILE_HEADERS,
    IMAGE_HEADERS,
    Access,
    NotAllowed,
    Visitor,
    page_response,
)
from blockrun_magic.classroom.page.sessions import TEACHER_BY_LINK, Sessions
from blockrun_magic.classroom.page.views import NotHere, Views
from blockrun_magic.classroom.refusals import Refusal
from blockrun_magic.errors import BlockrunError, StoreError, UsageError
from blockrun_magic.images.formats import decode
from blockrun_magic.images.preview import preview_bytes
from blockrun_magic.threads import run_cpu, run_io

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request

    from blockrun_magic.classroom.hub import HubUser

__all__ = ["page_routes"]

_Handler = Callable[["Request"], Awaitable[Response]]
_View = Callable[..., Response]
"""A handler of a request and a visitor; for a page, also of its notices."""
_Change = Callable[["Request", Visitor, "FormData"], Response]

_LOG = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_THUMBNAIL_SIDE = 360
_MAX_THUMBNAILS = 400
_MAX_FIELDS = 400
_NEW_LINK = "Get a new link with `python -m blockrun_magic classroom --home DIR link`."
_FILES = {"page.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}


class _Site:
    """The handlers of one class."""

    def __init__(self, settings: PageSettings) -> None:
        self._settings = settings
        self._sessions = Sessions(settings.records.database)
        self._access = Access(
            self._sessions, settings.records.members, on_hub=settings.hub is not None, address=settings.address
        )
        self.views = Views(settings)
        self.changes = Changes(settings, self.views, self._sessions)
        self._thumbnails: OrderedDict[str, bytes] = OrderedDict()

    # -- login

    async def enter(self, request: Request) -> Response:
        """Open the first page: with a ticket, a session, or a login at the hub."""
        ticket = request.query_params.get("ticket")
        if ticket is not None and self._settings.hub is None:
            if not await run_io(self._sessions.redeem, ticket[:200]):
                return self._message(request, "This link was used already, or has expired.", _NEW_LINK, 401)
            return await self._let_in(request, TEACHER_BY_LINK)
        if request.url.path == base_of(request):  # relative, so that the address is valid under every prefix
            return RedirectResponse(f"{base_of(request)}/", 307)
        return await self.shown(self.views.today)(request)

    async def come_back(self, request: Request) -> Response:
        """Open a session for a teacher whom the hub has logged in."""
        hub, query = self._settings.hub, request.query_params
        if hub is None:
            return self._message(request, "This classroom is not part of a hub.", "", 404)
        if not self._access.is_state(request, query.get("state", "")):
            return self._message(request, "This login was not started here.", "Open the page again.", 400)
        try:
            user = await hub.user_of_code(query.get("code", "")[:500])
            actor = await run_io(self._teacher, user)
        except HubUnavailable as error:
            return self._message(request, error.message, error.hint, 503)
        except (HubRefused, NotAllowed, Refusal) as error:
            return self._message(request, error.message, error.hint, 403)
        response = await self._let_in(request, actor)
        self._access.forget_state(request, response)
        return response

    async def _let_in(self, request: Request, actor: str) -> Response:
        response = RedirectResponse(f"{base_of(request)}/", 303, headers={"Cache-Control": "no-store"})
        await run_io(self._access.let_in, request, response, actor)
        return response

    def _teacher(self, user: HubUser) -> str:
        group = self._settings.teachers
        if group is None or group not in user.groups:
            raise NotAllowed(
                f"{user.name} is not a teacher here.",
                f"Teachers are the members of the hub's group {group}." if group else "Start `serve` with --teachers.",
            )
        return self._settings.admit(user).subject

    def _log_in(self, request: Request) -> Response:
        if self._settings.hub is None:
            return self._message(request, "Open this page with a one-time link.", _NEW_LINK, 401)
        if request.method != "GET":
            return self._message(request, "You are no longer logged in.", "Log in, then send the form again.", 401)
        state = secrets.token_urlsafe(32)
        response = RedirectResponse(self._settings.hub.settings.login_url(state), 302)
        response.headers["Cache-Control"] = "no-store"
        self._access.remember_state(request, response, state)
        return response

    async def leave(self, request: Request) -> Response:
        """End the session."""
        visitor = await run_io(self._access.visitor, request)
        if visitor is None:
            return self._log_in(request)
        try:
            self._access.check_form(request, visitor, await request.form(max_fields=_MAX_FIELDS, max_files=0))
        except NotAllowed as error:
            return self._message(request, error.message, error.hint, 403)
        response = self._message(request, "You are logged out.", "" if self._settings.hub else _NEW_LINK, 200)
        await run_io(self._access.let_out, request, response, visitor.session)
        return response

    # -- pages and changes

    def shown(self, view: _View, *, shows_notices: bool = True) -> _Handler:
        """Return the handler of a page, or of a file."""

        def look(request: Request) -> Response:
            visitor = self._access.visitor(request)
            if visitor is None:
                return self._log_in(request)
            if visitor.session.notice is None or not shows_notices:
                return view(request, visitor)
            self._sessions.clear_notice(visitor.session)
            return view(request, visitor, [visitor.session.notice])

        async def handle(request: Request) -> Response:
            return await self._answer(request, partial(run_io, look, request))

        return handle

    def changed(self, change: _Change) -> _Handler:
        """Return the handler of a form."""

        def carry_out(request: Request, visitor: Visitor, form: FormData) -> Response:
            try:
                return change(request, visitor, form)
            except UsageError as error:
                return self.changes.again(request, visitor, form, error)

        async def answer(request: Request) -> Response:
            visitor = await run_io(self._access.visitor, request)
            if visitor is None:
                return self._log_in(request)
            form = await request.form(max_fields=_MAX_FIELDS, max_files=0)
            self._access.check_form(request, visitor, form)
            return await run_io(carry_out, request, visitor, form)

        async def handle(request: Request) -> Response:
            return await self._answer(request, partial(answer, request))

        return handle

    async def _answer(self, request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
        try:
            return await answer()
        except NotHere as error:
            return self._message(request, error.message, error.hint, 404)
        except NotAllowed as error:
            return self._message(request, error.message, error.hint, 403)
        except BlockrunError as error:
            _LOG.warning("The page failed: %s", type(error).__name__)
            return self._message(request, error.message, error.hint, 503)

    def _message(self, request: Request, text: str, hint: str, status: int) -> Response:
        base = base_of(request)
        link = f"{base}/" if status in (200, 401, 403) and self._settings.hub is not None else None
        values = {"title": "The teacher's page", "text": text, "hint": hint, "link": link, "link_text": "Log in"}
        return page_response(render("message.html", base=base, **values), status)

    # -- files

    async def unknown(self, request: Request) -> Response:
        """Return the response for an unknown page."""
        return self._message(request, "There is no such page.", "", 404)

    async def file(self, request: Request) -> Response:
        """Return the style sheet or the icon, which contain nothing about the class."""
        name = request.url.path.rpartition("/")[2]
        content = files("blockrun_magic.classroom.page").joinpath(name).read_bytes()
        return Response(content, media_type=_FILES[name], headers=FILE_HEADERS)

    def image(self, request: Request, visitor: Visitor) -> Response:
        """Return an image of the class."""
        name = request.path_params["file"]
        media_type = self._media_type(name, visitor)
        return Response(self._stored(name, media_type), media_type=media_type, headers=IMAGE_HEADERS)

    async def thumbnail(self, request: Request) -> Response:
        """Return a small JPEG of an image of the class."""
        visitor = await run_io(self._access.visitor, request)
        if visitor is None:
            return self._log_in(request)
        name = request.path_params["file"]

        async def answer() -> Response:
            media_type = await run_io(self._media_type, name, visitor)  # it may have been erased meanwhile
            small = self._thumbnails.get(name)
            if small is None:
                small = await run_cpu(_small, await run_io(self._stored, name, media_type))
                self._thumbnails[name] = small
                while len(self._thumbnails) > _MAX_THUMBNAILS:
                    self._thumbnails.popitem(last=False)
            return Response(small, media_type="image/jpeg", headers=IMAGE_HEADERS)

        return await self._answer(request, answer)

    def _media_type(self, name: str, visitor: Visitor) -> str:
        view = self.views.class_view(visitor)
        media_type = view.overview.media_type(name) if view.sees_images and _SHA256.fullmatch(name) else None
        if media_type is None:
            raise NotHere("There is no such image in this class.", "Look at the gallery.")
        return media_type

    def _stored(self, name: str, media_type: str) -> bytes:
        try:
            return self._settings.records.store.get(name, media_type)
        except StoreError:
            raise NotHere("This image is no longer stored.", "Its order stays, with its amount.") from None


def _small(content: bytes) -> bytes:
    return preview_bytes(decode(content, StoreError, "The stored image", ""), _THUMBNAIL_SIDE)[0]


def page_routes(settings: PageSettings) -> list[Route]:
    """Return the routes of the teacher's page, below /teacher, and the callback of the hub."""
    site = _Site(settings)
    return [
        *(Route(path, site.enter, methods=["GET"]) for path in ("/teacher", "/teacher/")),
        Route("/teacher/logout", site.leave, methods=["POST"]),
        Route("/teacher/thumbnails/{file}", site.thumbnail, methods=["GET"]),
        Route("/oauth_callback", site.come_back, methods=["GET"]),
        *(Route(f"/teacher/{name}", site.file, methods=["GET"]) for name in _FILES),
        *(Route(f"/teacher/{path}", site.changed(change), methods=["POST"]) for path, change in _changes(site.changes)),
        *(Route(f"/teacher/{path}", site.shown(view), methods=["GET"]) for path, view in _views(site.views)),
        *(
            Route(f"/teacher/{path}", site.shown(view, shows_notices=False), methods=["GET"])
            for path, view in (
                ("people.csv", site.views.people_csv),
                ("orders.csv", site.views.orders_csv),
                ("images/{file}", site.image),
            )
        ),
        Route("/teacher/{path:path}", site.unknown),
    ]


def _views(views: Views) -> tuple[tuple[str, _View], ...]:
    return (
        ("people", views.people),
        ("people/{id:int}", views.person),
        ("orders", views.orders),
        ("gallery", views.gallery),
        ("limits", views.limits),
        ("invitations", views.invitations),
        ("audit", views.audit),
    )


def _changes(changes: Changes) -> tuple[tuple[str, _Change], ...]:
    return (
        ("limits", changes.limit),
        ("rules", changes.rules),
        ("pause", changes.pause),
        ("invitations", changes.invite),
        ("invitations/{id:int}/withdraw", changes.withdraw),
        ("people/{id:int}/revoke", changes.revoke),
        ("people/{id:int}/readmit", changes.readmit),
        ("names", changes.names),
    )
