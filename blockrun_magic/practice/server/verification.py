"""Verification of payment headers: the signer, the amount and the times, under our own network's domain."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockrun_magic.payments.signing_library import load_account, load_encode_typed_data, load_module
from blockrun_magic.practice.server.challenge import EXTENSIONS, from_base64_json

if TYPE_CHECKING:
    from blockrun_magic.payments.x402.networks import EvmNetwork
    from blockrun_magic.practice.server.challenge import PaymentRequirements

__all__ = ["InvalidPayment", "PaymentPayload", "read_payload"]

_TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,77}")
_NONCE = re.compile(r"0x[0-9a-fA-F]{64}")
_SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}")
_SECONDS_TO_SETTLE = 6
_VERBATIM = ("scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds")


class InvalidPayment(Exception):
    """A payment that is refused; `problem` is the body of the 402."""

    def __init__(self, details: str, reason: str, code: str = "PAYMENT_INVALID") -> None:
        self.problem: dict[str, Any] = {
            "error": "Payment verification failed",
            "details": details,
            "code": code,
            "reason": reason,
            "invalidMessage": details,
        }
        super().__init__(details)


def _undecodable(details: str) -> InvalidPayment:
    return InvalidPayment(f"The payment header cannot be decoded: {details}.", "invalid_payload")


@dataclass(frozen=True, slots=True)
class PaymentPayload:
    """An authorization signed by `payer`; `accepted` is the requirement that it pays."""

    payer: str
    payee: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    accepted: dict[str, Any]

    def check_terms(self, terms: PaymentRequirements) -> None:
        """Raise InvalidPayment unless this pays exactly what `terms` require."""
        requirement = terms.requirement
        if terms.version == 1:
            names: tuple[str, ...] = ("scheme", "network")
        else:
            names = _VERBATIM
            extra = self.accepted.get("extra")
            if not isinstance(extra, dict) or not requirement["extra"].items() <= extra.items():
                raise InvalidPayment("accepted.extra differs from the offer.", "invalid_payment_requirements")
        for name in names:
            given = self.accepted.get(name)
            if given != requirement[name] or type(given) is not type(requirement[name]):
                raise InvalidPayment(f"accepted.{name} differs from the offer.", "invalid_payment_requirements")
        if self.payee != requirement["payTo"]:
            raise InvalidPayment("It pays another address.", "invalid_exact_evm_payload_recipient_mismatch")
        if self.value != terms.amount:
            details = f"It is over {self.value} micro-USDC; the price is {terms.amount}."
            raise InvalidPayment(details, "invalid_exact_evm_payload_authorization_value_mismatch")

    def check_window(self, now: float) -> None:
        """Raise InvalidPayment unless this can be settled `now`."""
        if self.valid_after >= now:
            reason = "invalid_exact_evm_payload_authorization_valid_after"
            raise InvalidPayment("The authorization is not valid yet.", reason)
        if self.valid_before <= now + _SECONDS_TO_SETTLE:
            reason = "invalid_exact_evm_payload_authorization_valid_before"
            raise InvalidPayment("The authorization has expired.", reason, "PAYMENT_EXPIRED")


def read_payload(header: str, version: int, network: EvmNetwork) -> PaymentPayload:
    """Return the payload of a v1 or v2 payment header after verifying its signature; raises InvalidPayment."""
    try:
        envelope = from_base64_json(header)
    except ValueError:
        raise _undecodable("it is not base64 of JSON") from None
    if not isinstance(envelope, dict) or envelope.get("x402Version") != version:
        raise _undecodable(f"x402Version must be {version}")
    accepted = envelope if version == 1 else envelope.get("accepted")
    payload = envelope.get("payload")
    if not isinstance(accepted, dict) or not isinstance(payload, dict):
        raise _undecodable("accepted or payload is missing")
    _check_extensions(envelope.get("extensions"))
    authorization, signature = payload.get("authorization"), payload.get("signature")
    if not isinstance(authorization, dict):
        raise _undecodable("payload.authorization is missing")
    _check_fields(authorization, signature)
    payload = PaymentPayload(
        payer=authorization["from"],
        payee=authorization["to"],
        value=int(authorization["value"]),
        valid_after=int(authorization["validAfter"]),
        valid_before=int(authorization["validBefore"]),
        nonce=authorization["nonce"].lower(),
        accepted=accepted,
    )
    _check_signature(payload, str(signature), network)
    return payload


def _check_extensions(extensions: Any) -> None:
    """Raise InvalidPayment if an advertised extension was changed; it may be left out."""
    if extensions is None:
        return
    if not isinstance(extensions, dict):
        raise _undecodable("extensions must be an object")
    for name, value in EXTENSIONS.items():
        if extensions.get(name, value) != value:
            raise InvalidPayment(f"extensions.{name} differs from the offer.", "extension_echo_mismatch")


def _check_fields(authorization: dict[str, Any], signature: Any) -> None:
    """Raise InvalidPayment unless every field is a string of the right form, with checksummed addresses."""
    is_checksum_address = load_module("eth_utils.address").is_checksum_address
    forms = {"from": _ADDRESS, "to": _ADDRESS, "nonce": _NONCE}
    forms |= dict.fromkeys(("value", "validAfter", "validBefore"), _NUMBER)
    for name, form in forms.items():
        field = authorization.get(name)
        if not isinstance(field, str) or not form.fullmatch(field):
            raise _undecodable(f"authorization.{name} is malformed")
        if form is _ADDRESS and not is_checksum_address(field):
            raise _undecodable(f"authorization.{name} is not checksummed")
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise _undecodable("payload.signature is malformed")


def _check_signature(payload: PaymentPayload, signature: str, network: EvmNetwork) -> None:
    """Raise InvalidPayment unless the payer signed this under the network's own domain."""
    account, encode_typed_data = load_account(), load_encode_typed_data()
    message = {
        "from": payload.payer,
        "to": payload.payee,
        "value": payload.value,
        "validAfter": payload.valid_after,
        "validBefore": payload.valid_before,
        "nonce": bytes.fromhex(payload.nonce[2:]),
    }
    try:
        signable = encode_typed_data(domain_data=network.domain, message_types=_TYPES, message_data=message)
        signer = account.recover_message(signable, signature=signature)
    except Exception:  # noqa: BLE001  whatever the curve objects to, it is a bad signature
        signer = None
    if signer != payload.payer:
        raise InvalidPayment("The signature is not the payer's.", "invalid_exact_evm_payload_signature")
