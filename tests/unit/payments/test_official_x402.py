"""The official `x402` package verifies our signatures and headers, and we read its messages."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import time
import warnings
from typing import Any

import pytest
from x402.http.utils import (
    decode_payment_signature_header,
    encode_payment_required_header,
    encode_payment_response_header,
)
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme
from x402.mechanisms.evm.exact.v1.facilitator import ExactEvmSchemeV1
from x402.schemas import PaymentPayload, PaymentRequired, PaymentRequirements, ResourceInfo, SettleResponse
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequiredV1, PaymentRequirementsV1

from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.x402.networks import BASE, BASE_SEPOLIA, EvmNetwork
from blockrun_magic.payments.x402.protocol import (
    PaymentPayload as OurPayload,
)
from blockrun_magic.payments.x402.protocol import (
    PaymentRequired as OurRequired,
)
from blockrun_magic.payments.x402.protocol import (
    PaymentRequirements as OurRequirements,
)
from blockrun_magic.payments.x402.protocol import (
    read_challenge,
    read_settlement,
    select_requirements,
    sign_payment,
)

GATEWAY = "https://blockrun.ai/api"
RESOURCE = f"{GATEWAY}/v1/images/generations"
PAYEE = "0xe9030014F5DAe217d0A152f02A043567b16c1aBf"
OTHER_PAYEE = "0x000000000000000000000000000000000000bEEF"
PRICE = 53_500
WALLET = Wallet.from_key(hashlib.sha256(b"a throwaway key, judged by others").hexdigest(), "the tests")
STRANGER = Wallet.from_key(hashlib.sha256(b"somebody else").hexdigest(), "the tests")
EXTENSIONS = {"builder-code": {"info": {"a": "blockrun-app"}, "schema": {"type": "object"}}}

BAD_SIGNATURE = "invalid_exact_evm_payload_signature"
NETWORKS = pytest.mark.parametrize("network", [BASE, BASE_SEPOLIA], ids=lambda network: network.label)
VERSIONS = pytest.mark.parametrize("version", [1, 2], ids="v{}".format)


class Chain:
    """Answers of a chain for the verifier: the token is a contract; the payer is a plain account with `balance`."""

    def __init__(self, balance: int = 10_000_000) -> None:
        self.balance = balance
        self.asked: list[str] = []

    def get_addresses(self) -> list[str]:
        """Return the facilitator's own accounts."""
        return [PAYEE]

    def get_code(self, address: str) -> bytes:
        """Return code for the tokens only: every other address is a plain account."""
        tokens = {BASE.asset.lower(), BASE_SEPOLIA.asset.lower()}
        return b"\x60\x80" if address.lower() in tokens else b""

    def read_contract(self, address: str, abi: list[dict[str, Any]], function_name: str, *args: Any) -> Any:
        """Act like the token: refuse to transfer more than the balance."""
        self.asked.append(function_name)
        value = args[2] if function_name == "transferWithAuthorization" else 0
        if value > self.balance:
            raise RuntimeError("execution reverted: ERC20: transfer amount exceeds balance")
        return None

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a verification has no business with {name}")


def official_challenge(network: EvmNetwork, version: int) -> PaymentRequired | PaymentRequiredV1:
    """Return a challenge as the official package writes it for a server."""
    domain = {"name": network.domain_name, "version": network.domain_version}
    if version == 1:
        return PaymentRequiredV1(
            error="X-PAYMENT header is required",
            accepts=[
                PaymentRequirementsV1(
                    scheme="exact",
                    network=network.v1_name,
                    max_amount_required=str(PRICE),
                    resource=RESOURCE,
                    description="an image",
                    mime_type="application/json",
                    pay_to=PAYEE,
                    max_timeout_seconds=300,
                    asset=network.asset,
                    extra=domain,
                )
            ],
        )
    return PaymentRequired(
        error="Payment required",
        resource=ResourceInfo(url=RESOURCE, description="an image", mime_type="application/json"),
        accepts=[
            PaymentRequirements(
                scheme="exact",
                network=network.id,
                asset=network.asset,
                amount=str(PRICE),
                pay_to=PAYEE,
                max_timeout_seconds=300,
                extra=domain,
            )
        ],
        extensions=EXTENSIONS,
    )


def received(required: PaymentRequired | PaymentRequiredV1) -> OurRequired:
    """Return our reading of a challenge: v2 in the header, v1 in the body."""
    if isinstance(required, PaymentRequiredV1):
        return read_challenge({}, required.model_dump_json(by_alias=True, exclude_none=True).encode())
    return read_challenge({"payment-required": encode_payment_required_header(required)}, b"{}")


def pinned(required: PaymentRequired | PaymentRequiredV1, network: EvmNetwork) -> OurRequirements:
    """Return the terms of a challenge, checked for a gateway on `network`."""
    return select_requirements(received(required), (network,), GATEWAY, WALLET.address)


