"""Payment requirements of the practice gateway, x402 v2 and v1, and the 402 response around them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockrun_magic.payments.money import format_usd
from blockrun_magic.safejson import read_json

if TYPE_CHECKING:
    from blockrun_magic.payments.x402.networks import EvmNetwork

__all__ = ["MERCHANT", "PaymentRequirements", "from_base64_json", "price_of", "to_base64_json"]

# No key exists for this address, which spells "PRACTICE MERCHANT :)" in ASCII.
MERCHANT = "0x5052414354494345204d45524348414E54203A29"
EXTENSIONS = {"practice": {"info": {"money": "play"}}}
_WINDOW_SECONDS = 300


def to_base64_json(value: dict[str, Any]) -> str:
    """Return `value` as an x402 header: compact JSON in padded base64."""
    return base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode("ascii")


def from_base64_json(header: str) -> Any:
    """Return the JSON value of an x402 header; raises ValueError unless it is padded base64 of JSON."""
    return read_json(base64.b64decode(header.encode("ascii"), validate=True))


def price_of(amount: int) -> dict[str, str]:
    """Return micro-USDC as the gateway writes a price: {"amount": "0.0525", "currency": "USDC"}."""
    return {"amount": format_usd(amount).removeprefix("$"), "currency": "USDC"}


@dataclass(frozen=True, slots=True)
class PaymentRequirements:
    """The price of one request in micro-USDC, and its payee."""

    network: EvmNetwork
    amount: int
    resource: str
    """The URL that is paid for."""
    version: int = 2
    window: int = _WINDOW_SECONDS
    """Seconds that a signature should stay valid."""

    @property
    def requirement(self) -> dict[str, Any]:
        """The only accepted requirement, in the format of this x402 version."""
        common = {
            "scheme": "exact",
            "asset": self.network.asset,
            "payTo": MERCHANT,
            "maxTimeoutSeconds": self.window,
            "extra": {"name": self.network.domain_name, "version": self.network.domain_version},
        }
        if self.version == 1:
            return common | {
                "network": self.network.v1_name,
                "maxAmountRequired": str(self.amount),
                "resource": self.resource,
                "description": "An image",
                "mimeType": "application/json",
            }
        return common | {"network": self.network.id, "amount": str(self.amount)}

    def challenge(self, problem: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, str]]:
        """Return body and headers of a 402; `problem` is the reason for a rejected payment."""
        body = problem or {"error": "Payment Required", "message": "This endpoint is paid for with x402."}
        if self.version == 1:
            return body | {"x402Version": 1, "accepts": [self.requirement]}, {}
        required = {
            "x402Version": 2,
            "error": "PAYMENT-SIGNATURE header is required",
            "resource": {"url": self.resource, "description": "An image", "mimeType": "application/json"},
            "accepts": [self.requirement],
            "extensions": EXTENSIONS,
        }
        return body | {"price": price_of(self.amount)}, {"PAYMENT-REQUIRED": to_base64_json(required)}
