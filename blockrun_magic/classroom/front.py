"""The front of the service: the teacher's page, the public path and host names, and the hub."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from blockrun_magic.classroom.app import build_app
from blockrun_magic.classroom.hub import Hub, HubUser
from blockrun_magic.classroom.metrics import Metrics
from blockrun_magic.classroom.page.context import PageSettings, base_of
from blockrun_magic.classroom.page.routes import page_routes
from blockrun_magic.classroom.page.sessions import new_ticket
from blockrun_magic.classroom.room import Classroom
from blockrun_magic.classroom.storage.members import Member

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["build_front", "teacher_url"]


def build_front(room: Classroom, hosts: Collection[str], hub: Hub | None, pages: Sequence[BaseRoute] = ()) -> ASGIApp:
    """Return the whole service: the students' calls and the teacher's page; `pages` are further routes."""

    def admit(user: HubUser) -> Member:
        return room.joining.admit_hub_user(user).member

    settings = PageSettings(
        records=room.records,
        gateway=room.settings.gateway,
        catalog=lambda: room.studios.catalog,
        hub=hub,
        teachers=room.settings.teachers,
        admit=admit,
        address=room.settings.public_url or "",
        shares_domain=hub is not None and not hub.settings.host,
    )
    metrics = Metrics(room.records)
    routes = [*page_routes(settings), Route("/", _to_the_page, methods=["GET"]), metrics.route, *pages]
    app = metrics.observed(build_app(room, hosts, routes))
    return app if hub is None else _Prefixed(app, hub.settings.prefix.rstrip("/"))


def teacher_url(room: Classroom, origin: str, hub: Hub | None) -> str:
    """Return the address of the teacher's page, which leads to a hub's login, or elsewhere opens one session."""
    if hub is None:
        return f"{origin}/teacher?ticket={new_ticket(room.records.database)}"
    prefix = hub.settings.prefix.rstrip("/")
    return f"{origin.removesuffix(prefix)}{prefix}/teacher/"


async def _to_the_page(request: Request) -> Response:
    return RedirectResponse(f"{base_of(request)}/", 302)


class _Prefixed:
    """ASGI middleware that removes the prefix from paths that a hub's proxy forwards; others are unchanged."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{self._prefix}/"):
            scope = {**scope, "root_path": self._prefix}
        await self.app(scope, receive, send)
