"""Errors for students: a refusal that leaves no record, or a failed order."""

from __future__ import annotations

from typing import Any

from blockrun_magic.classroom.refusals import Refusal
from blockrun_magic.errors import (
    BlockrunError,
    BudgetError,
    ContentPolicyViolation,
    GatewayUnreachable,
    InsufficientCredit,
    LedgerError,
    MissingDependency,
    PaymentOutcomeUnknown,
    RateLimited,
    RequestError,
    RequestRejected,
    SourceError,
    StoreError,
    WalletError,
)
from blockrun_magic.payments.ledger.windows import LimitReached
from blockrun_magic.payments.money import format_usd

__all__ = ["failure_of", "limit_subject", "refusal_of"]

_CODES: tuple[tuple[type[BlockrunError], str], ...] = (
    (ContentPolicyViolation, "content_policy"),
    (RequestRejected, "rejected"),
    (RateLimited, "gateway_busy"),
    (GatewayUnreachable, "gateway_unreachable"),
    (PaymentOutcomeUnknown, "unknown_outcome"),
)
_OURS = (WalletError, StoreError, LedgerError, MissingDependency, InsufficientCredit)
"""Errors of the service itself, which may name its files and its wallet, and are hidden from students."""
_UNAVAILABLE = ("The classroom cannot buy images right now.", "Tell your teacher, then run the cell again.")
_PERIODS = {"total": "", "month": " this month", "week": " this week", "day": " today"}


def refusal_of(error: BlockrunError, price: int | None) -> Refusal | None:
    """Return the refusal for an error before anything was signed, or None if the order has failed."""
    if isinstance(error, LimitReached):
        return _limit_reached(error)
    if isinstance(error, BudgetError):
        return Refusal(402, "price", error.message, error.hint, price_micros=price)
    if isinstance(error, RequestError | SourceError):
        return Refusal(422, "bad_request", error.message, error.hint)
    if isinstance(error, _OURS):
        return Refusal(503, "unavailable", *_UNAVAILABLE, retry_after=10)
    return None


def failure_of(error: Exception) -> dict[str, Any]:
    """Return an error as JSON values: code, message and hint."""
    if not isinstance(error, BlockrunError) or isinstance(error, _OURS):
        return {"code": "unavailable", "message": _UNAVAILABLE[0], "hint": _UNAVAILABLE[1]}
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "gateway")
    return {"code": code, "message": error.message, "hint": error.hint}


def limit_subject(subject: str) -> str:
    """Return the subject of a limit for a student: "you", "group:NAME" or "class"."""
    if subject.startswith("member:") or subject == "each":
        return "you"
    return subject if subject.startswith("group:") else "class"


def _limit_reached(error: LimitReached) -> Refusal:
    subject = limit_subject(error.subject)
    whose = {"you": "Your limit", "class": "The limit of the class"}.get(subject, "The limit of your group")
    left = max(0, error.left)
    return Refusal(
        402,
        "limit",
        f"{whose}{_PERIODS.get(error.period, '')} has {format_usd(left)} left, which is less than this costs.",
        "Choose a cheaper model or size, or ask your teacher to raise the limit.",
        subject=subject,
        period=error.period,
        limit_micros=error.limit,
        left_micros=left,
        resets_at=error.resets_at,
    )
