"""Refusals of a classroom, in two lines that a student can act on: limits, policy, pass, load."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from blockrun_magic.errors import (
    BlockrunError,
    BudgetError,
    ContentPolicyViolation,
    JobFailed,
    RateLimited,
    RequestRejected,
    UpstreamFailed,
    WalletError,
)
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.classroom.protocol import ClassLimit
from blockrun_magic.text import format_usd, sanitize

__all__ = ["ClassLimitReached", "ClassRefusal", "PassRefused", "code_of", "limit_words", "refusal", "time_left"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_PERIODS = {"day": " for today", "week": " for this week", "month": " for this month"}
_ASK = "Ask your teacher"


class ClassLimitReached(BudgetError):
    """A request would exceed a class limit: `subject`, `period`, `left` in micro-USDC, `resets_at` in Unix seconds."""

    def __init__(self, message: str, hint: str, limit: ClassLimit) -> None:
        super().__init__(message, hint)
        self.subject, self.period = limit.subject, limit.period
        self.left, self.resets_at = limit.left, limit.resets_at


class ClassRefusal(RequestRejected):
    """The class does not allow this request; `code` says why: "model", "size", "n", "edits", "paused", "ended"."""

    def __init__(self, message: str, hint: str, code: str) -> None:
        super().__init__(message, hint)
        self.code = code


class PassRefused(WalletError):
    """The classroom does not accept the pass or the code; `code` says why: "revoked", "expired", "bad_code"."""

    def __init__(self, message: str, hint: str, code: str) -> None:
        super().__init__(message, hint)
        self.code = code


def code_of(answer: Response) -> str:
    """Return the code of a refusal, or "" for an answer that is not one of a classroom."""
    code = _error(answer).get("code")
    return sanitize(code, 40) if isinstance(code, str) else ""


def refusal(answer: Response, proof: Mapping[str, str] | None = None) -> BlockrunError:
    """Return the error for an answer that is not an order; the caller knows the fate of the money.

    Text of the service is shown without the values of `proof`, which it has received.
    """
    error, code = _error(answer), code_of(answer)
    message, hint = (_without(error.get(name), proof or {}) for name in ("message", "hint"))
    if code == "limit":
        return _limit_reached(error)
    if code == "price":
        return _price_changed(error)
    lines = _words(code, error)
    if lines is not None:
        kind = PassRefused if code in _PASS else ClassRefusal
        return kind(*lines, code)
    return _other(answer.status, code, message, hint)


def _without(value: Any, proof: Mapping[str, str]) -> str:
    text = value if isinstance(value, str) else ""
    for secret in filter(None, proof.values()):
        text = text.replace(secret, "…")
    return sanitize(text, 300)


def limit_words(subject: str, period: str) -> str:
    """Return the name of a limit: "your limit for today", "the limit of the group red"."""
    kind, _, name = subject.partition(":")
    whose = {
        "group": f"the limit of the group {name}",
        "class": "the limit of the class",
        "all": "the limit of the class",
    }
    return whose.get(kind, "your limit") + _PERIODS.get(period, "")


def time_left(resets_at: float) -> str:
    """Return the time until a Unix time, as "5 h 12 min", which needs no time zone."""
    seconds = max(_MINUTE, resets_at - time.time())
    days, hours, minutes = seconds // _DAY, seconds % _DAY // _HOUR, seconds % _HOUR // _MINUTE
    if days:
        return f"{days:.0f} d {hours:.0f} h"
    return f"{hours:.0f} h {minutes:.0f} min" if hours else f"{minutes:.0f} min"


def _limit_reached(error: Mapping[str, Any]) -> BlockrunError:
    left, resets_at = _number(error.get("left_micros")), _number(error.get("resets_at"))
    subject, period = sanitize(error.get("subject") or "you", 60), sanitize(error.get("period") or "total", 20)
    limit = ClassLimit(subject, period, _number(error.get("limit_micros")), 0, 0, left, resets_at)
    words = limit_words(subject, period)
    of = "" if limit.limit is None else f" of {format_usd(limit.limit)}"
    rest = "" if left is None else f": {format_usd(left)} is left" if left else ": nothing is left"
    resets = "" if resets_at is None else f"It resets in {time_left(resets_at)}. "
    cheaper = ", or choose a cheaper model or size" if left else ""
    return ClassLimitReached(
        f"This would exceed {words}{of}{rest}.",
        f"{resets}{_ASK} for more{cheaper}; `%blockrun` shows your limits.",
        limit,
    )


def _price_changed(error: Mapping[str, Any]) -> BlockrunError:
    price = _number(error.get("price_micros"))
    now = "has changed" if price is None else f"is now {format_usd(price)}"
    return BudgetError(f"The price {now}: more than you agreed to.", "Run the cell again to agree to the new price.")


def _words(code: str, error: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the two lines for a known code, with details from the answer."""
    if code in _KNOWN:
        return _KNOWN[code]
    allowed = error.get("models")
    these = sanitize(", ".join(map(str, allowed[:20])), 300) if isinstance(allowed, list) else ""
    starts = _number(error.get("starts_at"))
    when = "" if starts is None else f"It opens in {time_left(starts)}. "
    largest = sanitize(error.get("max_size") or "", 20)
    most = _number(error.get("max_n"))
    return {
        "model": (
            "Your class does not allow this model.",
            f"Choose one of {these}." if these else "Choose one that `%blockrun models` lists, or ask your teacher.",
        ),
        "size": (
            "This size is larger than your class allows.",
            f"Use --size {largest} or smaller." if largest else "Choose a smaller --size, or ask your teacher.",
        ),
        "n": (
            "This is more images at once than your class allows.",
            f"Use -n {most:.0f} or less." if most else "Use a smaller -n, or ask your teacher.",
        ),
        "not_started": ("Your class has not started.", f"{when}Run the cell again then; stored images work now."),
    }.get(code)


