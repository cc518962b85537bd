"""Errors that a user can meet, each in two lines: what failed, then the fate of the money and a hint.

BlockrunError
├── UsageError                  a command, name or setting that cannot be used
│   └── FlagError               a flag, prompt or first line of a cell that cannot be used
├── RequestError                a request that no gateway would accept: model, size, quality, n, mask
├── SourceError                 an input image that cannot be read
├── MissingDependency           an optional library is not installed
├── WalletError                 a key that cannot be used
│   ├── WalletMissing           no key at all
│   └── WalletLocked            an encrypted key without its passphrase
├── BudgetError                 a payment above a limit
├── TermsRefused                payment requirements that we do not sign
├── ClockError                  this machine's clock is wrong, and a signature would be dated by it
├── LedgerError                 the ledger cannot be read or written
├── StoreError                  a stored image that is damaged, or missing while buying is forbidden
├── LessonError                 a lesson that cannot be read or written, or that has no such image
├── PaymentOutcomeUnknown       a payment was sent, and its outcome is unknown
└── GatewayError                the gateway answered with an error, or not at all
    ├── GatewayUnreachable      no connection, or a broken one
    ├── RequestRejected         400, 404, 413, 422: the gateway does not accept this request
    ├── ContentPolicyViolation  403: content policy
    ├── RateLimited             429, after the retries
    ├── PaymentRejected         402 in answer to a payment
    ├── InsufficientCredit      402 of a prepaid account
    ├── UpstreamFailed          408 and 5xx, after the retries
    ├── JobFailed               a slow job ended without an image
    └── InvalidResponse         an answer that does not follow the protocol

The fate of the money is `error.money`, a `Money` whose sentence is written here and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from blockrun_magic.text import format_usd

__all__ = [
    "BlockrunError",
    "BudgetError",
    "ClockError",
    "ContentPolicyViolation",
    "Fate",
    "FlagError",
    "GatewayError",
    "GatewayUnreachable",
    "InsufficientCredit",
    "InvalidResponse",
    "JobFailed",
    "LedgerError",
    "LessonError",
    "MissingDependency",
    "Money",
    "PaymentOutcomeUnknown",
    "PaymentRejected",
    "RateLimited",
    "RequestError",
    "RequestRejected",
    "SourceError",
    "StoreError",
    "TermsRefused",
    "UpstreamFailed",
    "UsageError",
    "WalletError",
    "WalletLocked",
    "WalletMissing",
]


class Fate(StrEnum):
    """Fate of the money of a request that failed."""

    NOTHING_SIGNED = "nothing signed"
    NOTHING_SENT = "nothing sent"
    NOT_CHARGED = "not charged"
    RESERVED = "reserved"
    PAID = "paid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Money:
    """The fate of the money of a request that failed; `str()` is its sentence.

    `amount` is in micro-USDC, `estimated` if it is a list price. `until` is the Unix time until which a reserved sum
    can still be charged. Make one with the constructor that has the name of the fate.
    """

    fate: Fate
    amount: int = 0
    until: float | None = None
    transaction: str | None = None
    estimated: bool = False

    @classmethod
    def nothing_signed(cls) -> Self:
        """Return the fate of a request that failed before a payment was signed."""
        return cls(Fate.NOTHING_SIGNED)

    @classmethod
    def nothing_sent(cls) -> Self:
        """Return the fate of a request that never left this machine."""
        return cls(Fate.NOTHING_SENT)

    @classmethod
    def not_charged(cls) -> Self:
        """Return the fate of a payment that moved no money and cannot do so later, as a witness confirms."""
        return cls(Fate.NOT_CHARGED)

    @classmethod
    def reserved(cls, amount: int, until: float) -> Self:
        """Return the fate of a sent payment that has not been charged, but can be until the Unix time `until`."""
        return cls(Fate.RESERVED, amount, until)

    @classmethod
    def paid(cls, amount: int, transaction: str | None = None, *, estimated: bool = False) -> Self:
        """Return the fate of a payment that moved `amount` micro-USDC."""
        return cls(Fate.PAID, amount, None, transaction, estimated)

    @classmethod
    def unknown(cls, amount: int, *, estimated: bool = False) -> Self:
        """Return the fate of a sent payment whose outcome is unknown."""
        return cls(Fate.UNKNOWN, amount, None, None, estimated)

    def __str__(self) -> str:
        amount = f"{'About ' if self.estimated else ''}{format_usd(self.amount)}"
        match self.fate:
            case Fate.NOTHING_SIGNED:
                return "Nothing was signed."
            case Fate.NOTHING_SENT:
                return "Nothing was sent and nothing was charged."
            case Fate.NOT_CHARGED:
                return "Nothing was charged."
            case Fate.RESERVED:
                return f"{amount} has not been charged so far, but can be until {_moment(self.until)}."
            case Fate.PAID:
                receipt = f" (transaction {self.transaction})" if self.transaction else ""
                return f"{amount} was paid{receipt}; running the cell again pays nothing more."
        return f"{amount} may have been charged; running the cell again signs no second payment."


def _moment(until: float | None) -> str:
    if until is None:
        return "it expires"
    local = time.localtime(until)
    return time.strftime("%H:%M" if abs(until - time.time()) < 43_200 else "%Y-%m-%d %H:%M", local)


class BlockrunError(Exception):
    """The root of our errors: `message` says what failed, `hint` what to do, `money` the fate of the money.

    `money` is None if no money was involved. `data_file` is the path of the data that failed, if it was stored.
    """

    def __init__(self, message: str, hint: str, money: Money | None = None) -> None:
        self.message = message
        self.hint = hint
        self.money = money
        self.data_file: object = None
        super().__init__(message, hint)

    @property
    def lines(self) -> tuple[str, str]:
        """The two lines to show: what failed, then the fate of the money and the hint."""
        stored = self.data_file and f"The data is in {self.data_file}."
        return self.message, " ".join(str(part) for part in (self.money, self.hint, stored) if part)

    def with_money(self, money: Money) -> Self:
        """Set the fate of the money, and return the error."""
        self.money = money
        return self

    def __str__(self) -> str:
        return "\n".join(line for line in self.lines if line)

    def _render_traceback_(self) -> list[str]:
        """Return the two lines that IPython prints in place of a traceback."""
        message, advice = self.lines
        return [message, f"→ {advice}"] if advice else [message]


class UsageError(BlockrunError):
    """A command, a name or a setting that cannot be used."""


class FlagError(UsageError):
    """A flag, a prompt or the first line of a cell that cannot be used."""


class RequestError(BlockrunError):
    """A request that no gateway would accept; raised before anything is sent."""


class SourceError(BlockrunError):
    """An input image that cannot be read."""


class MissingDependency(BlockrunError):
    """An optional library that is not installed."""


class WalletError(BlockrunError):
    """A key that cannot be used; the message names its source, never its value."""


class WalletMissing(WalletError):
    """There is no key to pay with."""


class WalletLocked(WalletError):
    """The key is encrypted, and its passphrase is not known."""


class BudgetError(BlockrunError):
    """A payment would exceed a limit."""


class TermsRefused(BlockrunError):
    """The gateway asked for a payment that we do not sign."""


class ClockError(BlockrunError):
    """This machine's clock is wrong, and a signature would be dated by it."""


