"""Proof that a job on Solana is ours: its id, signed by the wallet that ordered it, without a payment.

A payment there expires after a minute, and an image is paid when it is ordered. A poll is proved by the headers
`x-poll-wallet`, `x-poll-timestamp` and `x-poll-signature`, over `blockrun-poll:v1:image:<job id>:<Unix seconds>`; the
gateway takes a timestamp that is at most five minutes off (gateway protocol, section 9).
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from blockrun_magic.payments.secrets import SecretHeaders
from blockrun_magic.payments.wallets.solana import SolanaWallet

__all__ = ["poll_proof"]

_ROUTE = ("v1", "images", "generations")


def poll_proof(wallet: SolanaWallet, address: str, now: int) -> SecretHeaders:
    """Return the headers that prove a poll of the job at `address`, a URL or a path; none for another path.

    `now` is in Unix seconds. Edits use the same job addresses as generations.
    """
    *route, job = ["", *(segment for segment in urlsplit(address).path.split("/") if segment)]
    if tuple(route[-3:]) != _ROUTE:
        return SecretHeaders()
    from solders.signature import Signature

    signature = wallet.sign(f"blockrun-poll:v1:image:{unquote(job)}:{now}".encode())
    return SecretHeaders(
        {
            "x-poll-wallet": wallet.address,
            "x-poll-timestamp": str(now),
            "x-poll-signature": str(Signature.from_bytes(signature)),
        }
    )
