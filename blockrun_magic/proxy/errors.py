"""Errors as OpenAI's API sends them: a status and `{"error": {message, type, param, code}}`.

The official clients retry 408, 409, 429 and 5xx automatically, unless the response says `x-should-retry: false`.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from blockrun_magic.errors import (
    BlockrunError,
    BudgetError,
    ContentPolicyViolation,
    InsufficientCredit,
    LedgerError,
    LessonError,
    MissingDependency,
    PaymentOutcomeUnknown,
    PaymentRejected,
    RateLimited,
    RequestError,
    RequestRejected,
    SourceError,
    StoreError,
    TermsRefused,
    WalletError,
)
from blockrun_magic.gateway.classroom.refusals import ClassLimitReached, ClassRefusal

__all__ = ["BadRequest", "error_response", "failure_response", "internal_error"]

_KINDS: tuple[tuple[type[BlockrunError], int, str, str, bool], ...] = (
    (RequestError, 400, "invalid_request_error", "invalid_request", False),
    (SourceError, 400, "invalid_request_error", "invalid_image", False),
    (ContentPolicyViolation, 400, "invalid_request_error", "content_policy_violation", False),
    (RequestRejected, 400, "invalid_request_error", "rejected_by_gateway", False),
    (BudgetError, 402, "insufficient_quota", "limit_reached", False),
    (InsufficientCredit, 402, "insufficient_quota", "insufficient_credit", False),
    (PaymentRejected, 402, "insufficient_quota", "payment_rejected", False),
    (TermsRefused, 402, "insufficient_quota", "payment_terms_refused", False),
    (RateLimited, 429, "rate_limit_error", "rate_limit_exceeded", True),
    (WalletError, 503, "server_error", "wallet_unavailable", False),
    (MissingDependency, 503, "server_error", "dependency_missing", False),
    (LessonError, 503, "server_error", "lesson", False),
    (StoreError, 503, "server_error", "store", False),
    (LedgerError, 503, "server_error", "ledger", False),
    (PaymentOutcomeUnknown, 502, "server_error", "payment_outcome_unknown", True),
)
"""Error class, status, type, code, and whether a client may repeat the request automatically."""

_ADVICE: tuple[tuple[type[BlockrunError], str], ...] = (
    (ClassLimitReached, "Ask the teacher for more, or choose a cheaper model or size."),
    (ClassRefusal, "Ask the teacher, or change the request; GET /v1/models lists the models."),
    (BudgetError, "Allow more with `max_price`, or raise the limits of the server."),
    (RequestRejected, "Change the request as the answer says; GET /v1/models lists the models."),
)
"""Hints for clients, where our own are about cells."""

_OTHER = (502, "server_error", "gateway_error", True)
_TYPES = {401: "authentication_error", 403: "permission_error"}


class BadRequest(Exception):
    """An invalid request: `message` says what to do, `param` names the field."""

    def __init__(self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None) -> None:
        self.message = message
        self.param = param
        self.status = status
        self.code = code
        super().__init__(message)

    def response(self) -> JSONResponse:
        """Return the response for this error."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return error_response(self.status, self.message, kind, self.code, self.param)


def error_response(
    status: int, message: str, kind: str, code: str | None = None, param: str | None = None, *, retry: bool = False
) -> JSONResponse:
    """Return an error in OpenAI's shape; `retry` says whether the client may repeat the request automatically."""
    error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, {"x-should-retry": "true" if retry else "false"})


def failure_response(error: BlockrunError) -> JSONResponse:
    """Return `error` in OpenAI's shape, with the hint and the fate of the money in the message."""
    advice = next((text for each, text in _ADVICE if isinstance(error, each)), error.hint)
    status, kind, code, retry = next((row[1:] for row in _KINDS if isinstance(error, row[0])), _OTHER)
    message = " ".join(str(part) for part in (error.message, error.money, advice) if part)
    return error_response(status, message, kind, code, retry=retry)


def internal_error() -> JSONResponse:
    """Return the response to an error that is not ours, without its text, which may contain anything."""
    message = "The local endpoint failed. Repeat the request: payments are in the ledger, and nothing is paid twice."
    return error_response(500, message, "server_error", "internal_error", retry=True)
