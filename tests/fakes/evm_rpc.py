"""A chain of our own with a real dollar contract: a gateway that cashes a signature there really moves money.

The chain runs on py-evm. The contract (token.vy) has the address of USDC on Base and checks signatures under its
domain, so only the servers' addresses are replaced. `RpcServer` answers for the chain over JSON-RPC, truly or not.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_tester import EthereumTester
from eth_tester.backends.pyevm.main import PyEVMBackend
from eth_tester.exceptions import TransactionFailed
from eth_utils.crypto import keccak
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from vyper import compile_code

from blockrun_magic.payments.x402.networks import BASE
from fakes.gateway import PAYEE, Chain, InvalidPayment, PaymentPayload
from fakes.http_server import HangUp, Served

__all__ = ["LocalChain", "OnChain", "RpcServer"]

_SOURCE = Path(__file__).parent / "token.vy"
_MINT = "mint(address,uint256)"
_TRANSFER = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"


@cache
def _code() -> bytes:
    compiled = compile_code(_SOURCE.read_text("utf-8"), output_formats=["bytecode_runtime"])
    return bytes.fromhex(compiled["bytecode_runtime"].removeprefix("0x"))


class LocalChain:
    """The chain: one block per transaction; `travel` moves its clock ahead."""

    def __init__(self) -> None:
        state = PyEVMBackend.generate_genesis_state(num_accounts=1)
        state[bytes.fromhex(BASE.asset[2:])] = {"balance": 0, "nonce": 1, "code": _code(), "storage": {}}
        self._tester = EthereumTester(PyEVMBackend(genesis_state=state))
        self._sender = self._tester.get_accounts()[0]
        self._lock = threading.Lock()

    @property
    def now(self) -> int:
        """The time of the latest block."""
        return int(self.block()["timestamp"], 16)

    def travel(self, seconds: int) -> None:
        """Move the chain's clock by `seconds`, and add a block."""
        with self._lock:
            self._tester.time_travel(int(self._tester.get_block_by_number("latest")["timestamp"]) + seconds)
            self._tester.mine_block()

    def mint(self, receiver: str, micros: int) -> None:
        """Give `receiver` this number of micro-dollars."""
        self._send(_MINT, ["address", "uint256"], [receiver, micros])

    def transfer(self, payload: PaymentPayload) -> str:
        """Cash a payload; return the transaction's hash, or raise InvalidPayment with the contract's error."""
        signature = bytes.fromhex(payload.signature.removeprefix("0x"))
        kinds = ["address", "address", *["uint256"] * 3, "bytes32", "uint8", "bytes32", "bytes32"]
        values = [
            payload.payer,
            PAYEE,
            payload.value,
            payload.valid_after,
            payload.valid_before,
            bytes.fromhex(payload.nonce[2:]),
            signature[64],
            signature[:32],
            signature[32:64],
        ]
        try:
            return self._send(_TRANSFER, kinds, values)
        except TransactionFailed as failure:
            raise InvalidPayment(str(failure)) from failure

    def balance(self, owner: str) -> int:
        """Return the balance of `owner` in micro-dollars."""
        data = keccak(text="balanceOf(address)")[:4] + encode(["address"], [owner])
        return int(self.call(BASE.asset, "0x" + data.hex()), 16)

    def call(self, contract: str, data: str, block: str = "latest") -> str:
        """Return a contract's answer at a block: "latest", or its number in hex."""
        at = int(block, 16) if block.startswith("0x") else block
        with self._lock:
            asked = {"from": self._sender, "to": contract, "data": data, "gas": 1_000_000}
            return str(self._tester.call(asked, block_number=at))

    def block(self) -> dict[str, str]:
        """Return the latest block as JSON-RPC shows it."""
        with self._lock:
            latest = self._tester.get_block_by_number("latest")
        return {name: hex(latest[name]) for name in ("number", "timestamp")}

    def logs(self, question: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the events that match `question`, as JSON-RPC shows them."""
        with self._lock:
            found = self._tester.get_logs(
                from_block=int(question["fromBlock"], 16),
                to_block=min(int(question["toBlock"], 16), self._tester.get_block_by_number("latest")["number"]),
                address=question["address"],
                topics=question["topics"],
            )
        return [_shown(log) for log in found]

    def receipt(self, transaction: str) -> dict[str, Any]:
        """Return the receipt of a transaction, with its events."""
        with self._lock:
            logs = self._tester.get_transaction_receipt(transaction)["logs"]
        return {"logs": [_shown(log) for log in logs]}

    def _send(self, signature: str, kinds: list[str], values: list[Any]) -> str:
        data = "0x" + (keccak(text=signature)[:4] + encode(kinds, values)).hex()
        with self._lock:
            order = {"from": self._sender, "to": BASE.asset, "data": data, "gas": 1_000_000}
            self._tester.call(order)  # a transaction reports its failure only in its receipt
            return str(self._tester.send_transaction(order))


def _shown(log: Any) -> dict[str, Any]:
    return {
        "address": log["address"],
        "topics": list(log["topics"]),
        "data": log["data"],
        "transactionHash": log["transaction_hash"],
        "logIndex": hex(log["log_index"]),
        "blockNumber": hex(log["block_number"]),
    }


class OnChain(Chain):
    """The chain of a merchant that cashes every payload on a LocalChain."""

    def __init__(self, chain: LocalChain) -> None:
        super().__init__(lambda: chain.now)
        self._real = chain
        self._transactions: dict[str, str] = {}

    def cash(self, payload: PaymentPayload) -> str:
        """Cash a payload on the real chain."""
        if payload.nonce not in self.moved:
            self._transactions[payload.nonce] = self._real.transfer(payload)
            self.moved[payload.nonce] = payload
        return self._transactions[payload.nonce]

    def transaction(self, nonce: str) -> str:
        """Return the hash of the transaction that cashed a nonce."""
        return self._transactions[nonce]


class RpcServer(Served):
    """A public JSON-RPC server of a chain; `twist` changes its answers, or drops the connection (None)."""

    def __init__(self, chain: LocalChain, twist: Callable[[str, Any], Any] = lambda _method, result: result) -> None:
        super().__init__()
        self._chain = chain
        self.twist = twist
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}/"

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(routes=[Route("/", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        asked = await request.json()
        method, params = asked["method"], asked["params"]
        self.asked.append(method)
        result = self.twist(method, self._result(method, params))
        if result is None:
            return HangUp()
        return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    def _result(self, method: str, params: list[Any]) -> Any:
        if method == "eth_getBlockByNumber":
            return {**self._chain.block(), "hash": "0x" + hashlib.sha256(b"a block").hexdigest()}
        if method == "eth_call":
            return self._chain.call(params[0]["to"], params[0]["data"], params[1])
        if method == "eth_getLogs":
            return self._chain.logs(params[0])
        if method == "eth_getTransactionReceipt":
            return self._chain.receipt(params[0])
        raise AssertionError(f"nobody asks a chain for {method} here")
