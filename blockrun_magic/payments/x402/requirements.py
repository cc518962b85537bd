"""Payment requirements and payloads of x402, on any chain."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from blockrun_magic.errors import Money, TermsRefused
from blockrun_magic.payments.x402.networks import Network

__all__ = [
    "Authorization",
    "PaymentPayload",
    "PaymentRequired",
    "PaymentRequirements",
    "encode_payload",
    "terms_refused",
    "with_builder_code",
]


_BUILDER_CODE, _SERVICE_CODE = "builder-code", "blockrun"
_OFF = ("0", "off", "no", "false")


@dataclass(frozen=True, slots=True)
class PaymentRequired:
    """Contents of a 402, not validated yet."""

    version: int
    accepts: tuple[Mapping[str, Any], ...]
    resource: Any = None
    extensions: Any = None


@dataclass(frozen=True, slots=True)
class PaymentRequirements:
    """A payment we are ready to sign: one entry of a challenge, checked against our own table.

    `amount` is in micro-USDC; `window` is the validity of the signature in seconds, if we choose it;
    `accepted` is the gateway's own entry, to be echoed verbatim; `fee_payer` is who adds the second signature
    and pays for the transaction, on Solana.
    """

    version: int
    network: Network
    amount: int
    pay_to: str
    window: int
    accepted: Mapping[str, Any]
    resource: Any = None
    extensions: Any = None
    fee_payer: str | None = None

    @property
    def header_name(self) -> str:
        """The name of the header that carries a payment in this version of x402."""
        return "X-PAYMENT" if self.version == 1 else "PAYMENT-SIGNATURE"


@dataclass(frozen=True, slots=True)
class Authorization:
    """A signed transfer that the payee cashes, like a check; it moves its amount at most once.

    `value` is in micro-USDC, the times are Unix seconds. On an EVM chain it is an EIP-3009
    `TransferWithAuthorization`, with a `nonce` of 0x and 64 hex digits. On Solana it is a transaction, with a
    `nonce` of 32 hex digits in its memo: no block above the height `last_height` can contain it, which alone decides
    its end; `valid_before` is an estimate of that time.
    """

    payer: str
    pay_to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    last_height: int | None = None


@dataclass(frozen=True, slots=True)
class PaymentPayload:
    """An authorization and the header that carries it. The header is money: it is never shown."""

    authorization: Authorization
    header_name: str
    header_value: str = field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a payment's header is money: it is not copied into files")


def encode_payload(
    terms: PaymentRequirements, authorization: Authorization, payload: Mapping[str, Any]
) -> PaymentPayload:
    """Return `authorization` with the header that carries it as `payload`, in the gateway's version of x402."""
    content = _envelope(terms, payload)
    encoded = base64.b64encode(json.dumps(content, separators=(",", ":")).encode()).decode("ascii")
    return PaymentPayload(authorization, terms.header_name, encoded)


def _envelope(terms: PaymentRequirements, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    if terms.version == 1:
        network = terms.accepted["network"]
        return {"x402Version": 1, "scheme": "exact", "network": network, "payload": payload}
    content: dict[str, Any] = {"x402Version": 2, "accepted": terms.accepted, "payload": payload}
    if terms.resource is not None:
        content["resource"] = terms.resource
    if terms.extensions is not None:
        content["extensions"] = with_builder_code(terms.extensions)
    return content


def with_builder_code(extensions: Any, environ: Mapping[str, str] = os.environ) -> Any:
    """Return a gateway's extensions with BlockRun's service code, if it offers the extension `builder-code`.

    BlockRun's own clients send it as well: it marks a settlement as theirs on the chain and costs nothing.
    `BLOCKRUN_BUILDER_CODE=off` leaves it out. Source: gateway protocol, section 9.
    """
    offered = extensions.get(_BUILDER_CODE) if isinstance(extensions, Mapping) else None
    if not isinstance(offered, Mapping) or environ.get("BLOCKRUN_BUILDER_CODE", "").strip().lower() in _OFF:
        return extensions
    info = offered.get("info")
    info = info if isinstance(info, Mapping) else {}
    codes = info.get("s")
    codes = codes if isinstance(codes, list) else []
    if _SERVICE_CODE in codes:
        return extensions
    return {**extensions, _BUILDER_CODE: {**offered, "info": {**info, "s": [*codes, _SERVICE_CODE]}}}


def terms_refused(what: str) -> TermsRefused:
    """Return the error for terms that we do not sign, with a hint."""
    hint = "Check the gateway's address with `%blockrun`; if it is right, report this."
    return TermsRefused(what, hint, Money.nothing_signed())
