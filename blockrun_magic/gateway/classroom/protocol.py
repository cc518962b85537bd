"""Answers of a classroom as values: membership, limits and orders; others raise InvalidResponse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from blockrun_magic.errors import InvalidResponse
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.payments.realm import Realm
from blockrun_magic.text import sanitize

__all__ = [
    "NOTICE",
    "ClassLimit",
    "Membership",
    "Order",
    "OrderState",
    "read_membership",
    "read_order",
    "read_orders",
]

NOTICE = "Your teacher can see the images you make here."
"""The notice that a student reads on joining, unless the service sends another one."""

_MAX_LIMITS = 50
_MAX_ORDERS = 200
_MAX_MICROS = 10**15
_HINT = "Ask your teacher whether the service of the classroom is up to date."


class OrderState(StrEnum):
    """The state of an order, at the service and in its answers."""

    QUEUED = "queued"
    WORKING = "working"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """A payment was sent, and its outcome is unknown or its images have not arrived: the service repeats the order."""

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self in (OrderState.DONE, OrderState.REFUSED, OrderState.FAILED, OrderState.CANCELLED)


@dataclass(frozen=True, slots=True)
class ClassLimit:
    """One limit that applies to a student, in micro-USDC; `left` counts money at risk as spent.

    `subject` is "you", "group:NAME" or "class", `limit` and `left` are None without a limit, `resets_at` is Unix
    seconds.
    """

    subject: str
    period: str
    limit: int | None
    spent: int
    at_risk: int
    left: int | None
    resets_at: float | None


@dataclass(frozen=True, slots=True)
class Membership:
    """A student's membership in a class: name, groups and limits, and the kind of money."""

    name: str
    role: str
    groups: tuple[str, ...]
    limits: tuple[ClassLimit, ...]
    money: Realm
    gateway: str
    paused: bool
    notice: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order as its service reports it: the witness of the student's payment; amounts are micro-USDC."""

    key: str
    state: OrderState
    charged: int = 0
    at_risk: int = 0
    transaction: str | None = None
    price: int = 0
    request: Mapping[str, Any] | None = None
    """The ordered fields, if the answer has them: for a kernel that has lost its ledger."""

    @property
    def unpaid(self) -> bool:
        """Whether the order has ended without a charge, and cannot be charged later."""
        return self.state.ended and self.state is not OrderState.DONE and not self.charged and not self.at_risk

    @property
    def settled(self) -> bool:
        """Whether the order has ended with a final charge, which may be zero."""
        paid = self.state is OrderState.DONE or bool(self.charged)
        return self.state.ended and paid and not self.at_risk


def read_membership(answer: Response) -> Membership:
    """Return the membership in an answer to `join` or `me`; raises InvalidResponse."""
    body = answer.json()
    if not isinstance(body, Mapping) or body.get("realm") not in tuple(Realm):
        raise InvalidResponse("The classroom's answer does not say who you are there.", _HINT)
    member, policy = _map(body.get("member")), _map(body.get("policy"))
    limits = [limit for each in _list(body.get("limits"))[:_MAX_LIMITS] if (limit := _limit(each)) is not None]
    return Membership(
        name=sanitize(member.get("name") or "", 60),
        role=sanitize(member.get("role") or "student", 20),
        groups=tuple(sanitize(group, 60) for group in _list(body.get("groups"))[:_MAX_LIMITS]),
        limits=tuple(limits),
        money=Realm(body["realm"]),
        gateway=sanitize(body.get("gateway") or "", 80),
        paused=policy.get("paused") is True,
        notice=sanitize(body.get("notice") or "", 200) or NOTICE,
    )


def read_order(answer: Response, key: str | None = None) -> Order | None:
    """Return the order in an answer (of `key`, if given), or None."""
    return _order(answer.json(), key)


def read_orders(answer: Response) -> list[Order]:
    """Return the orders of a list, without those that cannot be read."""
    listed = _list(_map(answer.json()).get("orders"))[:_MAX_ORDERS]
    return [order for each in listed if (order := _order(each, None)) is not None]


def _order(body: Any, key: str | None) -> Order | None:
    fields = _map(body)
    named, state = fields.get("order"), fields.get("state")
    if not isinstance(named, str) or len(named) != 32 or state not in tuple(OrderState) or key not in (None, named):
        return None
    payment, request = _map(fields.get("payment")), fields.get("request")
    transaction = payment.get("transaction")
    return Order(
        key=named,
        state=OrderState(state),
        charged=_micros(fields.get("charged_micros")) or 0,
        at_risk=_micros(fields.get("at_risk_micros")) or 0,
        transaction=sanitize(transaction, 90) if isinstance(transaction, str) and transaction else None,
        price=_dollars(fields.get("price")),
        request=request if isinstance(request, Mapping) else None,
    )


def _limit(value: Any) -> ClassLimit | None:
    fields = _map(value)
    subject, period, resets_at = fields.get("subject"), fields.get("period"), fields.get("resets_at")
    if not isinstance(subject, str) or not isinstance(period, str):
        return None
    return ClassLimit(
        subject=sanitize(subject, 60),
        period=sanitize(period, 20),
        limit=_micros(fields.get("limit")),
        spent=_micros(fields.get("spent")) or 0,
        at_risk=_micros(fields.get("at_risk")) or 0,
        left=_micros(fields.get("left")),
        resets_at=float(resets_at) if isinstance(resets_at, int | float) and 0 < resets_at < 1e11 else None,
    )


def _micros(value: Any) -> int | None:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return value if plain and 0 <= value <= _MAX_MICROS else None


def _dollars(text: Any) -> int:
    try:
        return parse_usd(text) if isinstance(text, str) else 0
    except ValueError:
        return 0


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
