"""A Solana cluster of our own with a dollar token, and a gateway that is paid there by the official x402 package.

LiteSVM runs the programs: the SPL Token program moves the token, and the mint has the address of USDC.
`ClusterRpc` answers for the cluster over JSON-RPC, truly or not; `SolanaGate` passes every payment to the
facilitator of `x402`, which checks it, adds the fee payer's signature and sends it.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from solders.account import Account
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.token import ID as TOKEN_PROGRAM
from solders.token.associated import get_associated_token_address
from solders.token.state import Mint, TokenAccount, TokenAccountState
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from x402.mechanisms.svm.exact.facilitator import ExactSvmScheme
from x402.schemas import PaymentPayload, PaymentRequirements

from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.payments.x402.networks import SOLANA, SolanaNetwork
from fakes.http_server import HangUp, Served, picture

__all__ = ["FEE_PAYER", "PAYEE", "PAYER", "ClusterRpc", "LocalCluster", "SolanaGate", "entry_of", "solana_payer"]

_MINT = Pubkey.from_string(SOLANA.asset)
_LAMPORTS = 10**9
_BLOCKHASH_TTL = 150

# Public keys: nobody may ever fund them.
PAYER, _FEE_KEY, PAYEE = (Keypair.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
FEE_PAYER = str(_FEE_KEY.pubkey())


def entry_of(price: int) -> dict[str, Any]:
    """Return a gateway's terms for a price in micro-dollars."""
    return {
        "scheme": "exact",
        "network": SOLANA.id,
        "asset": SOLANA.asset,
        "amount": str(price),
        "payTo": str(PAYEE.pubkey()),
        "maxTimeoutSeconds": 300,
        "extra": {"feePayer": FEE_PAYER},
    }


def solana_payer() -> SolanaWallet:
    """Return a wallet without funds."""
    return SolanaWallet(Secret(bytes(PAYER)), "a test")


@dataclass
class _Landed:
    """A transaction in a block, as servers list it."""

    signature: str
    memo: str
    slot: int
    time: int


class LocalCluster:
    """The cluster: one block per transaction; `travel` adds blocks."""

    def __init__(self, funds: int) -> None:
        self._vm = LiteSVM()
        self._lock = threading.Lock()
        self._vm.airdrop(_FEE_KEY.pubkey(), _LAMPORTS)
        mint = Mint(Pubkey.default(), 10**15, 6, is_initialized=True)
        self._vm.set_account(_MINT, Account(_LAMPORTS, bytes(mint), TOKEN_PROGRAM))
        for owner, amount in ((PAYER, funds), (PAYEE, 0)):
            self._open_account(owner.pubkey(), amount)
        self.height = 1000
        self.landed: list[_Landed] = []
        self._last_height = self.height + _BLOCKHASH_TTL

    def _open_account(self, owner: Pubkey, amount: int) -> None:
        content = TokenAccount(_MINT, owner, amount, None, TokenAccountState.Initialized, None, 0, None)
        place = get_associated_token_address(owner, _MINT)
        self._vm.set_account(place, Account(_LAMPORTS, bytes(content), TOKEN_PROGRAM))

    def balance(self, owner: Keypair) -> int:
        """Return the balance of `owner` in micro-dollars."""
        with self._lock:
            account = self._vm.get_account(get_associated_token_address(owner.pubkey(), _MINT))
        assert account is not None
        return int(TokenAccount.from_bytes(account.data).amount)

    def travel(self, blocks: int) -> None:
        """Add blocks; the blockhash expires at the end of its life."""
        with self._lock:
            self.height += blocks
            if self.height > self._last_height:
                self._vm.expire_blockhash()
                self._last_height = self.height + _BLOCKHASH_TTL

    @property
    def blockhash(self) -> tuple[str, int]:
        """The latest blockhash, and the height at which it expires."""
        with self._lock:
            return str(self._vm.latest_blockhash()), self._last_height

    def simulate(self, transaction: VersionedTransaction) -> None:
        """Raise RuntimeError with the cluster's error if it would refuse a transaction."""
        with self._lock:
            result = self._vm.simulate_transaction(transaction)
        if isinstance(result, FailedTransactionMetadata):
            raise RuntimeError(str(result.err()))  # noqa: TRY004  a refusal, not a type

    def send(self, transaction: VersionedTransaction) -> str:
        """Put a transaction into a block, and return its name; raises RuntimeError if it is refused."""
        with self._lock:
            result = self._vm.send_transaction(transaction)
            if isinstance(result, FailedTransactionMetadata):
                raise RuntimeError(str(result.err()))  # noqa: TRY004  a refusal, not a type
            name = str(transaction.signatures[0])
            memo = bytes(transaction.message.instructions[-1].data).decode()
            self.height += 1
            self.landed.append(_Landed(name, f"[{len(memo)}] {memo}", self.height, int(time.time())))
            return name


