"""The read-only pages: functions of a request and the visitor that return HTML."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from blockrun_magic.classroom.page.class_view import ClassView
from blockrun_magic.classroom.page.context import PageSettings, page_frame
from blockrun_magic.classroom.page.records import PersonView
from blockrun_magic.classroom.page.rendering import render
from blockrun_magic.classroom.page.report import write_orders
from blockrun_magic.classroom.page.security import page_response
from blockrun_magic.classroom.storage.order_records import OrderState
from blockrun_magic.classroom.storage.reports import report_rows, write_report
from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.request import ENDPOINTS, PriceKey

if TYPE_CHECKING:
    from starlette.requests import Request

    from blockrun_magic.classroom.page.security import Visitor
    from blockrun_magic.classroom.storage.invitations import Invitation
    from blockrun_magic.classroom.storage.members import Member

__all__ = ["NotHere", "Views"]

_PAGE_SIZE = 50
_GALLERY_SIZE = 24
_MAX_PAGES = 100_000
_MAX_ROWS = 2**31
_STATES = (("", "all"), *((str(state), str(state)) for state in OrderState))
_Notices = Sequence[tuple[str, str]]
_NOTHING_TYPED: Mapping[str, Any] = defaultdict(str)
"""Forms without typed values."""


class NotHere(BlockrunError):
    """There is no such page, person or image."""


class Views:
    """The pages of one class; every method blocks on the database."""

    def __init__(self, settings: PageSettings) -> None:
        self._settings = settings
        self._records = settings.records

    def class_view(self, visitor: Visitor) -> ClassView:
        """Return the class in a visitor's view."""
        return ClassView(self._records, self._usual_price(), hides_names=visitor.session.hides_names)

    def today(self, request: Request, visitor: Visitor, notices: _Notices = ()) -> Response:
        """Return the first page: money, people who are stuck, the latest images."""
        view = self.class_view(visitor)
        latest = view.orders(1, 6, with_images=True)[0] if view.sees_images else []
        return self._page(request, visitor, view, "", notices, "today.html", state=view.today(), latest=latest)

    def people(self, request: Request, visitor: Visitor, notices: _Notices = ()) -> Response:
        """Return everyone, or the people whom a search finds."""
        view = self.class_view(visitor)
        search, group = request.query_params.get("q", "")[:64], request.query_params.get("group", "")[:64]
        sort = request.query_params.get("sort", "name")
        people = _matching(view.people(), search, group)
        return self._page(
            *(request, visitor, view, "people", notices, "people.html"),
            people=_sorted(people, sort),
            search=search,
            group=group,
            sort=sort if sort.removeprefix("-") in _SORTS else "name",
            all_groups=self._records.members.groups(),
        )

    def person(self, request: Request, visitor: Visitor, notices: _Notices = ()) -> Response:
        """Return one person: limits, orders, images."""
        view = self.class_view(visitor)
        member = self.member(request)
        person = next((each for each in view.people() if each.id == member.id), None)
        if person is None:
            raise NotHere("That person's name was erased, and they have spent nothing.", "Look at People.")
        number = _page_number(request)
        orders, more = view.orders(number, _PAGE_SIZE, member_id=member.id)
        own = [period for subject, period in self._records.ledger.limits() if subject == member.subject]
        return self._page(
            *(request, visitor, view, "people", notices, "person.html"),
            person=person,
            spending=view.days(member.id),
            orders=orders,
            number=number,
            more=more,
            own_limits=own,
        )

    def orders(self, request: Request, visitor: Visitor, notices: _Notices = ()) -> Response:
        """Return orders, newest first."""
        view, number = self.class_view(visitor), _page_number(request)
        chosen = request.query_params.get("state", "")
        chosen = chosen if chosen in dict(_STATES) else ""
        orders, more = view.orders(number, _PAGE_SIZE, state=chosen)
        return self._page(
            *(request, visitor, view, "orders", notices, "orders.html"),
            orders=orders,
            states=_STATES,
            chosen=chosen,
            number=number,
            more=more,
        )

    def gallery(self, request: Request, visitor: Visitor, notices: _Notices = ()) -> Response:
        """Return the images, newest first."""
        view, number = self.class_view(visitor), _page_number(request)
        orders, more = view.orders(number, _GALLERY_SIZE, with_images=True) if view.sees_images else ([], False)
        return self._page(
            *(request, visitor, view, "gallery", notices, "gallery.html"), orders=orders, number=number, more=more
        )

    def limits(
        self, request: Request, visitor: Visitor, notices: _Notices = (), typed: Mapping[str, Any] | None = None
    ) -> Response:
        """Return limits and rules; `typed` holds the values of an invalid form."""
        view = self.class_view(visitor)
        return self._page(
            *(request, visitor, view, "limits", notices, "limits.html"),
            limits=view.limits(),
            scopes=view.scopes(),
            models=[model.id for model in self._settings.catalog().models if model.served],
            all_groups=self._records.members.groups(),
            typed=typed or _NOTHING_TYPED,
        )

    def invitations(
        self,
        request: Request,
        visitor: Visitor,
        notices: _Notices = (),
        *,
        code: str | None = None,
        people: int = 1,
        typed: Mapping[str, Any] | None = None,
    ) -> Response:
        """Return the invitations; `code` is a new one, which is shown once."""
        view = self.class_view(visitor)
        names = {member.id: view.name_of(member) for member in self._records.members.all()}
        rows = [_invitation(invitation, names, view.now) for invitation in self._records.invitations.listed()]
        return self._page(
            *(request, visitor, view, "invitations", notices, "invitations.html"),
            invitations=rows,
            code=code,
            people=people,
            typed=typed or _NOTHING_TYPED,
        )

    def audit(self, request: Request, visitor: Visitor, notices: _Notices = ()) -> Response:
        """Return the changes, newest first."""
        view, number = self.class_view(visitor), _page_number(request)
        entries = self._records.audit.entries(_PAGE_SIZE + 1, (number - 1) * _PAGE_SIZE)
        return self._page(
            *(request, visitor, view, "audit", notices, "audit.html"),
            entries=entries[:_PAGE_SIZE],
            number=number,
            more=len(entries) > _PAGE_SIZE,
        )

    def people_csv(self, _: Request, visitor: Visitor) -> Response:
        """Return each person's spend, for a spreadsheet."""
        view = self.class_view(visitor)
        rows = report_rows(self._records)
        if visitor.session.hides_names:
            rows = [replace(row, member=replace(row.member, name=view.name_of(row.member))) for row in rows]
        file = io.StringIO()
        write_report(rows, file)
        return _csv("people.csv", file.getvalue())

    def orders_csv(self, _: Request, visitor: Visitor) -> Response:
        """Return all orders, for a spreadsheet."""
        view = self.class_view(visitor)
        members = {member.id: member for member in self._records.members.all()}
        file = io.StringIO()
        write_orders((view.order(row, members) for row in view.overview.every_order()), file, view.zone)
        return _csv("orders.csv", file.getvalue())

    def member(self, request: Request) -> Member:
        """Return the person in the address; raises NotHere."""
        number = request.path_params["id"]
        member = self._records.members.by_id(number) if number <= _MAX_ROWS else None
        if member is None:
            raise NotHere("There is no such person in this class.", "Look at People.")
        return member

    def _page(
        self,
        request: Request,
        visitor: Visitor,
        view: ClassView,
        tab: str,
        notices: _Notices,
        template: str,
        **values: Any,
    ) -> Response:
        frame = page_frame(request, self._settings, visitor, view, tab, notices)
        status = 422 if any(kind == "bad" for kind, _ in notices) and request.method == "POST" else 200
        return page_response(render(template, page=frame, **values), status)

    def _usual_price(self) -> int:
        """Return the price of an image with the default model and size."""
        catalog = self._settings.catalog()
        model = catalog.default_model("generate")
        key = PriceKey(ENDPOINTS["generate"], model, catalog.default_size(model), None, 1)
        return catalog.list_price(key) or 0


