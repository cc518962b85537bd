"""The witness of a cashed signature: the practice gateway, or two servers of the chain that agree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from blockrun_magic.errors import GatewayUnreachable
from blockrun_magic.gateway.chain import evm, solana
from blockrun_magic.gateway.chain import status as truth
from blockrun_magic.gateway.chain.chain import SignedTransfer
from blockrun_magic.gateway.chain.status import Balance, balance, chain_of
from blockrun_magic.gateway.client import Client, Timeouts
from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.payments.x402.networks import BASE, BASE_SEPOLIA, NETWORKS, PRACTICE, SOLANA, EvmNetwork
from fakes.raw_socket import RESET, RawServer, http, json_http, raw_server
from harness import PATIENCE

PAYER = "0xe9030014F5DAe217d0A152f02A043567b16c1aBf"
NONCE = "0x" + "4e" * 32
HASH = "0x" + "ab" * 32
OWNER = "So11111111111111111111111111111111111111112"


def signed(valid_before: int | None = None) -> SignedTransfer:
    """Return the authorization that the servers are asked about."""
    return SignedTransfer(PAYER, NONCE, 0.0, valid_before, None)


def result(number: int) -> bytes:
    """Return an RPC server's answer with `number` as one word."""
    return json_http({"jsonrpc": "2.0", "id": 1, "result": f"0x{number:064x}"})