_NEW_CODE = f"{_ASK} for a new code, then `%blockrun join`."
_KNOWN: Mapping[str, tuple[str, str]] = {
    "edits": ("Your class does not allow edits.", f"Make a new image with %%imagegen, or {_ASK.lower()}."),
    "paused": (
        "Your teacher has paused the class.",
        "Run the cell again when it continues; stored images still work.",
    ),
    "ended": ("Your class has ended.", f"Stored images still work. {_ASK} if you need more."),
    "revoked": ("Your teacher has withdrawn your pass.", _NEW_CODE),
    "expired": ("Your pass for the classroom has expired.", _NEW_CODE),
    "no_pass": ("The classroom does not know your pass.", _NEW_CODE),
    "bad_code": ("This is not a code of this classroom.", "Compare it with the one from your teacher, then try again."),
    "code_used": ("This code has been used already.", f"{_ASK} for a new one."),
    "code_expired": ("This code has expired.", f"{_ASK} for a new one."),
    "cancelled": ("This order was cancelled.", "Run the cell again to order the image."),
    "name_taken": (
        "That name is already taken in your class.",
        "Join with another one: `%blockrun join URL --name NAME`.",
    ),
    "image_gone": ("The classroom no longer has this image.", "Buy another take with --fresh."),
    "no_hub": ("This classroom is not part of a hub.", f"{_ASK} for a code, then `%blockrun join URL`."),
    "too_large": ("The images are too large for the classroom.", "Add --shrink, or use smaller images."),
}
"""The two lines of the codes that need no details."""
_BUSY = {
    "rate": "You order faster than your class allows.",
    "busy": "Your class is ordering many images.",
    "stopping": "The classroom is restarting.",
}
_PASS = frozenset({"revoked", "expired", "no_pass", "bad_code", "code_used", "code_expired"})


def _other(status: int, code: str, message: str, hint: str) -> BlockrunError:
    """Return the error for an unknown code, with the text of the service."""
    words = f": {message.rstrip('.')}." if message else "."
    change = hint or "Change the prompt or the image, or use another --model."
    if code == "content_policy":
        return ContentPolicyViolation(message or "The content policy refused this.", change)
    if code == "rejected":
        return RequestRejected(message or "The gateway refused this.", change)
    if status == 401:
        return PassRefused(f"The classroom refused access{words}", hint or f"{_ASK} for a new code.", code)
    again = hint or "Run the cell again in a minute."
    if code in _BUSY:
        return (RateLimited if status == 429 else UpstreamFailed)(_BUSY[code], "Run the cell again in a minute.")
    kinds: dict[int, BlockrunError] = {
        429: RateLimited(f"You order faster than your class allows{words}", again),
        200: JobFailed(message or "No image was made.", change),
        202: JobFailed(message or "No image was made.", change),
    }
    if status in (408, 425) or status >= 500:
        return UpstreamFailed(f"The classroom answered {status}{words}", again)
    asked = hint or f"{_ASK}, or change the request."
    return kinds.get(status) or ClassRefusal(message or f"The classroom answered {status}.", asked, code)


def _error(answer: Response) -> Mapping[str, Any]:
    body = answer.json()
    error = body.get("error") if isinstance(body, Mapping) else None
    return error if isinstance(error, Mapping) else {}


def _number(value: Any) -> Any:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return value if plain and 0 <= value < 1e15 else None
