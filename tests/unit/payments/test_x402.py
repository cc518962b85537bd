"""Terms that are signed or refused, the signed payload, and the proof of a settlement."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.address import is_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrun_magic.errors import TermsRefused
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.x402.networks import BASE, BASE_SEPOLIA, NETWORKS, PRACTICE, EvmNetwork, network_named
from blockrun_magic.payments.x402.protocol import (
    PaymentRequired,
    PaymentRequirements,
    Settlement,
    read_challenge,
    read_settlement,
    select_requirements,
    sign_payment,
)
from harness.wallets import TYPES

GATEWAY = "https://blockrun.ai/api"
RESOURCE = {"url": f"{GATEWAY}/v1/images/generations", "description": "an image", "mimeType": "application/json"}
PAYEE = "0xe9030014F5DAe217d0A152f02A043567b16c1aBf"
WALLET = Wallet.from_key(hashlib.sha256(b"a throwaway key of the x402 tests").hexdigest(), "the tests")
NOW = 1_800_000_000
HASH = "0x" + "c4" * 32
MISSING = object()

SOLANA = {
    "scheme": "exact",
    "network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "amount": "53500",
    "asset": "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
    "payTo": "CJ5W8gQxP3YdAJC6jyyfTyrXXdQQyhy2mUuFyfqPPvv2",
    "maxTimeoutSeconds": 300,
    "extra": {"feePayer": "2wKupLR9q6wXYppw8Gr2NvWxKBUqm4PPJKkQfoxHDBg4"},
}


def entry(on: EvmNetwork = BASE, /, **changes: Any) -> dict[str, Any]:
    """Return a valid v2 requirement with `changes`; MISSING removes a field."""
    fields = {
        "scheme": "exact",
        "network": on.id,
        "amount": "53500",
        "asset": on.asset,
        "payTo": PAYEE,
        "maxTimeoutSeconds": 300,
        "extra": {"name": on.domain_name, "version": on.domain_version},
    }
    return {name: value for name, value in (fields | changes).items() if value is not MISSING}


def entry_v1(**changes: Any) -> dict[str, Any]:
    """Return a valid v1 requirement with `changes`; MISSING removes a field."""
    fields = {
        "scheme": "exact",
        "network": "base",
        "maxAmountRequired": "53500",
        "resource": RESOURCE["url"],
        "asset": BASE.asset,
        "payTo": PAYEE,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    return {name: value for name, value in (fields | changes).items() if value is not MISSING}


def body(*accepts: Any, version: int = 2, **more: Any) -> dict[str, Any]:
    """Return a challenge with these requirements."""
    return {"x402Version": version, "accepts": list(accepts), **more}


def encoded(value: Any) -> str:
    """Return `value` as the base64 JSON of a header."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def terms_of(challenge: dict[str, Any], *networks: EvmNetwork, base_url: str = GATEWAY) -> PaymentRequirements:
    """Return the pinned terms of a challenge in the header; only BASE may be paid unless networks are named."""
    read = read_challenge({"payment-required": encoded(challenge)}, b"")
    return select_requirements(read, networks or (BASE,), base_url, WALLET.address)


def refusal_of(challenge: dict[str, Any]) -> str:
    """Return the message of the refusal of a challenge."""
    with pytest.raises(TermsRefused) as caught:
        terms_of(challenge)
    return caught.value.message


