"""A payer that shares no code with ours: it has its own x402 signatures, for tests of the practice gateway."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from eth_account import Account

from harness import PATIENCE
from harness.wallets import TYPES

__all__ = ["PLAIN", "Payer", "ledger", "unpack"]

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A context without certificates: the gateway speaks plain HTTP, and loading them takes longer than a purchase."""


def unpack(header: str) -> Any:
    """Return the JSON in a base64 header."""
    return json.loads(base64.b64decode(header, validate=True))


def pack(content: Any) -> str:
    """Return JSON as a base64 header."""
    return base64.b64encode(json.dumps(content).encode()).decode()


def ledger(url: str) -> Any:
    """Return the practice gateway's record of the money that moved."""
    return httpx.get(f"{url}/practice/ledger", timeout=PATIENCE, verify=PLAIN).json()


@dataclass
class Payer:
    """A throwaway wallet at one gateway; `name` decides its key."""

    url: str
    name: str = "payer"
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=PATIENCE, verify=PLAIN))

    def __post_init__(self) -> None:
        self.account = Account.from_key(hashlib.sha256(f"throwaway {self.name}".encode()).digest())

    def ask(self, body: dict[str, Any], path: str = "/v1/images/generations") -> dict[str, Any]:
        """Return the challenge to an unpaid request."""
        answer = self.http.post(self.url + path, json=body)

        assert 402 == answer.status_code, answer.text
        header = answer.headers.get("PAYMENT-REQUIRED")
        challenge: dict[str, Any] = unpack(header) if header else answer.json()
        return challenge

    def sign(self, challenge: dict[str, Any], nonce: bytes, **changes: Any) -> dict[str, str]:
        """Return the payment header for a challenge; `changes` alter fields before they are signed.

        `domain` replaces parts of the signing domain, `accepted` parts of the echo.
        """
        terms = challenge["accepts"][0]
        version = challenge["x402Version"]
        now = int(time.time())
        message = {
            "from": self.account.address,
            "to": terms["payTo"],
            "value": int(terms["amount" if version == 2 else "maxAmountRequired"]),
            "validAfter": now - 600,
            "validBefore": now + terms["maxTimeoutSeconds"],
            "nonce": "0x" + nonce.hex(),
        }
        domain = {
            "name": terms["extra"]["name"],
            "version": terms["extra"]["version"],
            "chainId": 402402402402,
            "verifyingContract": terms["asset"],
            **changes.pop("domain", {}),
        }
        echoed = {**terms, **changes.pop("accepted", {})}
        message |= changes
        signed = Account.sign_typed_data(self.account.key, domain, TYPES, message)
        texts = {name: str(value) for name, value in message.items()}
        payload = {"signature": "0x" + signed.signature.hex().removeprefix("0x"), "authorization": texts}
        if version == 1:
            envelope = {"x402Version": 1, "scheme": "exact", "network": terms["network"], "payload": payload}
            return {"X-PAYMENT": pack(envelope)}
        envelope = {"x402Version": 2, "accepted": echoed, "payload": payload, "resource": challenge["resource"]}
        return {"PAYMENT-SIGNATURE": pack(envelope)}

    def pay(self, body: dict[str, Any], header: dict[str, str], path: str = "/v1/images/generations") -> httpx.Response:
        """Return the answer to a paid request."""
        return self.http.post(self.url + path, json=body, headers=header)

    def poll(self, address: str, header: dict[str, str]) -> httpx.Response:
        """Return the answer to a poll."""
        return self.http.get(self.url.removesuffix("/api") + address, headers=header)
