"""x402 without a network: read a 402, pin its terms, sign them, read the settlement.

A 402 only *chooses* from our own table of networks; the signing domain, the token and the
scheme never come from a server (gateway protocol, sections 3 and 8). Everything here is a
pure function of its arguments, so that a test drives it without a socket.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlsplit

from blockrun_magic.errors import TermsRefused
from blockrun_magic.payments.networks import Network, network_named
from blockrun_magic.payments.plainjson import read_json
from blockrun_magic.payments.wallet import Wallet

__all__ = [
    "Authorization",
    "Challenge",
    "Settlement",
    "SignedPayment",
    "Terms",
    "pin_terms",
    "read_challenge",
    "read_settlement",
    "sign_payment",
]

DEFAULT_WINDOW = 300
LONGEST_WINDOW = 3600
CLOCK_ALLOWANCE = 600
_LONGEST_HEADER = 64 * 1024
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
# Eighteen digits are a trillion dollars, and fit the ledger's 64-bit column.
_AMOUNT = re.compile(r"[0-9]{1,18}")
_TRANSACTION = re.compile(r"0x[0-9a-fA-F]{64}")
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


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a 402 says, before any of it is believed."""

    version: int
    accepts: tuple[Mapping[str, Any], ...]
    resource: Any = None
    extensions: Any = None


@dataclass(frozen=True, slots=True)
class Terms:
    """A payment we are ready to sign: one entry of a challenge, checked against our own table.

    `amount` is in micro-USDC; `window` is how long the signature may live, in seconds;
    `accepted` is the gateway's own entry, to be echoed verbatim.
    """

    version: int
    network: Network
    amount: int
    pay_to: str
    window: int
    accepted: Mapping[str, Any]
    resource: Any = None
    extensions: Any = None


@dataclass(frozen=True, slots=True)
class Authorization:
    """An EIP-3009 `TransferWithAuthorization`: a cheque that can be cashed at most once.

    `value` is in micro-USDC, the times are Unix seconds, `nonce` is 0x and 64 hex digits.
    """

    payer: str
    pay_to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str


@dataclass(frozen=True, slots=True)
class SignedPayment:
    """An authorization and the header that carries it. The header is money: it is never shown."""

    authorization: Authorization
    header_name: str
    header_value: str = field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a payment's header is money: it is not copied into files")


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an answer says about the money; only a `transaction` hash means that it moved."""

    transaction: str | None
    success: bool | None = None
    reason: str | None = None


def read_challenge(headers: Mapping[str, str], body: bytes) -> Challenge:
    """Return the payment challenge of a 402: header first (v2), then the body (v2 or v1).

    `headers` has lower-case names. Raises TermsRefused when neither can be read.
    """
    encoded = headers.get("payment-required") or headers.get("x-payment-required")
    value = _decode_header(encoded) if encoded else _decode_json(body)
    if not isinstance(value, Mapping):
        raise _refused("The gateway asks for a payment without readable terms.")
    accepts = value.get("accepts")
    if not isinstance(accepts, list) or not all(isinstance(entry, Mapping) for entry in accepts):
        raise _refused("The gateway asks for a payment without a list of accepted terms.")
    version = value.get("x402Version", 1)
    if version not in (1, 2) or isinstance(version, bool):
        raise _refused(f"The gateway speaks x402 version {version!r:.40}; this client speaks 1 and 2.")
    return Challenge(version, tuple(accepts), value.get("resource"), value.get("extensions"))


def pin_terms(challenge: Challenge, networks: Collection[Network], base_url: str, payer: str) -> Terms:
    """Return the first entry of `challenge` that we can pay on one of `networks`, checked.

    `base_url` is the gateway's, `payer` our own address. Raises TermsRefused, with the reason of
    the entry that came nearest.
    """
    refusals: list[TermsRefused] = []
    for entry in challenge.accepts:
        network = network_named(str(entry.get("network")))
        if network is None or network not in networks:
            continue
        try:
            return _pin_entry(challenge, entry, network, base_url, payer)
        except TermsRefused as refusal:
            refusals.append(refusal)
    if refusals:
        raise refusals[0]
    asked = ", ".join(sorted({f"{entry.get('network')!r:.60}" for entry in challenge.accepts})[:4]) or "nothing"
    ours = ", ".join(sorted(network.label for network in networks))
    raise _refused(f"The gateway wants to be paid on {asked}; it may only be paid on {ours}.")


def _pin_entry(challenge: Challenge, entry: Mapping[str, Any], network: Network, base_url: str, payer: str) -> Terms:
    if entry.get("scheme") != "exact":
        raise _refused(f"The gateway asks for the payment scheme {entry.get('scheme')!r:.40}, not 'exact'.")
    if str(entry.get("asset")).lower() != network.asset.lower():
        raise _refused(f"The gateway asks for a token that is not USDC on {network.label}.")
    amount = entry.get("amount" if challenge.version == 2 else "maxAmountRequired")
    if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount) or int(amount) == 0:
        raise _refused(f"The gateway names no readable amount ({amount!r:.40}).")
    resource = challenge.resource if challenge.version == 2 else entry.get("resource")
    _check_resource(resource, base_url)
    _check_domain(entry.get("extra"), network)
    return Terms(
        version=challenge.version,
        network=network,
        amount=int(amount),
        pay_to=_checked_payee(entry.get("payTo"), network, payer),
        window=_checked_window(entry.get("maxTimeoutSeconds", DEFAULT_WINDOW)),
        accepted=entry,
        resource=challenge.resource,
        extensions=challenge.extensions,
    )


def _checked_payee(pay_to: Any, network: Network, payer: str) -> str:
    if not isinstance(pay_to, str) or not _ADDRESS.fullmatch(pay_to):
        raise _refused(f"The gateway names no readable payee ({pay_to!r:.60}).")
    if int(pay_to, 16) == 0:
        raise _refused("The gateway asks for a payment to the zero address.")
    if pay_to.lower() == network.asset.lower():
        raise _refused("The gateway asks for a payment to the token contract itself.")
    if pay_to.lower() == payer.lower():
        raise _refused("The gateway asks for a payment to your own wallet.")
    digits = pay_to[2:]
    if digits not in (digits.lower(), digits.upper()) and pay_to != _checksummed(pay_to):
        raise _refused(f"The payee {pay_to} fails its checksum: an address was mistyped.")
    return pay_to


def _checked_window(seconds: Any) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds <= 0:
        raise _refused(f"The gateway names no readable time limit ({seconds!r:.40}).")
    return min(max(seconds, DEFAULT_WINDOW), LONGEST_WINDOW)


def _check_resource(resource: Any, base_url: str) -> None:
    url = resource.get("url") if isinstance(resource, Mapping) else resource
    if url is None:
        return
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    # A bare path has no host and stays on the gateway by nature.
    ours = (None, urlsplit(base_url).hostname)
    if parts is None or parts.hostname not in ours or parts.username is not None:
        raise _refused(f"The gateway asks for a payment for another host's resource ({url!r:.80}).")


def _check_domain(extra: Any, network: Network) -> None:
    if not isinstance(extra, Mapping):
        return
    named = (extra.get("name", network.domain_name), extra.get("version", network.domain_version))
    if named != (network.domain_name, network.domain_version):
        raise _refused(f"The gateway describes USDC on {network.label} as {named!r:.80}, which it is not.")


def sign_payment(terms: Terms, wallet: Wallet, now: int, nonce: bytes | None = None) -> SignedPayment:
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
    payload = {"signature": signature, "authorization": texts}
    name, content = _envelope(terms, payload)
    encoded = base64.b64encode(json.dumps(content, separators=(",", ":")).encode()).decode("ascii")
    return SignedPayment(authorization, name, encoded)


def _envelope(terms: Terms, payload: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the header name and JSON content that carry `payload` in the gateway's version."""
    if terms.version == 1:
        network = terms.accepted["network"]
        return "X-PAYMENT", {"x402Version": 1, "scheme": "exact", "network": network, "payload": payload}
    content: dict[str, Any] = {"x402Version": 2, "accepted": terms.accepted, "payload": payload}
    if terms.resource is not None:
        content["resource"] = terms.resource
    if terms.extensions is not None:
        content["extensions"] = terms.extensions
    return "PAYMENT-SIGNATURE", content