@contextmanager
def chain(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> Iterator[tuple[Gateway, list[RawServer]]]:
    """Yield a gateway on Base and its RPC servers, each with its answer (or a list of answers in order)."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(raw_server(*(answer if isinstance(answer, list) else [answer]))) for answer in answers
        ]
        network = replace(BASE, rpc_urls=tuple(f"{server.url}/rpc" for server in servers))
        monkeypatch.setattr(truth, "NETWORKS", {network.id: network})
        yield Gateway("base", "https://blockrun.example/api", (network,)), servers


def used(gateway: Gateway, network: EvmNetwork = BASE) -> tuple[bool | None, str | None]:
    """Return whether the authorization was used, and its transaction."""

    async def ask() -> tuple[bool | None, str | None]:
        async with Client(Timeouts(connect=PATIENCE, answer=PATIENCE)) as client:
            known = chain_of(client, gateway, network.id)
            return await known.is_used(signed()) if known else (None, None)

    return asyncio.run(ask())


def balance_of(gateway: Gateway) -> Balance | None:
    """Return the balance of PAYER, or None."""

    async def ask() -> Balance | None:
        async with Client(Timeouts(connect=PATIENCE, answer=PATIENCE)) as client:
            return await balance(client, gateway, PAYER)

    return asyncio.run(ask())


@pytest.mark.parametrize(("number", "cashed"), [(0, False), (1, True)])
def test_two_that_agree_decide(monkeypatch: pytest.MonkeyPatch, number: int, cashed: bool) -> None:
    """The answer of two servers that agree is believed; it includes no transaction."""
    with chain(monkeypatch, result(number), result(number)) as (gateway, _):
        assert (cashed, None) == used(gateway)


def test_an_empty_list_of_rpc_servers_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without RPC servers the answers are unknown on both kinds of chain, and no request is sent."""
    asked: list[object] = []
    for name in ("get", "post"):
        monkeypatch.setattr(Client, name, lambda *args, **_: asked.append(args))
    base, chain = replace(BASE, rpc_urls=()), replace(SOLANA, rpc_urls=())
    gateway = Gateway("base", "https://blockrun.example/api", (base,))

    async def ask() -> list[object]:
        async with Client(Timeouts(connect=PATIENCE, answer=PATIENCE)) as client:
            said = [
                await evm.block_time(client, base),
                await evm.cashed_transfer(client, base, PAYER, NONCE, 0, 1),
                await evm.outgoing_transfers(client, base, PAYER, 0, 1),
                await evm.EvmChain(client, base).is_used(signed()),
                await evm.EvmChain(client, base).is_expired_unused(signed(1)),
                await balance(client, gateway, PAYER),
                await solana.transfer_made(client, chain, OWNER, NONCE, 0),
                await solana.transfer_expired_unused(client, chain, OWNER, NONCE, 0, 1),
                await solana.balance(client, chain, OWNER),
            ]
            with pytest.raises(GatewayUnreachable):
                await solana.recent_blockhash(client, chain)
            return said

    assert [None, None, None, (None, None), False, None, (None, None), False, None] == asyncio.run(ask())
    assert [] == asked


GARBAGE = [
    RESET,
    b"",
    http(b"not JSON"),
    http(b"<html>rate limited", 429),
    json_http([]),
    json_http(None),
    json_http({"error": {"code": -32005, "message": "limit exceeded"}}),
    *(json_http({"result": value}) for value in (None, "", "0x", "0x1", "-0x1", "1", 1, True, [], "0x" + "g" * 64)),
    json_http({"result": "0x" + "0" * 65}),
]


def test_two_that_disagree_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one server says used and another unused, the answer is unknown."""
    with chain(monkeypatch, result(0), result(1)) as (gateway, _):
        assert (None, None) == used(gateway)


def test_two_of_three_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third server that lags or lies does not prevent the answer of two that agree."""
    with chain(monkeypatch, result(0), result(1), result(1)) as (gateway, _):
        assert (True, None) == used(gateway)


@pytest.mark.parametrize("answers", [(), (result(1),)], ids=["nobody", "one"])
def test_one_alone_decides_nothing(monkeypatch: pytest.MonkeyPatch, answers: tuple[bytes, ...]) -> None:
    """The answer of a single server is not enough."""
    with chain(monkeypatch, *answers) as (gateway, _):
        assert (None, None) == used(gateway)
        assert balance_of(gateway) is None


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_no_witness(monkeypatch: pytest.MonkeyPatch, garbage: Any) -> None:
    """An answer other than one hexadecimal word is ignored, even if several servers give it."""
    with chain(monkeypatch, result(1), garbage, garbage) as (gateway, _):
        assert (None, None) == used(gateway)
        assert balance_of(gateway) is None


def test_the_contract_is_asked_as_its_interface_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """`authorizationState(payer, nonce)` and `balanceOf(payer)` are called on our own table's token."""
    with chain(monkeypatch, result(0), result(0)) as (gateway, servers):
        used(gateway)
        balance_of(gateway)
    word = "0" * 24 + PAYER[2:].lower()

    calls = [json.loads(seen.body) for seen in servers[0].seen]

    assert ["/rpc", "/rpc"] == [seen.target for seen in servers[0].seen]
    assert ["eth_call", "eth_call"] == [call["method"] for call in calls]
    assert [
        [{"to": BASE.asset, "data": "0xe94a0102" + word + NONCE[2:]}, "latest"],
        [{"to": BASE.asset, "data": "0x70a08231" + word}, "latest"],
    ] == [call["params"] for call in calls]


def test_a_balance_is_in_micro_dollars(monkeypatch: pytest.MonkeyPatch) -> None:
    """A balance is in micro-dollars, the token's own unit, and two servers have to agree."""
    with chain(monkeypatch, result(4_320_000), result(4_320_000)) as (gateway, _):
        found = balance_of(gateway)

    assert found is not None
    assert 4_320_000 == found.micros
    assert "Base" in found.source


def test_an_unknown_network_cannot_be_asked() -> None:
    """A network outside our table has no trusted servers."""
    gateway = practice_at("http://127.0.0.1:1")
    elsewhere = replace(BASE, id="eip155:1")

    assert (None, None) == used(gateway, elsewhere)


def test_real_networks_have_servers_enough() -> None:
    """Every real network has at least two public servers, over https and on different hosts."""
    for network in (BASE, BASE_SEPOLIA):
        hosts = {url.split("/")[2] for url in network.rpc_urls}

        assert 2 <= len(hosts) == len(network.rpc_urls)
        assert all(url.startswith("https://") for url in network.rpc_urls)
    assert () == PRACTICE.rpc_urls


# -- authorizations that can never be cashed

OVER = 1_800_000_000
"""The end of the authorization; an answer counts from half a minute later."""


def block(timestamp: Any, number: Any = "0x1f") -> bytes:
    """Return an RPC server's answer with its latest block."""
    return json_http({"jsonrpc": "2.0", "id": 1, "result": {"number": number, "timestamp": timestamp}})


LATER = block(hex(OVER + 30))


def is_over(gateway: Gateway, network: EvmNetwork = BASE) -> bool:
    """Return whether the authorization expired unused."""

    async def ask() -> bool:
        async with Client(Timeouts(connect=PATIENCE, answer=PATIENCE)) as client:
            known = chain_of(client, gateway, network.id)
            return known is not None and await known.is_expired_unused(signed(OVER))

    return asyncio.run(ask())


def test_two_say_that_it_was_unused_at_a_block_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each server is asked about the state at its own latest block; a third server need not answer."""
    with chain(monkeypatch, [LATER, result(0)], [LATER, result(0)], [RESET]) as (gateway, servers):
        assert is_over(gateway)

    assert ["eth_getBlockByNumber", "eth_call"] == [json.loads(seen.body)["method"] for seen in servers[0].seen]
    assert "0x1f" == json.loads(servers[0].seen[1].body)["params"][1]


def test_a_thousand_payments_ask_for_the_latest_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's latest block is reused for authorizations that end before it, and asked for again for a later one."""

    async def ask(gateway: Gateway) -> list[bool]:
        async with Client(Timeouts(connect=PATIENCE, answer=PATIENCE)) as client:
            ends = (OVER, OVER, OVER - 9, OVER + 1)
            known = evm.EvmChain(client, gateway.networks[0])
            return [await known.is_expired_unused(signed(end)) for end in ends]

    answers = [LATER, result(0), result(0), result(0), LATER]
    with chain(monkeypatch, answers, answers) as (gateway, servers):
        assert [True, True, True, False] == asyncio.run(ask(gateway))

    for server in servers:
        asked = [json.loads(seen.body)["method"] for seen in server.seen]
        assert ["eth_getBlockByNumber", "eth_call", "eth_call", "eth_call", "eth_getBlockByNumber"] == asked


@pytest.mark.parametrize(
    "others",
    [
        [[block(hex(OVER + 29)), result(0)], [RESET]],
        [[LATER, result(1)], [LATER, result(0)]],
        [[LATER, RESET], [LATER, json_http({"error": {"code": -32000, "message": "header not found"}})]],
        *([[block(when), result(0)]] for when in (None, "", "0x", "soon", OVER + 99, "-0x1", "0x" + "f" * 17)),
        *([[block(hex(OVER + 99), number), result(0)]] for number in (None, 31, "latest", "0x")),
        [[json_http({"result": None}), result(0)]],
        [[json_http({"result": []}), result(0)]],
    ],
)
def test_less_than_two_or_any_contradiction_decides_nothing(monkeypatch: pytest.MonkeyPatch, others: list[Any]) -> None:
    """A server that lags, fails or lies is not a second witness, and a single "used" contradicts the others."""
    with chain(monkeypatch, [LATER, result(0)], *others) as (gateway, _):
        assert not is_over(gateway)


def test_practice_decides_by_its_own_clock() -> None:
    """The practice gateway's clock is the date of its answers; without a date nothing is expired."""
    late = json_http({}, date="Fri, 15 Jan 2027 08:00:30 GMT")
    early = json_http({}, date="Fri, 15 Jan 2027 08:00:29 GMT")
    unused, spent = json_http({"used": False}), json_http({"used": True})
    with raw_server(late, unused, late, spent, early, json_http({}), RESET) as server:
        gateway = practice_at(server.url)

        assert [True, False, False, False, False] == [is_over(gateway, PRACTICE) for _ in range(5)]


def test_nobody_decides_on_a_network_that_is_not_ours() -> None:
    """No server is asked about a network outside our table, and no real gateway about play money."""
    gateway = Gateway("base", "https://blockrun.example/api", (BASE,))

    assert not is_over(gateway, PRACTICE)
    assert not is_over(gateway, replace(BASE, id="eip155:1"))


# -- the practice gateway, which has its own ledger


@pytest.mark.parametrize(
    ("body", "known"),
    [
        ({"used": True, "transaction": HASH}, (True, HASH)),
        ({"used": True}, (True, None)),
        ({"used": False, "transaction": None}, (False, None)),
        ({"used": 1}, (None, None)),
        ({}, (None, None)),
        ([], (None, None)),
    ],
)
def test_the_practice_gateway_knows(body: Any, known: tuple[bool | None, str | None]) -> None:
    """The practice gateway's answer about play money counts alone."""
    with raw_server(json_http(body)) as server:
        assert known == used(practice_at(server.url), PRACTICE)

    assert f"/practice/authorization/{PAYER}/{NONCE}" == server.seen[0].target


@pytest.mark.parametrize("answer", [RESET, json_http({"used": True}, 404), http(b"no")], ids=["reset", "404", "text"])
def test_a_practice_gateway_that_does_not_answer_knows_nothing(answer: Any) -> None:
    """An error of the practice gateway leaves the answer unknown and raises nothing."""
    with raw_server(answer) as server:
        assert (None, None) == used(practice_at(server.url), PRACTICE)


def test_a_real_gateway_is_not_asked_about_play_money() -> None:
    """A real gateway is not asked about a practice payment."""
    assert PRACTICE.id in NETWORKS
    assert (None, None) == used(Gateway("base", "https://blockrun.example/api", (BASE,)), PRACTICE)


@pytest.mark.parametrize(
    ("answer", "micros"),
    [
        (json_http({"balance": "9.475"}), 9_475_000),
        (json_http({"balance": 10}), 10_000_000),
        (json_http({"balance": "$10.00"}), 10_000_000),
        (json_http({"balance": "plenty"}), None),
        (json_http({}), None),
        (json_http([]), None),
        (json_http({"balance": "1"}, 500), None),
    ],
)
def test_play_money_is_asked_of_the_practice_gateway(answer: bytes, micros: int | None) -> None:
    """The play balance comes from the gateway in dollars; an unreadable answer gives no balance."""
    with raw_server(answer) as server:
        found = balance_of(practice_at(server.url))

    assert micros == (found.micros if found else None)
    assert f"/v1/balance?address={PAYER}" == server.seen[0].target


def headers_of(server: RawServer) -> Mapping[str, str]:
    """Return the headers of the first request."""
    return server.seen[0].headers


def test_no_payment_header_goes_to_anybody_who_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request has neither a payment header nor an authorization header."""
    with chain(monkeypatch, result(0), result(0)) as (gateway, servers):
        used(gateway)

    names = headers_of(servers[0]).keys()

    assert not names & {"payment-signature", "x-payment", "authorization"}
