"""Real transfers on a local chain: the ledger agrees with the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from blockrun_magic.errors import BlockrunError, PaymentOutcomeUnknown
from blockrun_magic.gateway.chain import status as truth
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.reports import spending_summary
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.x402.networks import BASE
from blockrun_magic.studio import Studio
from fakes.evm_rpc import LocalChain, OnChain, RpcServer
from fakes.gateway import PAYEE, Clock, InvalidPayment, Merchant, payer, reset, studio_over

REQUEST = ImageRequest("generate", "a fox", "black-forest/flux-1.1-pro")
FUNDS = 1_000_000
PRICE = 42_000
UNUSED = "0x" + "0" * 64
ME = payer().address


@pytest.fixture
def chain() -> LocalChain:
    """Return a chain on which the payer has a dollar."""
    ours = LocalChain()
    ours.mint(ME, FUNDS)
    return ours


@pytest.fixture
def servers(chain: LocalChain, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RpcServer]]:
    """Return three servers of this chain in place of Base's public servers."""
    with ExitStack() as stack:
        running = [stack.enter_context(RpcServer(chain)) for _ in range(3)]
        network = replace(BASE, rpc_urls=tuple(server.url for server in running))
        monkeypatch.setattr(truth, "NETWORKS", {network.id: network})
        yield running


@pytest.fixture
def merchant(chain: LocalChain, servers: list[RpcServer]) -> Iterator[Merchant]:
    """Return a gateway that cashes payments on that chain and answers no lookups."""
    network = replace(BASE, rpc_urls=tuple(server.url for server in servers))
    with Merchant(lambda: float(chain.now), network=network, witness=False) as running:
        running.chain = OnChain(chain)
        yield running


def payments(studio: Studio) -> list[Payment]:
    """Return every payment for REQUEST in the ledger."""
    [purchase] = studio.ledger.takes("real", REQUEST.digest)
    return studio.ledger.payments(purchase.id)


def test_our_signature_moves_the_money_and_the_ledger_has_the_transaction(
    chain: LocalChain, merchant: Merchant, tmp_path: Path
) -> None:
    """The payer's debit, the payee's credit and the ledger's settled amount are equal."""

    async def buy() -> None:
        async with studio_over(tmp_path) as studio:
            result = await studio.make(REQUEST, merchant.gateway)
            known = tuple(truth.NETWORKS.values())
            found = await studio.balance(replace(merchant.gateway, networks=known))

            assert PRICE == chain.balance(PAYEE) == spending_summary(studio.ledger, "real", "all").settled
            assert FUNDS - PRICE == chain.balance(ME)
            assert found is not None
            assert FUNDS - PRICE == found.micros
            assert found.source
            assert merchant.chain.transaction(payments(studio)[0].nonce or "") == result.receipt.transaction

    asyncio.run(buy())


def test_a_signature_is_cashed_once_and_only_as_it_is(chain: LocalChain, merchant: Merchant, tmp_path: Path) -> None:
    """The contract refuses a changed payload, and accepts the signed one once."""
    merchant.acts["paid"] = reset

    async def buy() -> None:
        async with studio_over(tmp_path) as studio:
            with pytest.raises(BlockrunError):
                await studio.make(REQUEST, merchant.gateway)

    asyncio.run(buy())
    payload = merchant.shown[0].payload
    for change in ({"value": PRICE + 1}, {"payer": PAYEE}, {"nonce": "0x" + "77" * 32}, {"valid_before": 2**40}):
        with pytest.raises(InvalidPayment, match="invalid signature"):
            chain.transfer(replace(payload, **change))
    chain.transfer(payload)
    with pytest.raises(InvalidPayment, match="used"):
        chain.transfer(payload)

    assert PRICE == chain.balance(PAYEE)


