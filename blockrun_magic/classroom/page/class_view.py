"""The class for the page, read from the records; with prompts and images only if the rules allow them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from blockrun_magic.classroom.page.overview import Activity, Amounts, OrderRow, Overview
from blockrun_magic.classroom.page.records import Bar, ClassState, Day, OrderView, PersonView, Share, Stuck, tightest
from blockrun_magic.classroom.page.rendering import PERIODS, subject_words
from blockrun_magic.classroom.policy import CLASS, Policy
from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.classroom.storage.records import Records
from blockrun_magic.gateway.request import ENDPOINTS
from blockrun_magic.payments.money import format_usd

__all__ = ["ClassView", "LimitRow", "person_scope"]

_DAYS = 14
_WAITING_TOO_LONG = 60.0
_MAX_STUCK = 12
_SUBJECTS = {"all": 0, "class": 1, "each": 2, "group": 3, "member": 4}


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit, and the person whose own it is."""

    bar: Bar
    person_id: int | None = None
    person: str | None = None


def person_scope(member_id: int) -> str:
    """Return the scope of the rules of one person."""
    return f"member:{member_id}"


class ClassView:
    """Reader of the class for one page; `hides_names` shows numbers instead of names."""

    def __init__(self, records: Records, usual_price: int, *, hides_names: bool = False) -> None:
        self._records = records
        self._usual_price = max(1, usual_price)
        self._hides_names = hides_names
        self.overview = Overview(records)
        self.now = records.database.now()
        self.zone = records.ledger.setting("class.timezone") or "UTC"
        self._policies: Mapping[str, Policy] = records.policies.all()
        self.policy = self._policies.get(CLASS, Policy())
        self.sees_images = self.policy.see != "amounts"

    # -- people

    def people(self) -> list[PersonView]:
        """Return everyone whose name is not erased, or who has spent money."""
        members = self._records.members.all()
        spent, today = self.overview.amounts(), self.overview.amounts(self.midnight())
        activity = self.overview.activity()
        bars = self._bars(members)
        return [
            self._person(
                member,
                spent.get(member.id, Amounts()),
                today.get(member.id, Amounts()).spent,
                activity.get(member.id, Activity()),
                bars,
            )
            for member in members
            if member.name is not None or member.id in spent
        ]

    def name_of(self, member: Member) -> str:
        """Return the name under which a person is shown."""
        return f"Person {member.id}" if self._hides_names else member.label

    def _person(
        self, member: Member, amounts: Amounts, today: int, activity: Activity, bars: Mapping[str, Sequence[Bar]]
    ) -> PersonView:
        applying = [bar for subject in member.subjects for bar in bars.get(subject, ())]
        return PersonView(
            id=member.id,
            name=self.name_of(member),
            role=member.role,
            groups=member.groups,
            state=self._state(member),
            spent=amounts.spent,
            at_risk=amounts.at_risk,
            today=today,
            orders=activity.orders,
            images=activity.images,
            last_order_at=activity.last_at,
            bars=tuple(applying),
        )

    def _state(self, member: Member) -> str:
        if member.forgotten_at is not None:
            return "forgotten"
        if member.revoked_at is not None:
            return "revoked"
        return "paused" if self._policies.get(person_scope(member.id), Policy()).paused else "active"

    def _bars(self, members: Iterable[Member]) -> dict[str, list[Bar]]:
        """Return the existing limits with their use, by subject."""
        subjects = dict.fromkeys(subject for member in members for subject in member.subjects)
        subjects |= dict.fromkeys(("class", "all"))
        bars: dict[str, list[Bar]] = defaultdict(list)
        for at in self._records.ledger.standing(self._records.realm, list(subjects)):
            if at.limit is not None:
                bars[at.subject].append(Bar(at.subject, at.period, at.limit, at.used, at.at_risk, at.resets_at))
        return bars

    # -- the class

    def today(self) -> ClassState:
        """Return the class as it is now."""
        people = self.people()
        waiting = self.overview.waiting()
        groups: dict[str, list[PersonView]] = defaultdict(list)
        for person in people:
            for name in person.groups:
                groups[name].append(person)
        bars = self._bars(())
        return ClassState(
            spent=sum(person.spent for person in people),
            at_risk=sum(person.at_risk for person in people),
            today=sum(person.today for person in people),
            people=len([person for person in people if person.state != "forgotten"]),
            active_today=len([person for person in people if (person.last_order_at or 0) >= self.midnight()]),
            images_today=self.overview.images_since(self.midnight()),
            open_orders=len(waiting),
            paused=self.policy.paused,
            bars=tuple(bars.get("class", ())) + tuple(bars.get("all", ())),
            days=self.days(),
            shares=[
                Share(name, len(those), sum(each.spent for each in those), sum(each.at_risk for each in those))
                for name, those in sorted(groups.items())
            ],
            stuck=self._stuck(people, waiting),
        )

    def _stuck(self, people: Sequence[PersonView], waiting: Sequence[OrderRow]) -> list[Stuck]:
        names = {person.id: person.name for person in people}
        stuck = [
            Stuck(order.member_id, names[order.member_id], "waits for an image", order.created_at)
            for order in waiting
            if order.created_at < self.now - _WAITING_TOO_LONG and order.member_id in names
        ]
        for person in people:
            bar = tightest([bar for bar in person.bars if bar.subject not in ("class", "all")])
            if person.state == "active" and bar is not None and (bar.left or 0) < self._usual_price:
                whose = "" if bar.subject.startswith("member:") else f" for {subject_words(bar.subject)}"
                left, limit = format_usd(bar.left or 0), format_usd(bar.limit or 0)
                stuck.append(Stuck(person.id, person.name, f"has {left} left of {limit} {PERIODS[bar.period]}{whose}"))
        return stuck[:_MAX_STUCK]

    def limits(self) -> list[LimitRow]:
        """Return every limit: the ceiling, the class, each person, groups, and people with their own."""
        members = {f"member:{member.id}": member for member in self._records.members.all()}
        limits = self._records.ledger.limits()
        subjects = [subject for subject, _ in limits if subject != "each"]
        standing = {
            (at.subject, at.period): at
            for at in self._records.ledger.standing(self._records.realm, list(dict.fromkeys(subjects)))
        }
        rows = []
        for (subject, period), amount in limits.items():
            at = standing.get((subject, period))
            bar = Bar(subject, period, amount, at.used if at else 0, at.at_risk if at else 0)
            member = members.get(subject)
            rows.append(LimitRow(bar, member.id if member else None, self.name_of(member) if member else None))
        return sorted(rows, key=lambda row: (_SUBJECTS.get(row.bar.subject.partition(":")[0], 9), row.bar.subject))

    def scopes(self) -> list[tuple[str, Policy]]:
        """Return the rules of the class and of each group."""
        names = [CLASS, *(f"group:{name}" for name in self._records.members.groups())]
        return [(name, self._policies.get(name, Policy())) for name in names]

    # -- orders

    def orders(
        self,
        page: int,
        size: int,
        *,
        member_id: int | None = None,
        state: str = "",
        with_images: bool = False,
    ) -> tuple[list[OrderView], bool]:
        """Return a page of orders, newest first, and whether there are more."""
        rows = self.overview.orders(
            member_id=member_id, state=state, with_images=with_images, limit=size + 1, offset=(page - 1) * size
        )
        members = {member.id: member for member in self._records.members.all()}
        return [self.order(row, members) for row in rows[:size]], len(rows) > size

    def order(self, row: OrderRow, members: Mapping[int, Member]) -> OrderView:
        """Return one order for display."""
        request = row.request or {}
        prompt = request.get("prompt") if self.sees_images else None
        error = row.error or {}
        return OrderView(
            id=row.id,
            person_id=row.member_id,
            person=self.name_of(members[row.member_id]),
            state=row.state,
            model=str(request.get("model") or ""),
            size=str(request.get("size") or ""),
            n=int(request.get("n") or 1),
            kind="edit" if request.get("endpoint") == ENDPOINTS["edit"] else "generate",
            prompt=prompt if isinstance(prompt, str) else None,
            charged=row.charged,
            at_risk=row.at_risk,
            created_at=row.created_at,
            finished_at=row.finished_at,
            problem=str(error["message"]) if error.get("message") else None,
            images=row.images if self.sees_images and row.request is not None else (),
        )

    # -- time

    def midnight(self, days_ago: int = 0) -> float:
        """Return the start of a day in the class's time zone, in Unix seconds."""
        day = datetime.fromtimestamp(self.now, ZoneInfo(self.zone)).date() - timedelta(days=days_ago)
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.zone)).timestamp()

    def days(self, member_id: int | None = None) -> list[Day]:
        """Return the spend on each of the last days, of everyone or of one person."""
        zone = ZoneInfo(self.zone)
        spent: dict[str, int] = defaultdict(int)
        risk: dict[str, int] = defaultdict(int)
        for payment in self.overview.payments(self.midnight(_DAYS - 1), member_id):
            label = datetime.fromtimestamp(payment.at, zone).strftime("%b %d")
            (spent if payment.settled else risk)[label] += payment.amount
        labels = [
            datetime.fromtimestamp(self.midnight(back), zone).strftime("%b %d") for back in range(_DAYS - 1, -1, -1)
        ]
        return [Day(label, spent[label], risk[label]) for label in labels]