def payment_of(terms: PaymentRequirements) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the JSON of the payment header for `terms`, and the authorization inside it."""
    content = json.loads(base64.b64decode(sign_payment(terms, WALLET, NOW).header_value))
    return content, content["payload"]["authorization"]


# -- reading a challenge


@pytest.mark.parametrize("name", ["payment-required", "x-payment-required"])
def test_a_challenge_comes_in_either_header(name: str) -> None:
    """The header is read under its v2 name and under another name from some documents."""
    challenge = read_challenge({name: encoded(body(entry(), resource=RESOURCE))}, b"not JSON")

    assert PaymentRequired(2, (entry(),), RESOURCE, None) == challenge


@pytest.mark.parametrize(
    "sent",
    [body(entry(), resource=RESOURCE), body(entry_v1(), version=1), {"accepts": [entry_v1()], "error": "pay"}],
    ids=["v2", "v1", "v1, unnamed"],
)
def test_a_challenge_may_come_in_the_body(sent: dict[str, Any]) -> None:
    """Without a header the body is read; without a version it is v1."""
    challenge = read_challenge({}, json.dumps(sent).encode())
    terms = select_requirements(challenge, (BASE,), GATEWAY, WALLET.address)

    assert sent.get("x402Version", 1) == challenge.version
    assert 53_500 == terms.amount


def test_the_header_counts_where_both_are_there() -> None:
    """The v2 header wins over a body for older clients."""
    older = json.dumps(body(entry_v1(maxAmountRequired="1"), version=1)).encode()

    challenge = read_challenge({"payment-required": encoded(body(entry()))}, older)

    assert (2, (entry(),)) == (challenge.version, challenge.accepts)


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "header",
    [
        "not base64!",
        "e30",
        "é" * 8,
        base64.b64encode(b"not JSON").decode(),
        base64.b64encode(b"\xff\xfe\xfd").decode(),
        base64.b64encode(DEEP[:20_000] + DEEP[-20_000:]).decode(),
        base64.b64encode(b'{"accepts": ' + DEEP[:1000] + DEEP[-1000:] + b"}").decode(),
        encoded(body(entry(description="x" * 60_000))),
        base64.b64encode(b"1" * 6000).decode(),
        *map(encoded, [None, [], 1, "x", {}, {"accepts": {}}, {"accepts": None}, {"accepts": [1]}, {"accepts": [[]]}]),
        *(encoded({"x402Version": version, "accepts": [entry()]}) for version in (0, 3, "2", True, None, [2], {})),
    ],
)
def test_an_unreadable_header_is_refused(header: str) -> None:
    """Bad base64, bad or deep JSON, endless text, another shape or version is refused in two lines."""
    with pytest.raises(TermsRefused) as caught:
        read_challenge({"payment-required": header}, json.dumps(body(entry())).encode())

    assert 2 == len(str(caught.value).splitlines())
    assert 200 > len(caught.value.message)


@pytest.mark.parametrize("sent", [b"", b"<html>", b"\xff", b"[]", b"{}", DEEP, b'{"accepts": "base"}'])
def test_an_unreadable_body_is_refused(sent: bytes) -> None:
    """A 402 with neither header nor terms in its body is refused."""
    with pytest.raises(TermsRefused):
        read_challenge({}, sent)


def test_a_long_body_is_refused() -> None:
    """Terms have at most 64 KB, in the body as in the header."""
    sent = json.dumps(body(entry(), extensions={"x": "y" * 70_000})).encode()

    with pytest.raises(TermsRefused):
        read_challenge({}, sent)


@pytest.mark.parametrize("where", ["extensions", "resource", "entry"])
def test_terms_that_do_not_fit_into_a_header_are_refused(where: str) -> None:
    """The payment header stays below 16 KB; terms that would make it longer are refused."""

    def challenge(size: int) -> dict[str, Any]:
        filler = {"filler": "é" * (size // 6)}
        if where == "entry":
            return body(entry(extra={"name": BASE.domain_name, "version": BASE.domain_version, **filler}))
        return body(entry(), **({where: {**RESOURCE, **filler}} if where == "resource" else {where: filler}))

    assert refusal_of(challenge(14_000))
    assert 16 * 1024 > len(sign_payment(terms_of(challenge(9000)), WALLET, NOW).header_value)


# -- choosing and checking terms


@pytest.mark.parametrize("network", list(NETWORKS.values()), ids=lambda network: network.label)
def test_terms_in_order_are_pinned(network: EvmNetwork) -> None:
    """Valid terms give amount, payee and window, on our own network with that id."""
    terms = terms_of(body(entry(network), resource=RESOURCE), network)

    assert PaymentRequirements(2, network, 53_500, PAYEE, 300, entry(network), RESOURCE, None) == terms


def test_v1_terms_are_pinned() -> None:
    """A v1 requirement has its own names for network, amount and resource."""
    terms = terms_of(body(entry_v1(), version=1))

    assert (1, BASE, 53_500, 300) == (terms.version, terms.network, terms.amount, terms.window)


def test_the_payable_entry_is_chosen() -> None:
    """The payable entry is chosen, wherever it is in the list."""
    terms = terms_of(body(SOLANA, entry(BASE_SEPOLIA), entry(scheme="upto"), entry(amount="7")))

    assert (BASE, 7) == (terms.network, terms.amount)


def test_the_reason_is_that_of_the_nearest_entry() -> None:
    """A list whose only entry on our network is wrong is refused."""
    assert refusal_of(body(SOLANA, entry(amount="-1")))


@pytest.mark.parametrize(
    "network",
    [
        "eip155:1",
        "eip155:84532",
        "eip155:402402402402",
        "base-sepolia",
        "solana",
        "EIP155:8453",
        "eip155:8453 ",
        "eip155:08453",
        None,
        8453,
        ["eip155:8453"],
        MISSING,
    ],
)
def test_another_network_is_refused(network: Any) -> None:
    """A gateway on Base is paid on Base only, though our table has other networks."""
    assert refusal_of(body(entry(network=network)))


def test_no_entry_at_all_is_refused() -> None:
    """An empty list of terms is refused."""
    assert refusal_of(body())


def test_a_refusal_shows_no_control_characters_and_not_everything() -> None:
    """A refusal is short and printable, even if a hostile gateway names a hundred odd networks."""
    names = [f"\x1b[31m{number}\u202e{'x' * 500}\n" for number in range(100)]

    what = refusal_of(body(*(entry(network=name) for name in names)))

    assert what.isprintable()
    assert 500 > len(what)


@pytest.mark.parametrize("scheme", ["upto", "permit", "EXACT", "", None, 1, ["exact"], MISSING])
def test_another_scheme_is_refused(scheme: Any) -> None:
    """Only `exact` is signed: other schemes allow more than a transfer of the price."""
    assert refusal_of(body(entry(scheme=scheme)))


@pytest.mark.parametrize("asset", [BASE_SEPOLIA.asset, PAYEE, "USDC", "", None, 1, BASE.asset[2:], MISSING])
def test_another_token_is_refused(asset: Any) -> None:
    """Only the USDC contract of our own table is accepted."""
    assert refusal_of(body(entry(asset=asset)))


@pytest.mark.parametrize("asset", [BASE.asset.lower(), "0x" + BASE.asset[2:].upper()])
def test_the_tokens_letters_may_be_of_either_case(asset: str) -> None:
    """An address may be in lower or upper case; the entry is echoed as received, and our spelling is signed."""
    terms = terms_of(body(entry(asset=asset)))

    assert asset == terms.accepted["asset"]
    assert BASE.asset == terms.network.domain["verifyingContract"]


AMOUNTS = [
    *("0", "000", "-1", "+1", "1.0", "1e6", "0x10", "1_000", " 1", "1\n", "", "٣", "１", "nan", "1" * 19, "9" * 400),
    *(53_500, 0.05, True, None, [], {}, ["53500"], MISSING),
]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_an_odd_amount_is_refused(amount: Any) -> None:
    """An amount is a string of decimal digits above zero and below a limit: no JSON number, sign, point or hex."""
    assert refusal_of(body(entry(amount=amount)))
    assert refusal_of(body(entry_v1(maxAmountRequired=amount), version=1))


def test_each_version_has_its_own_name_for_the_amount() -> None:
    """`maxAmountRequired` is not an amount in v2, and `amount` is not one in v1."""
    assert refusal_of(body(entry(amount=MISSING, maxAmountRequired="53500")))
    assert refusal_of(body(entry_v1(maxAmountRequired=MISSING, amount="53500"), version=1))


@given(st.integers(min_value=1, max_value=10**18 - 1))
def test_every_decimal_amount_is_read_exactly(amount: int) -> None:
    """An amount below a trillion dollars is read to the micro-dollar; the caps decide whether it is paid."""
    assert amount == terms_of(body(entry(amount=str(amount)))).amount


@pytest.mark.parametrize(
    "payee",
    [
        "0x" + "0" * 40,
        *(BASE.asset, BASE.asset.lower()),
        *(WALLET.address, WALLET.address.lower()),
        *(PAYEE.swapcase().replace("0X", "0x"), PAYEE[:-1] + "e"),
        *(PAYEE[2:], PAYEE + "00", PAYEE[:-1], "0X" + PAYEE[2:], PAYEE + "\n", "vitalik.eth", ""),
        *(None, 1, [PAYEE], {}, MISSING),
    ],
)
def test_an_odd_payee_is_refused(payee: Any) -> None:
    """The zero address, the token, our own address, a mistyped address and other text are refused as payee."""
    assert refusal_of(body(entry(payTo=payee)))


@pytest.mark.parametrize("payee", [PAYEE.lower(), "0x" + PAYEE[2:].upper()])
def test_a_payee_without_checksum_is_signed_with_one(payee: str) -> None:
    """An address in a single case has no checksum; it is echoed as received and signed with one."""
    content, authorization = payment_of(terms_of(body(entry(payTo=payee))))

    assert payee == content["accepted"]["payTo"]
    assert PAYEE == authorization["to"]


@pytest.mark.parametrize(
    ("seconds", "window"),
    [(MISSING, 300), (1, 300), (300, 300), (301, 301), (3600, 3600), (3601, 3600), (10**9, 3600), (10**30, 3600)],
)
def test_the_window_is_ours_within_bounds(seconds: Any, window: int) -> None:
    """A signature is valid for at least five minutes and at most an hour."""
    assert window == terms_of(body(entry(maxTimeoutSeconds=seconds))).window


@pytest.mark.parametrize("seconds", [0, -1, True, False, "300", 300.0, None, [], {}, float("nan")])
def test_an_odd_window_is_refused(seconds: Any) -> None:
    """A time limit is a whole number of seconds above zero."""
    assert refusal_of(body(entry(maxTimeoutSeconds=seconds)))


@pytest.mark.parametrize(
    "url",
    [
        GATEWAY,
        "https://BLOCKRUN.ai/api/v1/images/generations",
        "https://blockrun.ai:443/api",
        "http://blockrun.ai/api",
        "/api/v1/images/generations",
        "v1/images/generations",
        "",
        None,
    ],
)
def test_a_resource_on_the_gateway_is_signed_for(url: Any) -> None:
    """The resource may be the gateway's URL in any spelling, a path on it, or missing."""
    assert 53_500 == terms_of(body(entry(), resource={"url": url})).amount


