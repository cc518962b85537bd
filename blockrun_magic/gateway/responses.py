"""Interpretation of a gateway's response: images, a job, or an error.

Shapes and statuses are those of the gateway protocol, sections 2, 4 and 5. Text from a server is shortened, and control
characters are removed, before it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockrun_magic.errors import (
    ContentPolicyViolation,
    GatewayError,
    InsufficientCredit,
    InvalidResponse,
    JobFailed,
    PaymentRejected,
    RateLimited,
    RequestRejected,
    UpstreamFailed,
)
from blockrun_magic.gateway.bodies import ImagePayload, Response
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.payments.money import read_micros
from blockrun_magic.text import public_url, sanitize

__all__ = [
    "CompletedJob",
    "ImagePayload",
    "PendingJob",
    "Response",
    "error_from_response",
    "is_replay",
    "is_transient",
    "job_failed",
    "poll_address",
    "proves_no_charge",
    "read_answer",
    "stated_price",
]

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})
_MAX_URL = 2048
_MAX_DETAILS = 5
_MAX_IMAGES = 16
"""Maximum images of a response if the number of requested images is unknown."""
_REFUSING = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429})
"""Statuses of a gateway that has refused the request or the payment."""
_NEVER_SIGNED = "payment creation aborted"
_MAX_PRICE = 10_000_000_000
_JOB_FAILURES = frozenset({"failed", "error", "cancelled", "canceled", "expired"})


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """An answer with images."""

    items: tuple[ImagePayload, ...]


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A slow job; `poll_url` is its address, or None if the answer names no new one."""

    status: str
    poll_url: str | None


def read_answer(answer: Response, n: int = _MAX_IMAGES) -> CompletedJob | PendingJob:
    """Return the images or the job in a 200 or 202 to a request for `n` images; raises JobFailed or InvalidResponse.

    It has at most `n` images. An unreadable image raises its error when its data are used, and does not affect the
    others.
    """
    body = answer.json()
    fields = body if isinstance(body, Mapping) else {}
    status, poll_url = _status(fields), fields.get("poll_url")
    if status in _JOB_FAILURES:
        raise JobFailed(
            f"The job ended without an image: {_error_text(fields) or status}.",
            "Try again, or another model or prompt.",
        )
    pending = isinstance(poll_url, str) or answer.status == 202
    items = answer.images(n, any_shape=not pending)
    if any(item.has_image for item in items):
        return CompletedJob(tuple(items))
    if pending and isinstance(body, Mapping):
        return PendingJob(status or "queued", poll_url if isinstance(poll_url, str) else None)
    if not isinstance(body, Mapping):
        kind = answer.headers.get("content-type", "no type").split(";")[0]
        raise InvalidResponse(
            f"The gateway answered {answer.status} without JSON ({sanitize(kind, 40)}).",
            "This is the gateway's fault; try again later or use another gateway.",
        )
    raise InvalidResponse(
        f"The gateway answered {answer.status} without an image.",
        "This is the gateway's fault; try again later or use another model.",
    )


def _status(body: Mapping[str, Any]) -> str:
    status = body.get("status")
    return sanitize(status, 30).lower() if isinstance(status, str) else ""


def poll_address(gateway: Gateway, poll_url: str | None) -> str:
    """Return the absolute URL of a job; raises InvalidResponse if it is missing or on another origin."""
    if poll_url is None:
        raise InvalidResponse("The gateway accepted the job but does not say where to collect it.", "")
    try:
        url = gateway.job_address(poll_url)
    except ValueError:
        url = ""
    # An unusable address must not be recorded in the ledger.
    if not gateway.same_origin(url) or not url.isprintable() or len(url) > _MAX_URL:
        raise InvalidResponse(
            f"The gateway named another host for collecting the image ({public_url(poll_url)}).",
            "The payment was not sent there. Report this to the gateway.",
        )
    return url


def is_transient(answer: Response) -> bool:
    """Return whether the same request may succeed a little later."""
    return answer.status in TRANSIENT


def is_replay(answer: Response) -> bool:
    """Return whether the gateway reports that this authorization was cashed already."""
    body = answer.json()
    if not isinstance(body, Mapping):
        return False
    error = body.get("error")
    codes = (body.get("code"), error.get("code") if isinstance(error, Mapping) else error)
    return "PAYMENT_REPLAY" in codes


def job_failed(answer: Response) -> bool:
    """Return whether the answer is of a job that ended without an image."""
    body = answer.json()
    return isinstance(body, Mapping) and _status(body) in _JOB_FAILURES


