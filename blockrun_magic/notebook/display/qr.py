"""A QR code that a wallet app understands: an image in a notebook, blocks of text in a terminal."""

from __future__ import annotations

import io
from typing import Any

from blockrun_magic.payments.money import to_decimal
from blockrun_magic.payments.x402.networks import Network, SolanaNetwork

__all__ = ["QrCode", "funding_uri"]

_PIXELS_PER_MODULE = 5


def funding_uri(network: Network | SolanaNetwork, address: str, micros: int | None) -> str:
    """Return the request (EIP-681, Solana Pay) to send USDC to `address`; without an amount, the app asks for it."""
    if isinstance(network, SolanaNetwork):
        amount = "" if micros is None else f"amount={to_decimal(micros)}&"
        return f"solana:{address}?{amount}spl-token={network.asset}"
    amount = "" if micros is None else f"&uint256={micros}"
    return f"ethereum:{network.asset}@{network.chain_id}/transfer?address={address}{amount}"


class QrCode:
    """The code of `content`, for display."""

    def __init__(self, content: str) -> None:
        import segno

        self._code = segno.make_qr(content, error="m")

    @property
    def png(self) -> bytes:
        """The code as a PNG, dark on white, with its margin."""
        file = io.BytesIO()
        self._code.save(file, kind="png", scale=_PIXELS_PER_MODULE)
        return file.getvalue()

    @property
    def text(self) -> str:
        """The code as half blocks; the light modules are drawn, for a dark terminal."""
        file = io.StringIO()
        self._code.terminal(file, compact=True)
        return file.getvalue().rstrip("\n")

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"image/png": self.png, "text/plain": self.text}