def test_of_two_prices_signed_for_one_picture_one_can_be_cashed(
    chain: LocalChain, merchant: Merchant, tmp_path: Path
) -> None:
    """Two payloads with different prices share a nonce, so only one of them can be cashed."""

    async def buy() -> None:
        async with studio_over(tmp_path) as studio:
            await studio.quote(REQUEST, merchant.gateway)
            merchant.surcharge = 1000
            await studio.make(REQUEST, merchant.gateway)

            assert PRICE + 1000 == chain.balance(PAYEE) == spending_summary(studio.ledger, "real", "all").settled

    asyncio.run(buy())
    refused, cashed = (shown.payload for shown in merchant.shown)

    assert (PRICE, PRICE + 1000) == (refused.value, cashed.value)
    with pytest.raises(InvalidPayment, match="used"):
        chain.transfer(refused)


def test_a_lost_answer_is_unknown_until_the_chain_is_asked(
    chain: LocalChain, merchant: Merchant, tmp_path: Path, servers: list[RpcServer]
) -> None:
    """A cashed payment with a lost response is unknown while the servers are silent, and settled afterwards."""

    async def buy() -> None:
        async with studio_over(tmp_path) as studio:
            merchant.acts["settled"] = reset
            for server in servers:
                server.twist = lambda _method, _result: None
            with pytest.raises(PaymentOutcomeUnknown):
                await studio.make(REQUEST, merchant.gateway)

            assert [State.UNKNOWN] == [payment.state for payment in payments(studio)]
            for server in servers:
                server.twist = lambda _method, result: result

            assert 1 == await studio.reconcile(merchant.gateway)
            assert [State.SETTLED] == [payment.state for payment in payments(studio)]
            assert PRICE == chain.balance(PAYEE) == spending_summary(studio.ledger, "real", "all").settled

            merchant.heal()
            await studio.make(REQUEST, merchant.gateway)

            assert PRICE == chain.balance(PAYEE)

    asyncio.run(buy())


@pytest.mark.parametrize("ahead", [-3600, 0, 3600])
def test_what_was_not_cashed_is_given_back_when_the_chain_says_that_its_time_is_over(
    chain: LocalChain, merchant: Merchant, tmp_path: Path, ahead: int
) -> None:
    """Only a block after the signature's expiry releases the payment, even if the local clock is wrong."""
    clock = Clock()

    async def buy() -> None:
        async with studio_over(tmp_path, clock=clock) as studio:
            merchant.acts["paid"] = reset
            with pytest.raises(BlockrunError):
                await studio.make(REQUEST, merchant.gateway)
            clock.ahead = float(ahead)

            assert 0 == await studio.reconcile(merchant.gateway)
            assert [State.UNKNOWN] == [payment.state for payment in payments(studio)]

            chain.travel(320)
            assert 0 == await studio.reconcile(merchant.gateway)

            chain.travel(40)
            clock.ahead = float(max(ahead, 400))
            assert 1 == await studio.reconcile(merchant.gateway)
            assert [State.RELEASED] == [payment.state for payment in payments(studio)]

    asyncio.run(buy())
    with pytest.raises(InvalidPayment, match="expired"):
        chain.transfer(merchant.shown[0].payload)

    assert FUNDS == chain.balance(ME)


def test_one_server_that_lies_or_lags_decides_nothing(
    chain: LocalChain, merchant: Merchant, tmp_path: Path, servers: list[RpcServer]
) -> None:
    """With one server silent, a contradiction between the other two leaves the payment unknown."""
    clock = Clock()

    async def buy() -> None:
        async with studio_over(tmp_path, clock=clock) as studio:
            merchant.acts["settled"] = reset
            servers[0].twist = lambda _method, _result: None
            servers[1].twist = lambda method, result: UNUSED if method == "eth_call" else result
            with pytest.raises(PaymentOutcomeUnknown):
                await studio.make(REQUEST, merchant.gateway)
            chain.travel(400)
            clock.ahead = 400.0

            assert 0 == await studio.reconcile(merchant.gateway)
            assert [State.UNKNOWN] == [payment.state for payment in payments(studio)]

            stale = {"number": hex(1), "timestamp": hex(chain.now - 4000)}
            servers[1].twist = lambda method, result: stale if method == "eth_getBlockByNumber" else result
            assert 1 == await studio.reconcile(merchant.gateway)
            assert [State.SETTLED] == [payment.state for payment in payments(studio)]

    asyncio.run(buy())

    assert PRICE == chain.balance(PAYEE)
