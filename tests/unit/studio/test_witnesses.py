"""Witnesses of payments: chains and ClawRouter's transfers on them, and the checks before a quote."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.errors import ClockError, Fate, GatewayUnreachable, UsageError
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.chain import rpc
from blockrun_magic.gateway.chain.evm import Transfer, cashed_transfer, outgoing_transfers
from blockrun_magic.gateway.gateways import gateway_at
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.x402.networks import BASE
from blockrun_magic.studio.payment.probe import check_quotes, remember_quotes
from blockrun_magic.studio.payment.signers import check_clock
from blockrun_magic.studio.reconciliation import transfers_of_clawrouter
from harness.ledgers import Clock, another_purchase

URL = "http://127.0.0.1:4021/api"
PAYER = "0x" + "c1" * 20
NONCE = "0x" + "0d" * 32
_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
_TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


class Asked:
    """A client that answers GET requests from a table."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.paths = answers, []

    async def get(self, _gateway: Any, path: str, _headers: Any = None) -> Response:
        """Return or raise the table's answer for a path."""
        self.paths.append(path)
        answer = self.answers.get(path, (404, {"error": "Not found"}))
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return Response(status, {}, json.dumps(body).encode())


def _check(ledger: Ledger, answers: dict[str, Any]) -> Asked:
    client = Asked(answers)
    asyncio.run(check_quotes(client, ledger, gateway_at(URL, {})))  # type: ignore[arg-type,unused-ignore]
    return client


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    """Yield an empty ledger."""
    with closing(Ledger(tmp_path / "ledger.sqlite", "one", Clock())) as ledger:
        yield ledger


# -- checks before a quote


@pytest.mark.parametrize(
    "health",
    [
        (200, {"status": "ok", "wallet": PAYER, "paymentChain": "base"}),
        (200, {"status": "degraded", "wallet": PAYER}),
        (503, {"status": "starting"}),
        (200, {"status": "ok", "address": PAYER}),
        (502, {"error": "Bad gateway"}),
        GatewayUnreachable("It fell silent.", "Try again."),
    ],
    ids=["a ClawRouter", "degraded", "503", "names its wallet otherwise", "502", "late"],
)
def test_what_may_be_a_clawrouter_is_asked_for_no_price(ledger: Ledger, health: Any) -> None:
    """Anything that may be a ClawRouter gets no quote request; the error suggests `clawrouter`."""
    with pytest.raises(UsageError) as caught:
        _check(ledger, {"/health": health})

    assert caught.value.money is not None
    assert Fate.NOTHING_SIGNED is caught.value.money.fate
    assert "clawrouter" in caught.value.hint


@pytest.mark.parametrize(
    "answers",
    [
        {"/v1/images/generations": (402, {"accepts": []})},
        {"/v1/images/generations": (405, {})},
        {"/health": (200, ["up"]), "/v1/images/generations": (402, {"accepts": []})},
    ],
    ids=["it asks to be paid", "it takes no GET", "its own health"],
)
def test_an_x402_gateway_is_asked_for_its_price(ledger: Ledger, answers: dict[str, Any]) -> None:
    """A 402 or 405 to a harmless GET identifies an x402 gateway."""
    assert set(_check(ledger, answers).paths) == {"/health", "/v1/images/generations"}


def test_a_gateway_that_asked_for_a_payment_is_known(ledger: Ledger) -> None:
    """A known x402 gateway is not checked again."""
    remember_quotes(ledger, gateway_at(URL, {}))

    assert [] == _check(ledger, {"/health": (503, {})}).paths


# -- clocks


@pytest.mark.parametrize(("off", "fine"), [(0, True), (119, True), (-119, True), (121, False), (-86_400 * 30, False)])
def test_nothing_is_signed_by_a_wrong_clock(off: float, fine: bool) -> None:
    """Nothing is signed if the clock differs from the gateway's by more than two minutes."""
    if fine:
        check_clock("base", 1000.0 + off, 1000.0, 1000.0)
        return
    with pytest.raises(ClockError) as caught:
        check_clock("base", 1000.0 + off, 1000.0, 1000.0)

    assert caught.value.money is not None
    assert Fate.NOTHING_SIGNED is caught.value.money.fate


def test_a_slow_answer_is_no_wrong_clock() -> None:
    """The gateway's date may lie anywhere between request and response; without a date, the clock passes."""
    check_clock("base", 1000.0, 900.0, 1300.0)
    check_clock("base", None, 0.0, 0.0)


# -- transfers on a chain


def _abi_word(address: str) -> str:
    return "0x" + address[2:].rjust(64, "0")


