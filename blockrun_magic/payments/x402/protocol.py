"""The x402 protocol as pure functions: read a 402, check its terms, read the settlement.

A 402 only *chooses* from our own table of networks; the signing domain, the token and the scheme never come from a
server (gateway protocol, sections 3, 8 and 9). The payloads for each kind of chain are in `evm` and `solana`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from blockrun_magic.errors import TermsRefused
from blockrun_magic.payments.x402 import evm, solana
from blockrun_magic.payments.x402.evm import sign_payment
from blockrun_magic.payments.x402.networks import EVM, SVM, Network
from blockrun_magic.payments.x402.requirements import (
    Authorization,
    PaymentPayload,
    PaymentRequired,
    PaymentRequirements,
    terms_refused,
)
from blockrun_magic.safejson import read_json

__all__ = [
    "MAX_WINDOW",
    "Authorization",
    "PaymentPayload",
    "PaymentRequired",
    "PaymentRequirements",
    "Settlement",
    "read_challenge",
    "read_settlement",
    "select_requirements",
    "sign_payment",
]

DEFAULT_WINDOW = 300
MAX_WINDOW = 3600
"""The longest validity of a signature, in seconds."""
_MAX_HEADER = 64 * 1024
_MAX_ECHO = 11 * 1024
"""Bytes of JSON that a payment echoes: in base64 and with a signature, its header stays below 16 KB."""
# Eighteen digits are a trillion dollars, and fit the ledger's 64-bit column.
_AMOUNT = re.compile(r"[0-9]{1,18}")
_EVM_TRANSACTION = re.compile(r"0x(?!0{64})[0-9a-fA-F]{64}")
_CHECKS: Mapping[str, Callable[[Mapping[str, Any], Network, str], str | None]] = {
    EVM: evm.check_entry,
    SVM: solana.check_entry,
}
"""The check of token, payee and other signers by kind of chain, which returns the fee payer if there is one.
"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """Statement of a response about the money; only a `transaction` hash means that it moved."""

    transaction: str | None
    success: bool | None = None
    reason: str | None = None


def read_challenge(headers: Mapping[str, str], body: bytes) -> PaymentRequired:
    """Return the payment challenge of a 402: header first (v2), then the body (v2 or v1).

    `headers` has lower-case names. Raises TermsRefused when neither can be read.
    """
    encoded = headers.get("payment-required") or headers.get("x-payment-required")
    if not encoded and len(body) > _MAX_HEADER:
        raise terms_refused("The gateway's payment terms are unreasonably long.")
    value = _decode_header(encoded) if encoded else _decode_json(body)
    if not isinstance(value, Mapping):
        raise terms_refused("The gateway asks for a payment without readable terms.")
    accepts = value.get("accepts")
    if not isinstance(accepts, list) or not all(isinstance(entry, Mapping) for entry in accepts):
        raise terms_refused("The gateway asks for a payment without a list of accepted terms.")
    version = value.get("x402Version", 1)
    if version not in (1, 2) or isinstance(version, bool):
        raise terms_refused(f"The gateway speaks x402 version {version!r:.40}; this client speaks 1 and 2.")
    return PaymentRequired(version, tuple(accepts), value.get("resource"), value.get("extensions"))


def select_requirements(
    challenge: PaymentRequired, networks: Collection[Network], base_url: str, payer: str
) -> PaymentRequirements:
    """Return the cheapest entry of `challenge` that we can pay on one of `networks`, checked; of equals the first.

    `base_url` is the gateway's, `payer` our own address. Raises TermsRefused, with the reason of the closest entry, and
    MissingDependency if that is on Solana and its extra is not installed.
    """
    known = {name: network for network in networks for name in (network.id, network.v1_name)}
    payable: list[PaymentRequirements] = []
    refusals: list[TermsRefused] = []
    for entry in challenge.accepts:
        network = known.get(str(entry.get("network")))
        if network is None:
            continue
        try:
            payable.append(_pin_entry(challenge, entry, network, base_url, payer))
        except TermsRefused as refusal:
            refusals.append(refusal)
    if payable:
        return min(payable, key=lambda terms: terms.amount)
    if refusals:
        raise refusals[0]
    asked = ", ".join(sorted({f"{entry.get('network')!r:.60}" for entry in challenge.accepts})[:4]) or "nothing"
    ours = ", ".join(sorted(network.label for network in networks))
    raise terms_refused(f"The gateway wants to be paid on {asked}; it may only be paid on {ours}.")


def _pin_entry(
    challenge: PaymentRequired, entry: Mapping[str, Any], network: Network, base_url: str, payer: str
) -> PaymentRequirements:
    if entry.get("scheme") != "exact":
        raise terms_refused(f"The gateway asks for the payment scheme {entry.get('scheme')!r:.40}, not 'exact'.")
    amount = entry.get("amount" if challenge.version == 2 else "maxAmountRequired")
    if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount) or int(amount) == 0:
        raise terms_refused(f"The gateway does not name a valid amount ({amount!r:.40}).")
    _check_resource(challenge.resource if challenge.version == 2 else entry.get("resource"), base_url)
    entry = _completed(entry, network)
    _check_echo(entry, challenge)
    fee_payer = _CHECKS[network.namespace](entry, network, payer)
    return PaymentRequirements(
        version=challenge.version,
        network=network,
        amount=int(amount),
        pay_to=entry["payTo"],
        window=_checked_window(entry["maxTimeoutSeconds"]),
        accepted=entry,
        resource=challenge.resource,
        extensions=challenge.extensions,
        fee_payer=fee_payer,
    )


def _check_echo(entry: Mapping[str, Any], challenge: PaymentRequired) -> None:
    """Raise TermsRefused for terms whose echo would be invalid JSON or too long for a header."""
    try:
        echo = json.dumps([entry, challenge.resource, challenge.extensions], allow_nan=False)
    except ValueError:
        raise terms_refused("The gateway's payment terms hold a number that JSON does not have.") from None
    if len(echo) > _MAX_ECHO:
        raise terms_refused("The gateway's payment terms are too long to be sent back with a payment.")


def _completed(entry: Mapping[str, Any], network: Network) -> Mapping[str, Any]:
    """Return an entry completed with the fields that BlockRun's sample leaves out and its SDKs fill in.

    A server that compares the echo with its own terms has these fields, and refuses an echo without them.
    """
    missing: dict[str, Any] = {}
    if "maxTimeoutSeconds" not in entry:
        missing["maxTimeoutSeconds"] = DEFAULT_WINDOW
    extra, domain = entry.get("extra"), network.domain
    if domain and (extra is None or isinstance(extra, Mapping)):
        described = {name: domain[name] for name in ("name", "version")}
        if extra is None or not described.keys() <= extra.keys():
            missing["extra"] = {**described, **(extra or {})}
    return {**entry, **missing} if missing else entry


def _checked_window(seconds: Any) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds <= 0:
        raise terms_refused(f"The gateway does not name a valid time limit ({seconds!r:.40}).")
    return min(max(seconds, DEFAULT_WINDOW), MAX_WINDOW)


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
        raise terms_refused(f"The gateway asks for a payment for another host's resource ({url!r:.80}).")


def read_settlement(headers: Mapping[str, str], body: Any, network: str | None = None) -> Settlement:
    """Return the settlement in an answer, from its headers and its decoded JSON body.

    Understands `PAYMENT-RESPONSE`, `X-PAYMENT-RESPONSE`, `X-Payment-Receipt` and the body's
    `payment.tx_hash`, `transaction` and `txHash`; never raises. A transaction is recognized by its form on the network
    with the id `network`, by default an EVM chain.
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
    names = solana.names_transaction if (network or "").startswith("solana:") else _names_transaction
    transaction = next((text for text in candidates if isinstance(text, str) and names(text)), None)
    success = receipt.get("success")
    reason = receipt.get("errorReason")
    return Settlement(
        transaction=transaction,
        success=success if isinstance(success, bool) else None,
        reason=reason if isinstance(reason, str) else None,
    )


def _names_transaction(text: str) -> bool:
    return _EVM_TRANSACTION.fullmatch(text) is not None


def _decode_header(encoded: str) -> Any:
    if len(encoded) > _MAX_HEADER:
        raise terms_refused("The gateway's payment terms are unreasonably long.")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise terms_refused("The gateway's payment terms are not readable (bad base64).") from None
    return _decode_json(raw)


def _decode_json(raw: bytes) -> Any:
    try:
        return read_json(raw)
    except ValueError:
        raise terms_refused("The gateway's payment terms are not readable (bad JSON).") from None