OTHER_HOSTS = [
    "https://evil.example/api",
    "https://blockrun.ai.evil.example/",
    "https://evilblockrun.ai/",
    "https://api.blockrun.ai/",
    "https://blockrun.ai./",
    "https://blockrun.ai@evil.example/",
    "https://evil.example@blockrun.ai/",
    "https://user:password@blockrun.ai/",
    "https://evil.example\\@blockrun.ai/",
    "//evil.example/api",
    "\t//evil.example/api",
    "https://[::1",
    "https://blоckrun.ai/",
    "ftp://evil.example/",
]


@pytest.mark.parametrize("url", OTHER_HOSTS)
def test_a_resource_elsewhere_is_refused(url: str) -> None:
    """A resource on another host is refused, in v2 and v1."""
    assert refusal_of(body(entry(), resource={"url": url}))
    assert refusal_of(body(entry(), resource=url))
    assert refusal_of(body(entry_v1(resource=url), version=1))


@pytest.mark.parametrize("resource", [1, [GATEWAY], {"url": 1}, {"url": [GATEWAY]}, True])
def test_a_resource_that_is_no_url_is_refused(resource: Any) -> None:
    """A resource that is not a URL is refused."""
    assert refusal_of(body(entry(), resource=resource))


@pytest.mark.parametrize("extra", [{"name": "USDC", "version": "2"}, {"name": "USD Coin", "version": "1"}, {"name": 1}])
def test_another_domain_is_refused(extra: dict[str, Any]) -> None:
    """Our own EIP-712 domain is signed, so a gateway that names another one is refused."""
    assert refusal_of(body(entry(extra=extra)))