def paid(network: EvmNetwork, version: int, wallet: Wallet = WALLET) -> tuple[Any, OurPayload]:
    """Return the official requirement and our signed payment for it."""
    required = official_challenge(network, version)
    terms = pinned(required, network)
    return required.accepts[0], sign_payment(terms, wallet, int(time.time()))


def verdict(payload: Any, requirement: Any, chain: Chain | None = None) -> tuple[bool, str | None]:
    """Return the official facilitator's answer: whether the payment is valid, and the reason if it is not."""
    scheme = ExactEvmSchemeV1 if isinstance(payload, PaymentPayloadV1) else ExactEvmScheme
    answer = scheme(chain or Chain()).verify(payload, requirement)
    return answer.is_valid, answer.invalid_reason


def tampered(signed: OurPayload, **changes: str) -> Any:
    """Return the decoded payment with fields of its authorization changed after the signature."""
    content = json.loads(base64.b64decode(signed.header_value))
    content["payload"]["authorization"].update(changes)
    return decode_payment_signature_header(base64.b64encode(json.dumps(content).encode()).decode())


@NETWORKS
@VERSIONS
def test_our_signature_is_accepted(network: EvmNetwork, version: int) -> None:
    """The official verifier recovers our address from our signature and simulates the transfer."""
    requirement, signed = paid(network, version)
    chain = Chain()

    payload = decode_payment_signature_header(signed.header_value)

    assert (True, None) == verdict(payload, requirement, chain)
    assert ["transferWithAuthorization"] == chain.asked


@NETWORKS
def test_a_v2_header_is_what_its_schema_wants(network: EvmNetwork) -> None:
    """The official schema decodes the v2 header; requirement, resource and extensions come back as sent."""
    required = official_challenge(network, 2)
    signed = sign_payment(pinned(required, network), WALLET, int(time.time()))

    payload = decode_payment_signature_header(signed.header_value)

    assert "PAYMENT-SIGNATURE" == signed.header_name
    assert isinstance(payload, PaymentPayload)
    assert required.accepts[0] == payload.accepted
    assert required.resource == payload.resource
    assert {"builder-code": {"info": {"a": "blockrun-app", "s": ["blockrun"]}, "schema": {"type": "object"}}} == (
        payload.extensions
    )


@NETWORKS
def test_a_v1_header_is_what_its_schema_wants(network: EvmNetwork) -> None:
    """The official schema decodes the v1 header, with scheme and network at its top level."""
    _, signed = paid(network, 1)

    payload = decode_payment_signature_header(signed.header_value)

    assert "X-PAYMENT" == signed.header_name
    assert isinstance(payload, PaymentPayloadV1)
    assert ("exact", network.v1_name) == (payload.scheme, payload.network)


@NETWORKS
@VERSIONS
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": str(PRICE + 1)}, "invalid_exact_evm_payload_authorization_value_mismatch"),
        ({"to": OTHER_PAYEE}, "invalid_exact_evm_payload_recipient_mismatch"),
        ({"nonce": "0x" + "22" * 32}, BAD_SIGNATURE),
        ({"validAfter": "1"}, BAD_SIGNATURE),
        ({"validBefore": "4102444800"}, BAD_SIGNATURE),
        ({"from": STRANGER.address}, BAD_SIGNATURE),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_changed_payment_is_refused(network: EvmNetwork, version: int, changes: dict[str, str], reason: str) -> None:
    """The official verifier refuses every change after the signature, so the verification is real."""
    requirement, signed = paid(network, version)

    assert (False, reason) == verdict(tampered(signed, **changes), requirement)


@VERSIONS
@pytest.mark.parametrize(("field", "changes"), [("amount", {"value": "1"}), ("pay_to", {"to": OTHER_PAYEE})])
def test_a_cheque_is_worthless_for_other_terms(version: int, field: str, changes: dict[str, str]) -> None:
    """Changing both the terms and the authorization to match does not help: the signature is still invalid."""
    requirement, signed = paid(BASE, version)
    field = "max_amount_required" if (field, version) == ("amount", 1) else field
    other = requirement.model_copy(update={field: next(iter(changes.values()))})

    assert (False, BAD_SIGNATURE) == verdict(tampered(signed, **changes), other)


@VERSIONS
@pytest.mark.parametrize(
    "change",
    [
        {"extra": {"name": "USDC", "version": "2"}},
        {"extra": {"name": "USD Coin", "version": "1"}},
        {"asset": BASE_SEPOLIA.asset},
    ],
    ids=["name", "version", "token"],
)
def test_a_signature_holds_in_its_own_domain_only(version: int, change: dict[str, Any]) -> None:
    """Under another domain name, domain version or token the same signature is invalid."""
    requirement, signed = paid(BASE, version)
    payload = decode_payment_signature_header(signed.header_value)

    assert (False, BAD_SIGNATURE) == verdict(payload, requirement.model_copy(update=change))