_SORTS: Mapping[str, Callable[[PersonView], Any]] = {
    "name": lambda person: person.name.casefold(),
    "left": lambda person: (person.bar is None, person.bar.left if person.bar else 0),
    "today": lambda person: person.today,
    "spent": lambda person: person.spent,
    "at_risk": lambda person: person.at_risk,
    "images": lambda person: person.images,
    "last": lambda person: person.last_order_at or 0.0,
}


def _sorted(people: list[PersonView], sort: str) -> list[PersonView]:
    return sorted(people, key=_SORTS.get(sort.removeprefix("-"), _SORTS["name"]), reverse=sort.startswith("-"))


def _matching(people: list[PersonView], search: str, group: str) -> list[PersonView]:
    term = search.casefold().strip()
    matches = [person for person in people if term in person.name.casefold()]
    return [person for person in matches if not group or group in person.groups]


def _page_number(request: Request) -> int:
    text = request.query_params.get("page", "1")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1
    return min(max(1, number), _MAX_PAGES)


def _invitation(invitation: Invitation, names: Mapping[int, str], now: float) -> dict[str, Any]:
    state = "open"
    if invitation.revoked_at is not None:
        state = "withdrawn"
    elif invitation.uses_left == 0:
        state = "used"
    elif invitation.expires_at <= now:
        state = "expired"
    shown = ("id", "people", "uses_left", "role", "groups", "created_at", "expires_at")
    values = {name: getattr(invitation, name) for name in shown}
    return {**values, "name": names.get(invitation.member_id or 0), "state": state}


def _csv(name: str, text: str) -> Response:
    response = page_response("")
    headers = {name: value for name, value in response.headers.items() if name.lower() != "content-type"}
    headers.pop("content-length", None)
    headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(text.encode("utf-8-sig"), media_type="text/csv; charset=utf-8", headers=headers)