@pytest.mark.parametrize("extra", [{}, None, {"name": "USD Coin"}, {"assetTransferMethod": "eip3009"}, MISSING])
def test_the_domain_need_not_be_named(extra: Any) -> None:
    """A gateway that does not name the domain is paid under ours."""
    assert BASE.domain == terms_of(body(entry(extra=extra))).network.domain


def test_a_network_is_known_by_either_name() -> None:
    """Both names of a network find it, and no other name does."""
    for network in NETWORKS.values():
        assert network is network_named(network.id)
        assert network is network_named(network.v1_name)
    assert network_named("ethereum") is None


def test_play_money_is_of_no_real_chain() -> None:
    """The practice network shares neither chain nor token with a real one."""
    assert len(NETWORKS) == len({network.chain_id for network in NETWORKS.values()})
    assert len(NETWORKS) == len({network.asset.lower() for network in NETWORKS.values()})
    assert b"PRACTICE PLAY MONEY!" == bytes.fromhex(PRACTICE.asset[2:])


# -- signing


def test_what_is_signed_is_what_was_pinned() -> None:
    """The authorization has our address, the payee, the amount and a window around now, with numbers as strings."""
    content, authorization = payment_of(terms_of(body(entry(maxTimeoutSeconds=900), resource=RESOURCE)))

    assert {
        "from": WALLET.address,
        "to": PAYEE,
        "value": "53500",
        "validAfter": str(NOW - 600),
        "validBefore": str(NOW + 900),
        "nonce": authorization["nonce"],
    } == authorization
    assert is_checksum_address(authorization["from"])
    assert 66 == len(authorization["nonce"])
    assert {"x402Version", "accepted", "payload", "resource"} == content.keys()
    assert 2 == content["x402Version"]