def proves_no_charge(answer: Response) -> bool:
    """Return whether a response proves that a prepaid request was not charged.

    Proof is a 4xx, unless the payment was used already; a job with "not_charged"; or ClawRouter's statement that it
    signed nothing. Any other failure may come after a payment (gateway protocol, sections 3, 5 and 7).
    """
    body = answer.json()
    if answer.status in _REFUSING:
        return not is_replay(answer)
    if not isinstance(body, Mapping):
        return False
    if job_failed(answer):
        return body.get("payment_status") == "not_charged"
    return answer.status == 502 and _NEVER_SIGNED in _error_text(body).lower()


def stated_price(body: Any) -> int | None:
    """Return the price of the whole request that an answer names, in micro-USDC, or None if it is not credible.

    Credible is a positive sum of US dollars of at most ten thousand.
    """
    price = body.get("price") if isinstance(body, Mapping) else None
    if not isinstance(price, Mapping) or str(price.get("currency", "USD")).upper() not in ("USD", "USDC"):
        return None
    return read_micros(price.get("amount"), _MAX_PRICE, 1)


def error_from_response(answer: Response, gateway: Gateway) -> GatewayError:
    """Return the error for an answer other than 200 and 202, in two lines.

    The caller adds the fate of the money, because it knows whether a payment was sent.
    """
    status = answer.status
    text = _error_text(answer.json())
    words = f": {text.rstrip('.')}." if text else "."
    if status == 402 or (status == 401 and gateway.paid_by is Payer.CREDIT):
        return _payment_refusal(status, words, gateway)
    if status == 403:
        return ContentPolicyViolation(
            f"The content policy refused this{words}",
            "Change the prompt or the image, or use another --model.",
        )
    if status == 429:
        source = sanitize(answer.headers.get("x-ratelimit-source", ""), 40)
        limit = f" ({source})" if source else ""
        return RateLimited(f"Too many requests{limit}{words}", "Wait a minute and run the cell again.")
    if is_transient(answer) or status >= 500:
        return UpstreamFailed(f"{gateway.name} answered {status}{words}", "Run the cell again in a few minutes.")
    return RequestRejected(
        f"{gateway.name} answered {status}{words}",
        "Change the request as the answer says; see `%blockrun models`.",
    )


def _payment_refusal(status: int, words: str, gateway: Gateway) -> GatewayError:
    if gateway.paid_by is Payer.CREDIT and status == 402:
        return InsufficientCredit(
            f"The account is out of credit{words}",
            "Top it up on BlockRun's dashboard (user.blockrun.ai), or choose another gateway with `%blockrun use`.",
        )
    if gateway.paid_by is Payer.CREDIT:
        return RequestRejected(
            f"The account did not accept the API key{words}",
            "Check BLOCKRUN_API_KEY against the keys on BlockRun's dashboard (user.blockrun.ai).",
        )
    if gateway.paid_by is Payer.PROXY:
        return PaymentRejected(
            f"ClawRouter's payment was not accepted{words}",
            "Check its wallet with `%blockrun`, and fund that address.",
        )
    return PaymentRejected(
        f"The gateway did not accept the payment{words}",
        "See `%blockrun wallet balance`; fund the address from `%blockrun wallet address`.",
    )


def _error_text(body: Any) -> str:
    """Return the text of an error body, in either shape of the protocol's section 5."""
    if not isinstance(body, Mapping):
        return ""
    error = body.get("error")
    if isinstance(error, Mapping):
        parts = [error.get("message"), *_details(error.get("details")), *_details(body.get("details"))]
    else:
        details = _details(body.get("details"))
        parts = [error, body.get("message"), *details, body.get("invalidMessage"), body.get("reason")]
    texts = [sanitize(part, 300) for part in parts if isinstance(part, str) and part]
    return " — ".join(dict.fromkeys(texts))


def _details(details: Any) -> list[str]:
    """Return the texts of an error's `details`: one text, or `[{path: [...], message}]` for each field at fault."""
    if isinstance(details, str):
        return [details]
    texts = []
    for detail in details[:_MAX_DETAILS] if isinstance(details, list) else []:
        message = detail.get("message") if isinstance(detail, Mapping) else detail
        path = detail.get("path") if isinstance(detail, Mapping) else None
        steps = path if isinstance(path, list) else [path]
        names = [str(step) for step in steps if isinstance(step, str | int) and not isinstance(step, bool)]
        if isinstance(message, str) and message:
            texts.append(f"{'.'.join(names)}: {message}" if names else message)
    return texts