class LedgerError(BlockrunError):
    """The ledger cannot be read or written."""


class LessonError(BlockrunError):
    """A lesson that cannot be read or written, or that lacks an image where only its own are allowed."""


class StoreError(BlockrunError):
    """A stored image is damaged, or missing while buying is forbidden."""


class PaymentOutcomeUnknown(BlockrunError):
    """A payment was sent, and its outcome is unknown."""


class GatewayError(BlockrunError):
    """The gateway answered with an error, or not at all."""


class GatewayUnreachable(GatewayError):
    """No connection, or a broken one; `sent` says whether any of the request may have left.

    `headers` are those of an answer that broke off inside its body: they may hold the settlement.
    """

    def __init__(
        self,
        message: str,
        hint: str,
        money: Money | None = None,
        *,
        sent: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.sent = sent
        self.headers = headers or {}
        super().__init__(message, hint, money)


class RequestRejected(GatewayError):
    """The gateway does not accept this request (400, 404, 413, 422)."""


class ContentPolicyViolation(GatewayError):
    """The model's content policy refused the prompt or the image (403)."""


class RateLimited(GatewayError):
    """The upstream limit was reached and did not clear in time (429)."""


class PaymentRejected(GatewayError):
    """The gateway did not accept the payment (402 in answer to a payment)."""


class InsufficientCredit(GatewayError):
    """The account's prepaid credit does not cover the request (402)."""


class UpstreamFailed(GatewayError):
    """The gateway or the model behind it failed (408, 5xx)."""


class JobFailed(GatewayError):
    """A slow job ended without an image."""


class InvalidResponse(GatewayError):
    """The answer does not follow the protocol: no image, or not a usable one."""