@pytest.mark.parametrize("network", list(NETWORKS.values()), ids=lambda network: network.label)
def test_the_signature_is_the_wallets(network: EvmNetwork) -> None:
    """The signature recovers to the wallet's address under our own domain."""
    content, authorization = payment_of(terms_of(body(entry(network)), network))
    numbers = {name: int(authorization[name]) for name in ("value", "validAfter", "validBefore")}
    signable = encode_typed_data(network.domain, TYPES, authorization | numbers)

    assert WALLET.address == Account.recover_message(signable, signature=content["payload"]["signature"])


def test_nonces_are_never_the_same() -> None:
    """Two payments of the same terms have different nonces, unless the nonce is given."""
    terms = terms_of(body(entry()))
    nonce = b"n" * 32

    nonces = {sign_payment(terms, WALLET, NOW).authorization.nonce for _ in range(3)}

    assert 3 == len(nonces)
    assert "0x" + nonce.hex() == sign_payment(terms, WALLET, NOW, nonce).authorization.nonce


def test_the_entry_is_echoed_verbatim() -> None:
    """Other fields of the chosen entry, and the spelling of its addresses, are echoed as received."""
    odd = entry(
        asset=BASE.asset.lower(),
        payTo=PAYEE.lower(),
        amount="0053500",
        extra={"name": "USD Coin", "version": "2", "nested": {"ключ": [1, 2.5, None, "\ud83d"]}},
        description="ünïcode 🎨",
    )

    content, _ = payment_of(terms_of(body(SOLANA, odd)))

    assert odd == content["accepted"]


@pytest.mark.parametrize(
    "missing",
    [
        {"extra": MISSING},
        {"extra": None},
        {"extra": {}},
        {"extra": {"name": "USD Coin"}},
        {"maxTimeoutSeconds": MISSING},
        {"extra": MISSING, "maxTimeoutSeconds": MISSING},
    ],
)
def test_what_a_gateway_leaves_out_is_filled_in(missing: dict[str, Any]) -> None:
    """A missing token name, token version or time limit is filled in, as in BlockRun's own client."""
    terms = terms_of(body(entry(**missing)))
    sent, _ = payment_of(terms)

    assert entry() == sent["accepted"]
    assert 300 == terms.window


