"""What a gateway's answer means, without a network: pictures, a job, or an error of ours.

Shapes and statuses are those of the gateway protocol, sections 2, 4 and 5. Text from a server is
cut short and freed of control characters before anybody reads it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any
from urllib.parse import urljoin

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
from blockrun_magic.gateway.base64_images import lift_pictures
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.safejson import read_json
from blockrun_magic.text import sanitize

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

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_WAIT = 120.0
_MAX_URL = 2048
_REFUSING = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429})
"""Statuses of a gateway that did not take the request, or not the payment."""
_NEVER_SIGNED = "payment creation aborted"
_MAX_PRICE = 10_000_000_000
_JOB_FAILURES = frozenset({"failed", "error", "cancelled", "canceled", "expired"})


@dataclass(frozen=True)
class Response:
    """An HTTP answer, read whole; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the decoded JSON body, or None when it is not JSON, or nested absurdly deep.

        A picture in it stands there as the name that `picture` knows it by.
        """
        return self._read[0]

    def picture(self, name: str) -> bytes | None:
        """Return the bytes of a picture that came inside the body, or None when `name` names none."""
        return self._read[1].get(name)

    @cached_property
    def _read(self) -> tuple[Any, Mapping[str, bytes]]:
        rest, pictures = lift_pictures(self.body)
        try:
            return read_json(rest), pictures
        except ValueError:
            return None, {}

    @property
    def date(self) -> float | None:
        """The Unix time by the server's own clock, or None when it does not say."""
        try:
            return parsedate_to_datetime(self.headers["date"]).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait as the gateway asks, from the header or the body, at most two minutes."""
        body = self.json()
        asked = body.get("retry_after_seconds") if isinstance(body, Mapping) else None
        for value in (self.headers.get("retry-after"), asked):
            try:
                seconds = float(str(value))
            except (TypeError, ValueError):
                continue
            if 0 <= seconds < float("inf"):
                return min(seconds, _MAX_WAIT)
        return None


@dataclass(frozen=True, slots=True)
class ImagePayload:
    """One picture of an answer: its bytes when they came along, else the URL to fetch it from."""

    url: str | None = None
    data: bytes | None = field(default=None, repr=False)
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """An answer with pictures."""

    items: tuple[ImagePayload, ...]


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A slow job; `poll_url` is where to ask for it, None when the answer names no new place."""

    status: str
    poll_url: str | None


def read_answer(answer: Response) -> CompletedJob | PendingJob:
    """Return what a 200 or 202 brings; raises JobFailed, or AnswerUnusable for anything else."""
    body = answer.json()
    if not isinstance(body, Mapping):
        kind = answer.headers.get("content-type", "no type").split(";")[0]
        raise InvalidResponse(
            f"The gateway answered {answer.status} without JSON ({sanitize(kind, 40)}).",
            "This is the gateway's fault; try again later or use another gateway.",
        )
    status = sanitize(body.get("status", ""), 30).lower()
    if status in _JOB_FAILURES:
        raise JobFailed(
            f"The job ended without a picture: {_error_text(body) or status}.",
            "Try again, or another model or prompt.",
        )
    if isinstance(body.get("data"), list) and body["data"]:
        return CompletedJob(tuple(_read_item(answer, entry) for entry in body["data"]))
    poll_url = body.get("poll_url")
    if isinstance(poll_url, str) or answer.status == 202:
        return PendingJob(status or "queued", poll_url if isinstance(poll_url, str) else None)
    raise InvalidResponse(
        f"The gateway answered {answer.status} without a picture.",
        "This is the gateway's fault; try again later or use another model.",
    )


def _read_item(answer: Response, entry: Any) -> ImagePayload:
    if not isinstance(entry, Mapping):
        raise InvalidResponse("The gateway's list of pictures is not readable.", "Try again later.")
    revised = entry.get("revised_prompt")
    revised = sanitize(revised, 4000) if isinstance(revised, str) and revised else None
    encoded, url = entry.get("b64_json"), entry.get("url")
    if isinstance(encoded, str) and encoded:
        return ImagePayload(data=_decode(answer, encoded), revised_prompt=revised)
    if isinstance(url, str) and url[:5].lower() == "data:":
        header, _, content = url.partition(",")
        if header.lower().endswith(";base64"):
            return ImagePayload(data=_decode(answer, content), revised_prompt=revised)
    elif isinstance(url, str) and url:
        return ImagePayload(url=url, revised_prompt=revised)
    raise InvalidResponse(
        "The gateway's answer names no picture: neither a URL nor base64 bytes.",
        "This is the gateway's fault; try again later or use another model.",
    )


def _decode(answer: Response, encoded: str) -> bytes:
    lifted = answer.picture(encoded)
    if lifted is not None:
        return lifted
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidResponse(
            "The gateway's picture is not readable (bad base64).", "Try again later or use another model."
        ) from None


