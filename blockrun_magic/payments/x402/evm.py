"""The `exact` payment on EVM chains: an EIP-3009 `TransferWithAuthorization`, signed as EIP-712 typed data."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from blockrun_magic.payments.signing_library import checksum_address
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.x402.networks import Network
from blockrun_magic.payments.x402.requirements import (
    Authorization,
    PaymentPayload,
    PaymentRequirements,
    encode_payload,
    terms_refused,
)

__all__ = ["check_entry", "sign_payment"]

CLOCK_ALLOWANCE = 600
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_TRANSFER_TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


def check_entry(entry: Mapping[str, Any], network: Network, payer: str) -> None:
    """Raise TermsRefused unless token, domain and payee of a requirement are ones that we sign."""
    if str(entry.get("asset")).lower() != network.asset.lower():
        raise terms_refused(f"The gateway asks for a token that is not USDC on {network.label}.")
    _check_domain(entry.get("extra"), network)
    _check_payee(entry.get("payTo"), network, payer)


def _check_domain(extra: Any, network: Network) -> None:
    if not isinstance(extra, Mapping):
        return
    method = extra.get("assetTransferMethod", "eip3009")
    if method != "eip3009":
        raise terms_refused(f"The gateway asks for a transfer by {method!r:.40}, which is not supported here.")
    domain = network.domain
    ours = (domain["name"], domain["version"])
    named = (extra.get("name", ours[0]), extra.get("version", ours[1]))
    if named != ours:
        raise terms_refused(f"The gateway describes USDC on {network.label} as {named!r:.80}, which it is not.")


def _check_payee(pay_to: Any, network: Network, payer: str) -> None:
    if not isinstance(pay_to, str) or not _ADDRESS.fullmatch(pay_to):
        raise terms_refused(f"The gateway does not name a valid payee ({pay_to!r:.60}).")
    if int(pay_to, 16) == 0:
        raise terms_refused("The gateway asks for a payment to the zero address.")
    if pay_to.lower() == network.asset.lower():
        raise terms_refused("The gateway asks for a payment to the token contract itself.")
    if pay_to.lower() == payer.lower():
        raise terms_refused("The gateway asks for a payment to your own wallet.")
    digits = pay_to[2:]
    if digits not in (digits.lower(), digits.upper()) and pay_to != _checksummed(pay_to):
        raise terms_refused(f"The payee {pay_to} fails its checksum: an address was mistyped.")


def sign_payment(terms: PaymentRequirements, wallet: Wallet, now: int, nonce: bytes | None = None) -> PaymentPayload:
    """Return `terms` signed by `wallet`: the header to send, and the authorization inside it.

    `now` is in Unix seconds; the nonce is 32 random bytes unless given. The window opens ten
    minutes in the past, because the chain's clock may be behind ours.
    """
    authorization = Authorization(
        payer=wallet.address,
        pay_to=_checksummed(terms.pay_to),
        value=terms.amount,
        valid_after=now - CLOCK_ALLOWANCE,
        valid_before=now + terms.window,
        nonce="0x" + (nonce or secrets.token_bytes(32)).hex(),
    )
    message = {
        "from": authorization.payer,
        "to": authorization.pay_to,
        "value": authorization.value,
        "validAfter": authorization.valid_after,
        "validBefore": authorization.valid_before,
        "nonce": authorization.nonce,
    }
    signature = wallet.sign_typed_data(terms.network.domain, _TRANSFER_TYPES, message)
    texts = {name: value if isinstance(value, str) else str(value) for name, value in message.items()}
    return encode_payload(terms, authorization, {"signature": signature, "authorization": texts})


@lru_cache(64)
def _checksummed(address: str) -> str:
    return checksum_address(address)