@VERSIONS
def test_a_signature_for_one_chain_is_worthless_on_the_other(version: int) -> None:
    """A payment signed for Base Sepolia is invalid on Base, even with all names changed."""
    _, signed = paid(BASE_SEPOLIA, version)
    requirement = official_challenge(BASE, version).accepts[0]
    payload = decode_payment_signature_header(signed.header_value)
    change = {"network": BASE.v1_name} if version == 1 else {"accepted": requirement}

    assert (False, BAD_SIGNATURE) == verdict(payload.model_copy(update=change), requirement)


@VERSIONS
def test_an_empty_wallet_is_refused_for_its_balance(version: int) -> None:
    """The verifier gets as far as the transfer: only the balance is missing."""
    requirement, signed = paid(BASE, version)
    payload = decode_payment_signature_header(signed.header_value)

    valid, reason = verdict(payload, requirement, Chain(balance=PRICE - 1))

    assert not valid
    assert BAD_SIGNATURE != reason


@VERSIONS
@pytest.mark.parametrize(
    ("ago", "reason"),
    [
        (295, "invalid_exact_evm_payload_authorization_valid_before"),
        (-700, "invalid_exact_evm_payload_authorization_valid_after"),
    ],
    ids=["expired", "future"],
)
def test_the_window_counts(version: int, ago: int, reason: str) -> None:
    """A signature is refused before its start, and from six seconds before its end."""
    required = official_challenge(BASE, version)
    signed = sign_payment(pinned(required, BASE), WALLET, int(time.time()) - ago)

    assert (False, reason) == verdict(decode_payment_signature_header(signed.header_value), required.accepts[0])


@NETWORKS
@VERSIONS
def test_their_challenge_is_read_by_us(network: EvmNetwork, version: int) -> None:
    """We read a challenge of the official encoder: version, price, payee, window, and the entry verbatim."""
    required = official_challenge(network, version)

    challenge = received(required)
    terms = select_requirements(challenge, (network,), GATEWAY, WALLET.address)

    assert version == challenge.version
    assert (PRICE, PAYEE, 300) == (terms.amount, terms.pay_to, terms.window)
    assert required.accepts[0].model_dump(by_alias=True, exclude_none=True) == terms.accepted


def test_their_settlement_is_read_by_us() -> None:
    """We read transaction and success from the settlement header of the official package."""
    transaction = "0x" + "ab" * 32
    done = SettleResponse(success=True, payer=WALLET.address, transaction=transaction, network=BASE.id)
    failed = SettleResponse(success=False, error_reason="insufficient_funds", transaction="", network=BASE.id)

    settlement = read_settlement({"payment-response": encode_payment_response_header(done)}, None)
    failure = read_settlement({"x-payment-response": encode_payment_response_header(failed)}, None)

    assert (transaction, True, None) == (settlement.transaction, settlement.success, settlement.reason)
    assert (None, False, "insufficient_funds") == (failure.transaction, failure.success, failure.reason)


@pytest.fixture(scope="module")
def blockrun_llm() -> Any:
    """Return the x402 module of the gateway's own SDK; importing it causes warnings of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("blockrun_llm.x402")


@VERSIONS
def test_the_gateways_own_sdk_reads_the_same_terms(blockrun_llm: Any, version: int) -> None:
    """The gateway's official SDK and we read the same price, payee and network from one challenge."""
    required = official_challenge(BASE, version)
    header = encode_payment_required_header(required)
    terms = pinned(required, BASE)

    theirs = blockrun_llm.extract_payment_details(blockrun_llm.parse_payment_required(header))

    assert str(terms.amount) == theirs["amount"]
    assert terms.pay_to == theirs["recipient"]
    assert terms.accepted["network"] == theirs["network"]
    assert terms.window == theirs["maxTimeoutSeconds"]


@NETWORKS
def test_the_gateways_own_sdk_signs_in_the_same_domain(blockrun_llm: Any, network: EvmNetwork) -> None:
    """Our table of networks agrees with the official SDK's: chain, token and EIP-712 domain."""
    theirs = blockrun_llm.evm_network(network.id)

    assert theirs["domain"] == network.domain
    assert (theirs["usdc"], theirs["chain_id"]) == (network.asset, network.chain_id)


def test_the_gateways_own_sdk_writes_the_same_payment(blockrun_llm: Any) -> None:
    """The official SDK's payment has the same fields as ours, and the same verifier accepts it."""
    from eth_account import Account

    key = hashlib.sha256(b"a throwaway key, judged by others").hexdigest()
    requirement, signed = paid(BASE, 2)

    header = blockrun_llm.create_payment_payload(
        Account.from_key(key),
        PAYEE,
        str(PRICE),
        BASE.id,
        resource_url=RESOURCE,
        resource_description="an image",
        extra=dict(requirement.extra),
        asset=BASE.asset,
    )
    theirs, ours = (json.loads(base64.b64decode(text)) for text in (header, signed.header_value))

    assert (True, None) == verdict(decode_payment_signature_header(header), requirement)
    assert theirs.keys() == ours.keys()
    assert theirs["payload"]["authorization"].keys() == ours["payload"]["authorization"].keys()
    assert theirs["accepted"] == ours["accepted"]
