"""Every error a user can meet, each in two lines: what happened, and what to do.

BlockrunError
├── FlagError              a line that cannot be understood
├── RequestError           a request that no gateway would answer: model, size, quality, n, mask
├── SourceError            an image that cannot be read, or is not one
├── ExtraMissing           a part that is installed by itself, and is not here
├── WalletError            a key that cannot be used
│   ├── WalletMissing      no key at all
│   └── WalletLocked       a key that a passphrase has to open first
├── BudgetError            a cap would be passed; nothing was signed
├── TermsRefused           the gateway's payment terms are not what we sign; nothing was signed
├── LedgerError            the ledger cannot be read or written; nothing was sent
├── StoreError             a kept picture is damaged, or missing where only kept ones are allowed
├── LessonError            a lesson that cannot be read or written, or has no such picture
├── OutcomeUnknown         a signature has left and no answer says whether money moved
└── GatewayError           the gateway answered with an error, or not at all
    ├── GatewayUnreachable     no connection, or it broke
    ├── RequestRejected        400, 404, 413, 422: the gateway does not take this request
    ├── ContentRefused         403: content policy
    ├── RateLimited            429, after the waits that are worth it
    ├── PaymentRejected        402 in answer to a payment
    ├── OutOfCredit            402 of a prepaid account
    ├── UpstreamFailed         408 and 5xx, after the retries that are worth it
    ├── JobFailed              a slow job ended without a picture
    └── AnswerUnusable         an answer that is not what the protocol promises
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "BlockrunError",
    "BudgetError",
    "ContentPolicyViolation",
    "FlagError",
    "GatewayError",
    "GatewayUnreachable",
    "InsufficientCredit",
    "InvalidResponse",
    "JobFailed",
    "LedgerError",
    "LessonError",
    "MissingDependency",
    "PaymentOutcomeUnknown",
    "PaymentRejected",
    "RateLimited",
    "RequestError",
    "RequestRejected",
    "SourceError",
    "StoreError",
    "TermsRefused",
    "UpstreamFailed",
    "WalletError",
    "WalletLocked",
    "WalletMissing",
]


class BlockrunError(Exception):
    """The root of all our errors: `message` says what happened, `hint` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message, hint)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}"

    def _render_traceback_(self) -> list[str]:
        """Return the two lines IPython prints in place of a traceback."""
        return [f"{type(self).__name__}: {self.message}", f"→ {self.hint}"]


class FlagError(BlockrunError):
    """A line or cell that cannot be understood."""


class RequestError(BlockrunError):
    """A request that no gateway would answer; raised before anything is sent."""


class SourceError(BlockrunError):
    """An image that cannot be read, or is not one."""


class MissingDependency(BlockrunError):
    """A library is not installed that only one part of this package needs."""


class WalletError(BlockrunError):
    """A key that cannot be used; the message names its source, never its value."""


class WalletMissing(WalletError):
    """No key was found in any of the places where one may be."""


class WalletLocked(WalletError):
    """The key is encrypted, and no passphrase that opens it is known."""


class BudgetError(BlockrunError):
    """A cap would be passed; nothing was signed."""


class TermsRefused(BlockrunError):
    """The gateway asked for a payment that we do not sign; nothing was signed."""


class LedgerError(BlockrunError):
    """The ledger cannot be read or written; nothing was sent."""


class LessonError(BlockrunError):
    """A lesson that cannot be read or written, or that has no picture where only its own are allowed."""


class StoreError(BlockrunError):
    """A kept picture is damaged, or missing where only kept ones are allowed."""


class PaymentOutcomeUnknown(BlockrunError):
    """A signature has left this machine, and no answer says whether money moved."""


class GatewayError(BlockrunError):
    """The gateway answered with an error, or not at all."""


class GatewayUnreachable(GatewayError):
    """No connection, or it broke; `sent` says whether any of the request may have left.

    `headers` are those of an answer that broke off inside its body: they may hold the settlement.
    """

    def __init__(self, message: str, hint: str, *, sent: bool = True, headers: Mapping[str, str] | None = None) -> None:
        self.sent = sent
        self.headers = headers or {}
        super().__init__(message, hint)


class RequestRejected(GatewayError):
    """The gateway does not take this request (400, 404, 413, 422)."""


class ContentPolicyViolation(GatewayError):
    """The model's content policy refused the prompt or the image (403)."""


class RateLimited(GatewayError):
    """The upstream limit was reached and did not clear in time (429)."""


class PaymentRejected(GatewayError):
    """The gateway did not take the payment (402 in answer to a signed request)."""


class InsufficientCredit(GatewayError):
    """The account's prepaid credit does not cover the request (402); nothing was charged."""


class UpstreamFailed(GatewayError):
    """The gateway or the model behind it failed (408, 5xx)."""


class JobFailed(GatewayError):
    """A slow job ended without a picture; the gateway charges nothing for one."""


class InvalidResponse(GatewayError):
    """The answer is not what the protocol promises: no picture, or not one to be trusted."""