def poll_address(gateway: Gateway, poll_url: str | None) -> str:
    """Return the absolute URL of a job; raises AnswerUnusable for none, or one off the gateway's origin."""
    if poll_url is None:
        raise InvalidResponse("The gateway took the job and does not say where to collect it.", "")
    try:
        url = urljoin(f"{gateway.origin}/", poll_url)
    except ValueError:
        url = ""
    # What cannot be opened must not stand in the ledger as the place to ask.
    if not gateway.same_origin(url) or not url.isprintable() or len(url) > _MAX_URL:
        raise InvalidResponse(
            f"The gateway sent us elsewhere to collect the picture ({sanitize(poll_url, 80)}).",
            "The payment was not shown to that address. Report this to the gateway.",
        )
    return url


def is_transient(answer: Response) -> bool:
    """Return whether the same request may succeed a little later."""
    return answer.status in TRANSIENT


def is_replay(answer: Response) -> bool:
    """Return whether the gateway says that this authorization was cashed already."""
    body = answer.json()
    if not isinstance(body, Mapping):
        return False
    error = body.get("error")
    codes = (body.get("code"), error.get("code") if isinstance(error, Mapping) else error)
    return "PAYMENT_REPLAY" in codes


def job_failed(answer: Response) -> bool:
    """Return whether the answer is that of a job which ended without a picture."""
    body = answer.json()
    return isinstance(body, Mapping) and sanitize(body.get("status", ""), 30).lower() in _JOB_FAILURES


def proves_no_charge(answer: Response) -> bool:
    """Return whether an answer proves that nobody was charged for the request, where another pays for us.

    A 4xx refuses the request or the payment, unless that was used already; a job says "not_charged";
    ClawRouter says that it signed nothing. Any other failure may come after a payment (gateway protocol,
    sections 3, 5 and 7).
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
    """Return what an answer says that the whole request cost, in micro-USDC; None when it says nothing credible.

    Credible is a positive sum of US dollars of at most ten thousand.
    """
    price = body.get("price") if isinstance(body, Mapping) else None
    if not isinstance(price, Mapping) or str(price.get("currency", "USD")).upper() not in ("USD", "USDC"):
        return None
    amount = price.get("amount")
    if isinstance(amount, bool) or not isinstance(amount, str | int | float):
        return None
    try:
        micros = Decimal(str(amount).strip()[:40].removeprefix("$")).scaleb(6)
    except InvalidOperation:
        return None
    return int(micros.to_integral_value()) if micros.is_finite() and 1 <= micros <= _MAX_PRICE else None


def error_from_response(answer: Response, gateway: Gateway) -> GatewayError:
    """Return the error that an answer other than 200 and 202 means, in two lines.

    Whether money moved is not said here: the caller knows what was sent.
    """
    status = answer.status
    said = _error_text(answer.json())
    words = f": {said.rstrip('.')}." if said else "."
    if status == 402 or (status == 401 and gateway.paid_by is Payer.CREDIT):
        return _payment_refusal(status, words, gateway)
    if status == 403:
        return ContentPolicyViolation(
            f"The content policy refused this{words}",
            "Change the prompt or the picture, or use another --model.",
        )
    if status == 429:
        source = sanitize(answer.headers.get("x-ratelimit-source", ""), 40)
        limit = f" ({source})" if source else ""
        return RateLimited(f"Too many requests{limit}{words}", "Wait a minute and run the cell again.")
    if is_transient(answer) or status >= 500:
        return UpstreamFailed(f"{gateway.name} answered {status}{words}", "Run the cell again in a while.")
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
            f"The account does not take the API key{words}",
            "Check BLOCKRUN_API_KEY against the keys on BlockRun's dashboard (user.blockrun.ai).",
        )
    if gateway.paid_by is Payer.PROXY:
        return PaymentRejected(
            f"ClawRouter's payment was not taken{words}",
            "See what its wallet holds with `%blockrun`, and fund that address.",
        )
    return PaymentRejected(
        f"The gateway did not take the payment{words}",
        "See `%blockrun wallet balance`; fund the address from `%blockrun wallet address`.",
    )


def _error_text(body: Any) -> str:
    """Return the words of an error body, in either shape of the protocol's section 5."""
    if not isinstance(body, Mapping):
        return ""
    error = body.get("error")
    if isinstance(error, Mapping):
        parts = [error.get("message"), error.get("details")]
    else:
        parts = [
            error,
            body.get("message"),
            body.get("details"),
            body.get("invalidMessage"),
            body.get("reason"),
        ]
    texts = [sanitize(part, 300) for part in parts if isinstance(part, str) and part]
    return " — ".join(dict.fromkeys(texts))
