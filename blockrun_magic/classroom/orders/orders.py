"""Orders: each key stands for one `studio.make`, which the service finishes even if the connection drops."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from blockrun_magic.classroom.orders.buying import Work
from blockrun_magic.classroom.orders.studios import MemberStudios
from blockrun_magic.classroom.orders.work import OrderWorkers
from blockrun_magic.classroom.policy import Policy, check_policy
from blockrun_magic.classroom.refusals import Refusal, revoked
from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.classroom.storage.order_records import NewOrder, Order, OrderState, Revoked, TooMany
from blockrun_magic.classroom.storage.orders import OrderRows
from blockrun_magic.database.engine import Database, NotUnique
from blockrun_magic.errors import RequestError
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.studio.results.requests import request_to_record
from blockrun_magic.threads import run_cpu, run_io

__all__ = ["MAX_WAIT", "Orders", "Wanted", "image_gone"]

MAX_WAIT = 25.0
"""The most seconds that a request waits for an order."""
_MAX_WAITING = 400
_MAX_MARKS = 200
_HOUR = 3600.0
_POLL_INTERVAL = 0.25


@dataclass(frozen=True, slots=True)
class Wanted:
    """An incoming order; `body_hash` covers everything that may not change under its key."""

    key: str
    request: ImageRequest
    take: int
    max_price: int | None
    student_digest: str | None
    body_hash: str


class Orders:
    """The orders of one process; all coroutines run on one event loop."""

    def __init__(self, database: Database, rows: OrderRows, studios: MemberStudios, workshop: OrderWorkers) -> None:
        self.rows = rows
        self._database = database
        self._studios = studios
        self._workshop = workshop
        self._holding = 0
        self._stops_at: float | None = None

    @property
    def stopping(self) -> bool:
        """Whether new orders are refused because the process is ending."""
        return self._stops_at is not None

    def stop(self, seconds: float) -> None:
        """Refuse new orders, and end every wait within `seconds`."""
        self._stops_at = time.monotonic() + seconds

    async def put(self, member: Member, policy: Policy, wanted: Wanted, seconds: float, known: Order | None) -> Order:
        """Return the order with this key after waiting up to `seconds` for it; raises Refusal.

        `known` is the order that has the key already. A new one is recorded before its work starts. A repeated one is
        never carried out twice.
        """
        deadline = time.monotonic() + seconds
        if known is None or known.state is OrderState.REFUSED:
            known = await self._accept(member, policy, wanted, deadline, again=known is not None)
        if known.state is OrderState.CANCELLED:
            raise _cancelled()
        if known.is_erased:
            raise image_gone()
        if known.body_hash != wanted.body_hash:
            raise Refusal(422, "other_body", "Another request was already sent with this key.", "Use a new key.")
        order = await self.wait(known, deadline - time.monotonic())
        if order.state is OrderState.CANCELLED:
            raise _cancelled()
        if order.state is OrderState.REFUSED:
            raise _stored_refusal(order)
        return order

    async def wait(self, order: Order, seconds: float) -> Order:
        """Return the order when it has ended, or after `seconds`; raises Refusal if it was refused."""
        deadline = time.monotonic() + max(0.0, min(seconds, MAX_WAIT))
        work: Work | None = None
        while True:
            work = self._workshop.running.get(order.id, work)
            left = min(deadline, self._stops_at or deadline) - time.monotonic()
            if work is not None and not work.task.done() and left > 0:
                await asyncio.wait({work.task}, timeout=min(left, 1.0))
            elif left > 0 and not order.is_final:
                await asyncio.sleep(min(left, _POLL_INTERVAL))
            current = work.ended if work is not None else None
            if current is None:
                current = await run_io(self.rows.by_id, order.id)
            if current is None:
                raise _refusal_in(work)
            if current.is_final or (current.state is OrderState.UNKNOWN and order.state is not OrderState.UNKNOWN):
                return current
            if left <= 0 or _is_refused(current):
                if await run_io(self.rows.defer, order.id):
                    return current
                raise _refusal_in(work)
            order = current

    async def cancel(self, member: Member, key: str) -> tuple[Order | None, bool]:
        """Cancel an order unless its payment is signed; return it, and whether it is cancelled.

        An unknown key is marked, so that a late order with it is refused; the order is then None.
        """
        order = await run_io(self.rows.find, member.id, key)
        if order is None:
            if await run_io(self.rows.marks, member.id, _HOUR) >= _MAX_MARKS:
                raise Refusal(429, "rate", "Too many orders were cancelled.", "Try again later.", retry_after=60)
            if await run_io(self.rows.mark_cancelled, member.id, key, self._studios.gateway.realm):
                return None, True
            order = await run_io(self.rows.find, member.id, key)
            assert order is not None  # noqa: S101  the mark was refused because it is there
        if order.state is OrderState.REFUSED:
            await run_io(self.rows.cancel_refused, order.id)
        elif order.state in (OrderState.QUEUED, OrderState.WORKING):
            await self._workshop.cancel(order)
        current = await run_io(self.rows.find, member.id, key)
        return (current, current.state is OrderState.CANCELLED) if current else (None, True)

    # -- acceptance

    async def _accept(self, member: Member, policy: Policy, wanted: Wanted, deadline: float, *, again: bool) -> Order:
        """Return a new order, recorded and started; raises Refusal, which leaves no order."""
        self._check_load()
        check_policy(policy, wanted.request, self._database.now())
        try:
            self._studios.catalog.check(wanted.request)
        except RequestError as error:
            raise Refusal(422, "bad_request", error.message, error.hint) from None
        new = NewOrder(
            key=wanted.key,
            body_hash=wanted.body_hash,
            request=await self._record(wanted.request),
            digest=wanted.request.digest,
            student_digest=wanted.student_digest,
            realm=self._studios.gateway.realm,
            take=wanted.take,
            max_price_micros=wanted.max_price,
        )
        while True:
            try:
                return await self._workshop.accept(member.id, new, policy, wanted.request, again=again)
            except NotUnique:
                known = await run_io(self.rows.find, member.id, wanted.key)
                if known is not None:
                    return known
            except Revoked:
                raise revoked() from None
            except TooMany as error:
                await self._await_turn(member, error.seconds, deadline)

    async def _record(self, request: ImageRequest) -> dict[str, Any]:
        """Store the images of a request, and return its record."""
        if request.images:
            return await run_cpu(request_to_record, request, self._studios.store)
        return request_to_record(request, self._studios.store)

    def _check_load(self) -> None:
        if self.stopping:
            raise Refusal(
                503, "stopping", "The classroom is restarting.", "The order is sent again automatically.", retry_after=2
            )
        if self._workshop.waiting + self._holding >= _MAX_WAITING:
            raise Refusal(503, "busy", "The classroom has too many orders.", "Try again in a moment.", retry_after=5)

    async def _await_turn(self, member: Member, seconds: float | None, deadline: float) -> None:
        """Wait until another order of the person has ended; raises Refusal (429) if that takes too long."""
        if seconds is not None:
            raise Refusal(429, "rate", "You have ordered too fast.", "Wait a little.", retry_after=seconds)
        self._check_load()
        left = min(deadline, self._stops_at or deadline) - time.monotonic()
        if left <= 0:
            message = "Two of your orders are in progress."
            raise Refusal(429, "rate", message, "Wait until one of them has ended.", retry_after=2)
        self._holding += 1
        try:
            await self._workshop.wait_for_member(member.id, min(left, _POLL_INTERVAL))
        finally:
            self._holding -= 1


def _is_refused(order: Order) -> bool:
    """Return whether the gateway has refused an order whose payment is undecided: waiting is useless."""
    return order.state is OrderState.UNKNOWN and (order.error or {}).get("code") in ("content_policy", "rejected")


def image_gone() -> Refusal:
    """Return the refusal of an order whose images were erased."""
    return Refusal(410, "image_gone", "The image is no longer stored.", "Buy another take with `--fresh`.")


def _cancelled() -> Refusal:
    return Refusal(409, "cancelled", "This order was cancelled.", "Run the cell again: it then has a new key.")


def _refusal_in(work: Work | None) -> Refusal:
    """Return the refusal of an order without a record: one that no caller has seen."""
    if work is not None and work.refusal is not None:
        return work.refusal
    return Refusal(404, "unknown_order", "There is no order with this key.", "Send it again.")


def _stored_refusal(order: Order) -> Refusal:
    details = dict(order.error or {})
    status, code = int(details.pop("status", 402)), str(details.pop("code", "limit"))
    return Refusal(status, code, str(details.pop("message", "")), str(details.pop("hint", "")), **details)
