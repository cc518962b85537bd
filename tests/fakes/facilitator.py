"""An x402 facilitator over HTTP: the official verifier checks payments, and a nonce settles once, with play money."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme
from x402.schemas import PaymentPayload, PaymentRequirements

from blockrun_magic.payments.x402.networks import BASE
from fakes.http_server import Served

__all__ = ["PAYEE", "Facilitator"]

PAYEE = "0xe9030014F5DAe217d0A152f02A043567b16c1aBf"


class _Chain:
    """A chain for the verifier: the token is a contract, and every payer has enough money."""

    def get_addresses(self) -> list[str]:
        """Return the facilitator's own accounts."""
        return [PAYEE]

    def get_code(self, address: str) -> bytes:
        """Return code for the token only."""
        return b"\x60\x80" if address.lower() == BASE.asset.lower() else b""

    def read_contract(self, *_: Any) -> None:
        """Accept the transfer."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a verification does not need {name}")


class Facilitator(Served):
    """The paths `/supported`, `/verify` and `/settle`; `settled` holds the amount of every settled nonce."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address of the facilitator."""
        return f"http://127.0.0.1:{self.port}"

    def app(self) -> Starlette:
        """Return the application with the facilitator's paths."""
        return Starlette(
            routes=[
                Route("/supported", self._supported),
                Route("/verify", self._verify, methods=["POST"]),
                Route("/settle", self._settle, methods=["POST"]),
            ]
        )

    async def _supported(self, request: Request) -> JSONResponse:
        kinds = [{"x402Version": 2, "scheme": "exact", "network": BASE.id}]
        return JSONResponse({"kinds": kinds, "extensions": [], "signers": {}})

    async def _verify(self, request: Request) -> JSONResponse:
        payload, requirements = _read(await request.json())
        answer = ExactEvmScheme(_Chain()).verify(payload, requirements)  # type: ignore[arg-type]
        return JSONResponse(answer.model_dump(by_alias=True, exclude_none=True))

    async def _settle(self, request: Request) -> JSONResponse:
        payload, _ = _read(await request.json())
        authorization = payload.payload["authorization"]
        nonce, payer = authorization["nonce"], authorization["from"]
        with self._lock:
            fresh = nonce not in self.settled
            self.settled.setdefault(nonce, int(authorization["value"]))
        about: dict[str, Any] = {"success": fresh, "payer": payer, "network": BASE.id, "transaction": ""}
        if fresh:
            about["transaction"] = "0x" + hashlib.sha256(nonce.encode()).hexdigest()
        else:
            about["errorReason"] = "invalid_exact_evm_nonce_already_used"
        return JSONResponse(about)


def _read(body: Any) -> tuple[PaymentPayload, PaymentRequirements]:
    return (
        PaymentPayload.model_validate(body["paymentPayload"]),
        PaymentRequirements.model_validate(body["paymentRequirements"]),
    )