def test_more_in_extra_stays_as_it_is() -> None:
    """Given fields are echoed verbatim, beside the added ones."""
    sent, _ = payment_of(terms_of(body(entry(extra={"assetTransferMethod": "eip3009", "version": "2"}))))

    assert {"assetTransferMethod": "eip3009", "name": "USD Coin", "version": "2"} == sent["accepted"]["extra"]


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ({"builder-code": {"info": {"a": "app"}}}, {"builder-code": {"info": {"a": "app", "s": ["blockrun"]}}}),
        ({"builder-code": {}, "bazaar": {"x": 1}}, {"builder-code": {"info": {"s": ["blockrun"]}}, "bazaar": {"x": 1}}),
        ({"builder-code": {"info": {"s": ["x"]}}}, {"builder-code": {"info": {"s": ["x", "blockrun"]}}}),
        ({"builder-code": {"info": {"s": ["blockrun"]}}}, {"builder-code": {"info": {"s": ["blockrun"]}}}),
        ({"builder-code": "odd"}, {"builder-code": "odd"}),
        ({"bazaar": {"x": 1}}, {"bazaar": {"x": 1}}),
        ({}, {}),
    ],
)
def test_the_builder_code_is_sent_where_it_is_offered(
    monkeypatch: pytest.MonkeyPatch, offered: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Payments carry BlockRun's builder code if the gateway offers it; other extensions are echoed unchanged."""
    terms = terms_of(body(entry(), extensions=offered))

    assert expected == payment_of(terms)[0]["extensions"]

    monkeypatch.setenv("BLOCKRUN_BUILDER_CODE", "off")
    assert offered == payment_of(terms)[0]["extensions"]


def test_exact_is_chosen_beside_other_schemes() -> None:
    """If a gateway offers `upto` or `batch-settlement` first, its `exact` entry is paid."""
    others = [entry(scheme=scheme, amount="999999") for scheme in ("upto", "batch-settlement")]

    assert 53_500 == terms_of(body(*others, entry())).amount


def test_the_cheapest_entry_is_chosen() -> None:
    """The cheapest payable entry is chosen, and the first of equal ones."""
    dear, cheap = entry(amount="90000"), entry(maxTimeoutSeconds=600)

    assert cheap == terms_of(body(dear, cheap, entry())).accepted


@pytest.mark.parametrize(
    "odd",
    [{"name": "USD Coin", "version": "2", "assetTransferMethod": "permit2"}, {"rate": float("nan")}, [float("inf")]],
)
def test_terms_that_a_signature_cannot_answer_are_refused(odd: Any) -> None:
    """Another transfer method is refused, and so are numbers that JSON cannot hold."""
    with pytest.raises(TermsRefused):
        terms_of(body(entry(extra=odd)))

    assert 53_500 == terms_of(body(entry(extra=odd, amount="1"), entry())).amount


def test_extensions_are_echoed() -> None:
    """Extensions are echoed unchanged in v2, and omitted if there are none."""
    extensions = {"sign-in-with-x": {"info": {"a": "app"}}, "bazaar": [1, {"x": None}]}

    with_them, _ = payment_of(terms_of(body(entry(), extensions=extensions)))
    without, _ = payment_of(terms_of(body(entry())))

    assert extensions == with_them["extensions"]
    assert "extensions" not in without
    assert "resource" not in without


def test_v1_has_its_own_envelope() -> None:
    """A v1 payment is sent in `X-PAYMENT`, with only version, scheme, network and payload."""
    terms = terms_of(body(entry_v1(), version=1, extensions={"x": 1}))

    content, authorization = payment_of(terms)

    assert "X-PAYMENT" == sign_payment(terms, WALLET, NOW).header_name
    assert {"x402Version", "scheme", "network", "payload"} == content.keys()
    assert (1, "exact", "base") == (content["x402Version"], content["scheme"], content["network"])
    assert "53500" == authorization["value"]


def test_a_header_is_plain_base64_and_hidden() -> None:
    """The header is standard base64, and the repr of the payment does not show it."""
    signed = sign_payment(terms_of(body(entry(description="🎨"))), WALLET, NOW)

    assert signed.header_value.isascii()
    assert json.loads(base64.b64decode(signed.header_value, validate=True))
    assert signed.header_value not in repr(signed)
    assert json.loads(base64.b64decode(signed.header_value))["payload"]["signature"] not in repr(signed)


def test_terms_and_payments_cannot_be_changed() -> None:
    """Terms are frozen, so the checked values are the signed ones."""
    terms = terms_of(body(entry()))

    with pytest.raises(dataclasses.FrozenInstanceError):
        terms.amount = 1  # type: ignore[misc]


# -- any JSON


def json_with(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    """Return a strategy for any JSON whose fractions are `floats`."""
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )


JSON = json_with(st.floats())
FINITE = json_with(st.floats(allow_nan=False, allow_infinity=False))
ODD = JSON | st.sampled_from(["0", "1", "eip155:8453", "base", "exact", PAYEE, BASE.asset, GATEWAY, "//x", 300])
FIELDS = st.sampled_from([*entry(), "maxAmountRequired", "resource", "outputSchema"])
NEAR = st.dictionaries(FIELDS, ODD, max_size=3).map(lambda changes: entry() | changes)
NEAR_V1 = st.dictionaries(FIELDS, ODD, max_size=3).map(lambda changes: entry_v1() | changes)
TOPS = st.fixed_dictionaries(
    {"accepts": st.lists(NEAR | NEAR_V1 | JSON, min_size=1, max_size=3) | JSON},
    optional={"x402Version": st.sampled_from([1, 2]) | JSON, "resource": ODD, "extensions": JSON},
)


@settings(max_examples=300)
@given(TOPS | JSON, st.booleans())
def test_any_challenge_is_pinned_within_the_rules_or_refused(challenge: Any, in_header: bool) -> None:
    """Any JSON from a gateway is refused, or gives terms that follow every rule."""
    try:
        if in_header:
            read = read_challenge({"payment-required": encoded(challenge)}, b"")
        else:
            read = read_challenge({}, json.dumps(challenge).encode())
        terms = select_requirements(read, (BASE,), GATEWAY, WALLET.address)
    except TermsRefused:
        return

    assert terms.network is BASE
    assert terms.accepted["scheme"] == "exact"
    assert terms.accepted["asset"].lower() == BASE.asset.lower()
    assert 0 < terms.amount < 10**18
    assert 300 <= terms.window <= 3600
    assert terms.pay_to.lower() not in (BASE.asset.lower(), WALLET.address.lower(), "0x" + "0" * 40)


@settings(max_examples=20)
@given(st.dictionaries(st.text(max_size=8), FINITE, max_size=3), FINITE, FINITE)
def test_what_is_pinned_can_be_signed(more: dict[str, Any], description: Any, extensions: Any) -> None:
    """Valid terms with any other fields are signed and echoed exactly."""
    accepted, resource = more | entry(), RESOURCE | {"description": description}

    content, authorization = payment_of(terms_of(body(accepted, resource=resource, extensions=extensions)))

    assert json.dumps([accepted, resource]) == json.dumps([content["accepted"], content["resource"]])
    assert json.dumps(extensions) == json.dumps(content.get("extensions"))
    assert "53500" == authorization["value"]


# -- settlements


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({"payment-response": encoded({"success": True, "transaction": HASH})}, None),
        ({"x-payment-response": encoded({"success": True, "transaction": HASH})}, {}),
        ({"x-payment-receipt": HASH}, None),
        ({}, {"payment": {"status": "settled", "tx_hash": HASH, "network": "base"}}),
        ({}, {"error": "the model failed", "transaction": HASH}),
        ({}, {"error": {"message": "the model failed"}, "txHash": HASH}),
        ({"payment-response": "garbage!"}, {"payment": {"tx_hash": HASH}}),
        ({"payment-response": encoded([1])}, {"payment": "paid", "txHash": HASH}),
        ({"payment-response": encoded({"success": True, "transaction": ""}), "x-payment-receipt": HASH}, None),
    ],
)
def test_a_transaction_is_found_wherever_it_stands(headers: dict[str, str], answer: Any) -> None:
    """The transaction is read from either settlement header, the receipt header, and three fields of the body."""
    assert HASH == read_settlement(headers, answer).transaction


