"""Refusals: a status, a code, a message and a hint; they leave no record."""

from __future__ import annotations

import math
from typing import Any

from starlette.responses import JSONResponse

__all__ = ["Refusal", "revoked"]


class Refusal(Exception):
    """A request that is not carried out; `details` are further fields of the error, `retry_after` is in seconds."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        hint: str,
        *,
        retry_after: float | None = None,
        **details: Any,
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_after = retry_after
        self.details = details
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """Return the error as JSON values."""
        return {"code": self.code, "message": self.message, "hint": self.hint, **self.details}

    def response(self) -> JSONResponse:
        """Return the response for this refusal."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        return JSONResponse({"error": self.body()}, self.status, headers)


def revoked() -> Refusal:
    """Return the refusal of a person whose access was revoked."""
    return Refusal(401, "revoked", "Your access to this classroom was revoked.", "Ask your teacher.")