def read_settlement(headers: Mapping[str, str], body: Any) -> Settlement:
    """Return what an answer says about the money, from its headers and its decoded JSON body.

    Understands `PAYMENT-RESPONSE`, `X-PAYMENT-RESPONSE`, `X-Payment-Receipt` and the body's
    `payment.tx_hash`, `transaction` and `txHash`; never raises.
    """
    receipt: Any = None
    encoded = headers.get("payment-response") or headers.get("x-payment-response")
    if encoded:
        try:
            receipt = _decode_header(encoded)
        except TermsRefused:
            receipt = None
    if not isinstance(receipt, Mapping):
        receipt = {}
    body = body if isinstance(body, Mapping) else {}
    payment = body.get("payment")
    payment = payment if isinstance(payment, Mapping) else {}
    candidates = (
        receipt.get("transaction"),
        headers.get("x-payment-receipt"),
        payment.get("tx_hash"),
        body.get("tx_hash"),
        body.get("transaction"),
        body.get("txHash"),
    )
    transaction = next((text for text in candidates if _is_transaction(text)), None)
    success = receipt.get("success")
    reason = receipt.get("errorReason")
    return Settlement(
        transaction=transaction,
        success=success if isinstance(success, bool) else None,
        reason=reason if isinstance(reason, str) else None,
    )


def _is_transaction(text: Any) -> bool:
    return isinstance(text, str) and bool(_TRANSACTION.fullmatch(text)) and int(text, 16) != 0


def _checksummed(address: str) -> str:
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(address))


def _decode_header(encoded: str) -> Any:
    if len(encoded) > _LONGEST_HEADER:
        raise _refused("The gateway's payment terms are unreasonably long.")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("The gateway's payment terms are not readable (bad base64).") from None
    return _decode_json(raw)


def _decode_json(raw: bytes) -> Any:
    try:
        return read_json(raw)
    except ValueError:
        raise _refused("The gateway's payment terms are not readable (bad JSON).") from None


def _refused(what: str) -> TermsRefused:
    return TermsRefused(
        what, "Nothing was signed. Check the gateway's address with `%blockrun`; if it is right, report this."
    )