@pytest.mark.parametrize(
    "transaction",
    ["0x" + "0" * 64, "0x", "", "0x1", HASH[2:], HASH + "00", HASH[:-1], "0x" + "g" * 64, HASH + "\n", None, 1, [HASH]],
)
def test_what_is_no_hash_proves_nothing(transaction: Any) -> None:
    """Zeros, a short or long hash and other values are not a transaction, even with a claim of success."""
    header = encoded({"success": True, "transaction": transaction})
    answer = {"payment": {"status": "settled", "tx_hash": transaction}, "transaction": transaction}

    assert Settlement(None, True, None) == read_settlement({"payment-response": header}, answer)


def test_success_alone_proves_nothing() -> None:
    """A settlement without a transaction only reports the gateway's claim."""
    header = encoded({"success": False, "errorReason": "insufficient_funds", "transaction": ""})

    assert Settlement(None, None, None) == read_settlement({}, {"payment": {"status": "settled"}})
    assert Settlement(None, False, "insufficient_funds") == read_settlement({"payment-response": header}, None)


PLACES = st.sampled_from(["payment-response", "x-payment-response", "x-payment-receipt"])


@given(
    st.dictionaries(PLACES, st.text(max_size=40) | JSON.map(encoded), max_size=3),
    st.fixed_dictionaries({}, optional={"payment": JSON, "transaction": JSON, "txHash": JSON}) | JSON,
)
def test_reading_a_settlement_never_fails(headers: dict[str, str], answer: Any) -> None:
    """Reading any answer raises nothing and invents no transaction."""
    assert read_settlement(headers, answer).transaction is None


def test_deep_json_in_a_settlement_is_no_settlement() -> None:
    """A header nested too deeply is ignored."""
    header = base64.b64encode(b"[" * 20_000).decode()

    assert Settlement(None, None, None) == read_settlement({"payment-response": header}, None)