class Chain:
    """A chain as its servers report it: a head, logs and receipts."""

    def __init__(self, now: int = 2_000_000) -> None:
        self.now = now
        self.pace = 2.0
        """Seconds between two blocks."""
        self.logs: list[dict[str, Any]] = []
        self.lying: dict[str, list[dict[str, Any]]] = {}

    async def call(self, _client: Any, url: str, method: str, params: list[Any]) -> Any:
        """Answer one JSON-RPC request."""
        if method == "eth_getBlockByNumber":
            head = int(self.now // 2)
            number = head if params[0] == "latest" else int(params[0], 16)
            return {"number": hex(number), "timestamp": hex(int(self.now - (head - number) * self.pace))}
        logs = self.lying.get(url, self.logs)
        if method == "eth_getTransactionReceipt":
            return {"logs": [log for log in logs if log["transactionHash"] == params[0]]}
        wanted, first, last = params[0]["topics"], int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        return [
            log
            for log in logs
            if log["topics"][: len(wanted)] == wanted and first <= int(log["blockNumber"], 16) <= last
        ]

    def add(self, topics: list[str], amount: int, at: int, transaction: str, index: int) -> None:
        """Add a log at the time `at`."""
        self.logs.append(
            {
                "address": BASE.asset,
                "topics": topics,
                "data": "0x" + f"{amount:064x}",
                "transactionHash": transaction,
                "logIndex": hex(index),
                "blockNumber": hex(at // 2),
            }
        )


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Return a chain that all servers of Base report."""
    chain = Chain()
    monkeypatch.setattr(rpc, "call", chain.call)
    return chain


def test_the_log_says_which_payload_moved(chain: Chain) -> None:
    """The transfer after the nonce's log is the payment, even if its transaction has other transfers."""
    transaction = "0x" + "aa" * 32
    chain.add([_TRANSFER, _abi_word(PAYER), _abi_word("0x" + "01" * 20)], 99, 1_999_000, transaction, 3)
    chain.add([_USED, _abi_word(PAYER), NONCE], 0, 1_999_000, transaction, 4)
    chain.add([_TRANSFER, _abi_word(PAYER), _abi_word("0x" + "02" * 20)], 41_000, 1_999_000, transaction, 5)

    found = asyncio.run(cashed_transfer(None, BASE, PAYER, NONCE, 1_998_000, 1_999_500))  # type: ignore[arg-type]

    assert Transfer(transaction, 41_000) == found


def test_one_server_alone_decides_nothing(chain: Chain) -> None:
    """Servers that disagree about a transfer do not count."""
    transaction = "0x" + "aa" * 32
    chain.lying = {url: [] for url in BASE.rpc_urls[1:]}
    chain.add([_USED, _abi_word(PAYER), NONCE], 0, 1_999_000, transaction, 4)
    chain.add([_TRANSFER, _abi_word(PAYER), _abi_word("0x" + "02" * 20)], 41_000, 1_999_000, transaction, 5)

    assert asyncio.run(cashed_transfer(None, BASE, PAYER, NONCE, 1_998_000, 1_999_500)) is None  # type: ignore[arg-type]


def test_a_window_that_is_not_over_proves_nothing(chain: Chain) -> None:
    """Only a window that is over proves the absence of transfers."""
    assert asyncio.run(outgoing_transfers(None, BASE, PAYER, 1_990_000, 1_999_000)) == ()  # type: ignore[arg-type]
    assert asyncio.run(outgoing_transfers(None, BASE, PAYER, 1_990_000, 2_000_000)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("pace", [0.5, 3.0])
def test_a_chain_with_blocks_of_another_pace_proves_nothing(chain: Chain, pace: float) -> None:
    """If the chain's block times differ from the estimate, nothing is proven."""
    chain.pace = pace

    assert asyncio.run(outgoing_transfers(None, BASE, PAYER, 1_990_000, 1_999_000)) is None  # type: ignore[arg-type]


def _through_clawrouter(ledger: Ledger, **known: Any) -> Payment:
    payment = ledger.reserve(another_purchase(ledger), 52_500, prepaid=True, **known)
    ledger.submit(payment.id)
    return ledger.mark_unknown(payment.id, "no answer")


def test_clawrouters_wallet_is_asked_about_its_transfers(ledger: Ledger, chain: Chain) -> None:
    """Transfers from ClawRouter's wallet in the time of the request are returned; an unknown wallet gives None."""
    known = _through_clawrouter(ledger, payer=PAYER, network=BASE.id)
    unknown = _through_clawrouter(ledger)
    assert known.sent_at is not None
    chain.now = int(known.sent_at) + 10_000
    chain.add(
        [_TRANSFER, _abi_word(PAYER), _abi_word("0x" + "02" * 20)], 53_500, int(known.sent_at) + 8, "0x" + "bb" * 32, 1
    )

    assert (Transfer("0x" + "bb" * 32, 53_500),) == asyncio.run(transfers_of_clawrouter(None, known))  # type: ignore[arg-type]
    assert asyncio.run(transfers_of_clawrouter(None, unknown)) is None  # type: ignore[arg-type]
    assert State.UNKNOWN is ledger.payment(known.id).state
