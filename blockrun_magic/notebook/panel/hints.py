"""Errors as the panel shows them: the second line names buttons instead of cells."""

from __future__ import annotations

from collections.abc import Mapping

from blockrun_magic.errors import (
    BlockrunError,
    BudgetError,
    ContentPolicyViolation,
    GatewayUnreachable,
    InsufficientCredit,
    JobFailed,
    PaymentOutcomeUnknown,
    PaymentRejected,
    RateLimited,
    RequestError,
    UpstreamFailed,
    WalletError,
    WalletLocked,
    WalletMissing,
)
from blockrun_magic.gateway.classroom.refusals import ClassLimitReached, ClassRefusal, PassRefused

__all__ = ["panel_hint", "panel_lines"]

_HINTS: Mapping[type[BlockrunError], str] = {
    WalletMissing: "Press Create a wallet on the Wallet tab, or switch to Practice above.",
    WalletLocked: "Run `%blockrun wallet unlock` in a cell: a passphrase is never typed into the panel.",
    WalletError: "Choose or import another wallet on the Wallet tab.",
    BudgetError: "Choose a smaller size or another model, or raise a limit on the Wallet tab.",
    RequestError: "Choose another model or size in the form.",
    GatewayUnreachable: "Check the connection, then press the button again.",
    RateLimited: "Wait a minute, then press the button again.",
    UpstreamFailed: "Press the button again in a minute, or choose another model.",
    JobFailed: "Press the button again, or choose another model.",
    ContentPolicyViolation: "Change the prompt, or choose another model.",
    PaymentRejected: "Check the balance on the Wallet tab, then press the button again.",
    InsufficientCredit: "Add credit to the account, or choose another gateway on the Wallet tab.",
    PaymentOutcomeUnknown: "Press Continue: it uses the same payment and never pays twice.",
}


_OWN = (ClassLimitReached, ClassRefusal, PassRefused)


def panel_hint(error: BlockrunError) -> str:
    """Return the panel's hint for `error`; errors of a class keep their own."""
    if isinstance(error, _OWN):
        return error.hint
    return next((_HINTS[kind] for kind in type(error).__mro__ if kind in _HINTS), error.hint)


def panel_lines(error: BlockrunError, hint: str = "") -> tuple[str, str]:
    """Return the two lines to show in the panel: what failed, then the fate of the money and `hint` or our own."""
    return error.message, " ".join(str(part) for part in (error.money, hint or panel_hint(error)) if part)
