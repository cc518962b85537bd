"""The frame of every page: its address, the class, the visitor, and the formats of times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from markupsafe import Markup

from blockrun_magic.classroom.page.rendering import ago, clock_time
from blockrun_magic.classroom.page.security import FORM_TOKEN
from blockrun_magic.payments.realm import Realm

if TYPE_CHECKING:
    from starlette.requests import Request

    from blockrun_magic.classroom.hub import Hub, HubUser
    from blockrun_magic.classroom.page.class_view import ClassView
    from blockrun_magic.classroom.page.security import Visitor
    from blockrun_magic.classroom.storage.members import Member
    from blockrun_magic.classroom.storage.records import Records
    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.gateway.gateways import Gateway

__all__ = ["TABS", "Page", "PageSettings", "base_of", "page_frame"]

TABS = (
    ("", "Today"),
    ("people", "People"),
    ("orders", "Orders"),
    ("gallery", "Gallery"),
    ("limits", "Limits"),
    ("invitations", "Invitations"),
    ("audit", "Audit"),
)
"""The pages of the menu: path and name."""


def _nobody(user: HubUser) -> Member:
    raise LookupError(f"{user.name} is not known: there is no hub")


@dataclass(frozen=True, slots=True)
class PageSettings:
    """The class of the pages: the records, the gateway and its models, and the hub, if there is one.

    `teachers` is the hub's group that may come in, and `admit` makes a user of the hub a person here. `address` is the
    students' address of the class, or "" if it is that of the page. `shares_domain` is true if the notebook servers of
    a hub share its domain.
    """

    records: Records
    gateway: Gateway
    catalog: Callable[[], Catalog]
    hub: Hub | None = None
    teachers: str | None = None
    admit: Callable[[HubUser], Member] = field(default=_nobody)
    address: str = ""
    shares_domain: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The frame of one page, for its template."""

    base: str
    tab: str
    gateway: str
    money: str
    token_field: Markup
    hides_names: bool
    sees_images: bool
    on_hub: bool
    address: str
    zone: str
    now: float
    notices: Sequence[tuple[str, str]] = field(default=())
    tabs: Sequence[tuple[str, str]] = TABS

    def at(self, moment: float | None) -> str:
        """Return a moment in the class's own time."""
        return clock_time(moment, self.zone)

    def ago(self, moment: float | None) -> str:
        """Return the time since a moment as words."""
        return ago(moment, self.now)

    def field_time(self, moment: object) -> str:
        """Return a moment as the value of a field for date and time; a typed text is unchanged."""
        if isinstance(moment, int | float):
            return datetime.fromtimestamp(moment, ZoneInfo(self.zone)).strftime("%Y-%m-%dT%H:%M")
        return str(moment or "")

    def query(self, **values: str) -> str:
        """Return a query of the values that are not empty."""
        return urlencode({name: value for name, value in values.items() if value})


def base_of(request: Request) -> str:
    """Return the path of the teacher's page, without a slash at the end."""
    return f"{request.scope.get('root_path', '')}/teacher"


def page_frame(
    request: Request,
    settings: PageSettings,
    visitor: Visitor,
    view: ClassView,
    tab: str,
    notices: Sequence[tuple[str, str]],
) -> Page:
    """Return the frame of a page, with a warning if a hub has no separate domains."""
    base = base_of(request)
    scheme = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip() or request.url.scheme
    here = f"{scheme}://{request.headers['host']}{request.scope.get('root_path', '')}"
    return Page(
        base=base,
        tab=tab,
        gateway=settings.gateway.name,
        money=_MONEY[settings.gateway.realm],
        token_field=Markup('<input type="hidden" name="{}" value="{}">').format(FORM_TOKEN, visitor.form_token),
        hides_names=visitor.session.hides_names,
        sees_images=view.sees_images,
        on_hub=settings.hub is not None,
        address=settings.address or here,
        zone=view.zone,
        now=view.now,
        notices=[*notices, *([("warn", _SHARED_DOMAIN)] if settings.shares_domain else [])],
    )


_MONEY = {Realm.REAL: "real", Realm.TESTNET: "test", Realm.PRACTICE: "play"}
_SHARED_DOMAIN = (
    "This hub has no subdomain_host: a page in a student's notebook that you open can act on this page as you. "
    "Ask the hub's administrator to set c.JupyterHub.subdomain_host. The ceiling cannot be raised from here."
)