class ClusterRpc(Served):
    """A public JSON-RPC server of a cluster; `twist` changes its answers, or drops the connection (None)."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__()
        self._cluster = cluster
        self.twist: Callable[[str, Any], Any] = lambda _method, result: result

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}/"

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(routes=[Route("/", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        asked = await request.json()
        result = self.twist(asked["method"], self._result(asked["method"], asked["params"]))
        if result is None:
            return HangUp()
        return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    def _result(self, method: str, params: list[Any]) -> Any:
        if method == "getLatestBlockhash":
            name, last = self._cluster.blockhash
            return {"context": {"slot": 1}, "value": {"blockhash": name, "lastValidBlockHeight": last}}
        if method == "getEpochInfo":
            return {"absoluteSlot": self._cluster.height, "blockHeight": self._cluster.height}
        if method == "getTokenAccountBalance":
            assert params[0] == str(get_associated_token_address(PAYER.pubkey(), _MINT))
            return {"context": {"slot": 1}, "value": {"amount": str(self._cluster.balance(PAYER)), "decimals": 6}}
        if method == "getSignaturesForAddress":
            assert params[0] == str(get_associated_token_address(PAYER.pubkey(), _MINT))
            return [
                {"signature": one.signature, "slot": one.slot, "err": None, "memo": one.memo, "blockTime": one.time}
                for one in reversed(self._cluster.landed)
            ]
        raise AssertionError(f"nobody asks a cluster for {method} here")


class _Signer:
    """The facilitator's signer: the fee payer's key, and the cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    def get_addresses(self) -> list[str]:
        return [FEE_PAYER]

    def sign_transaction(self, tx_base64: str, fee_payer: str, _network: str) -> str:
        assert fee_payer == FEE_PAYER
        half = VersionedTransaction.from_bytes(base64.b64decode(tx_base64))
        signature = _FEE_KEY.sign_message(to_bytes_versioned(half.message))
        return base64.b64encode(
            bytes(VersionedTransaction.populate(half.message, [signature, half.signatures[1]]))
        ).decode()

    def simulate_transaction(self, tx_base64: str, _network: str) -> None:
        self._cluster.simulate(VersionedTransaction.from_bytes(base64.b64decode(tx_base64)))

    def send_transaction(self, tx_base64: str, _network: str) -> str:
        return self._cluster.send(VersionedTransaction.from_bytes(base64.b64decode(tx_base64)))

    def confirm_transaction(self, tx_signature: str, _network: str) -> None:
        assert Signature.from_string(tx_signature)


class SolanaGate(Served):
    """A gateway that asks for `price` micro-dollars on the cluster; `loses` is the point at which it hangs up.

    With `slow`, an order is charged at once and becomes a job that takes this number of polls, as at
    `sol.blockrun.ai`. A poll is proved by a signature of the job, or by the payment if `takes_proof` is False.
    With `job_fails`, the job fails.
    """

    def __init__(self, cluster: LocalCluster, rpc_urls: tuple[str, ...], price: int) -> None:
        super().__init__()
        self.network: SolanaNetwork = replace(SOLANA, rpc_urls=rpc_urls)
        self.facilitator = ExactSvmScheme(_Signer(cluster))
        self.entry = entry_of(price)
        self.shown: list[str] = []
        self.loses: str | None = None
        self.slow, self.takes_proof, self.job_fails = 0, True, False
        self.proved: list[bool] = []
        """One entry per poll: whether a signature proved it."""

    @property
    def gateway(self) -> Gateway:
        """The gateway for a studio."""
        return Gateway("solana", f"http://127.0.0.1:{self.port}", (self.network,))

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/v1/images/generations", self._generate, methods=["POST"]),
                Route("/v1/images/generations/{job}", self._polled),
            ]
        )

    async def _polled(self, request: Request) -> Response:
        names = ("x-poll-wallet", "x-poll-timestamp", "x-poll-signature")
        wallet, at, signature = (request.headers.get(name, "") for name in names)
        proved = bool(wallet)
        self.proved.append(proved)
        if proved:
            message = f"blockrun-poll:v1:image:{request.path_params['job']}:{at}".encode()
            right = Signature.from_string(signature).verify(Pubkey.from_string(wallet), message)
            if not self.takes_proof or not right or wallet != str(PAYER.pubkey()) or abs(time.time() - int(at)) > 300:
                return JSONResponse({"error": "Job not found"}, 404)
        elif request.headers.get("payment-signature") not in self.shown:
            return JSONResponse({"error": "Payment Required"}, 402)
        self.slow -= 1
        if self.slow > 0:
            return JSONResponse({"status": "in_progress"}, 202)
        if self.job_fails:
            return JSONResponse({"status": "failed", "error": "No paint"})
        url = "data:image/png;base64," + base64.b64encode(picture(1, "PNG")).decode()
        return JSONResponse({"status": "completed", "data": [{"url": url}]})

    async def _generate(self, request: Request) -> Response:
        header = request.headers.get("payment-signature")
        if header is None:
            terms = {"x402Version": 2, "accepts": [self.entry], "resource": {"url": "/v1/images/generations"}}
            encoded = base64.b64encode(json.dumps(terms).encode()).decode()
            return JSONResponse({"error": "Payment Required"}, 402, {"PAYMENT-REQUIRED": encoded})
        self.shown.append(header)
        if self.loses == "unsettled":
            return HangUp()
        payload = PaymentPayload.model_validate(json.loads(base64.b64decode(header)))
        settled = self.facilitator.settle(payload, PaymentRequirements.model_validate(self.entry))
        if self.loses == "settled":
            return HangUp()
        if not settled.success:
            return JSONResponse({"error": "Payment verification failed", "details": settled.error_reason}, 402)
        receipt = {"success": True, "transaction": settled.transaction, "network": SOLANA.id, "payer": settled.payer}
        encoded = base64.b64encode(json.dumps(receipt).encode()).decode()
        if self.slow:
            about = {"id": "img_1", "status": "queued", "poll_url": "/v1/images/generations/img_1"}
            return JSONResponse(about, 202, {"PAYMENT-RESPONSE": encoded})
        url = "data:image/png;base64," + base64.b64encode(picture(1, "PNG")).decode()
        return JSONResponse({"created": 1, "data": [{"url": url}]}, 200, {"PAYMENT-RESPONSE": encoded})
