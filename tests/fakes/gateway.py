"""A gateway that the tests control, and studios that buy from it, each with a folder of its own.

The gateway really verifies every signature, moves play money at most once per nonce, and remembers every payment
header. A test makes it fail with an *act* at a *point* of a purchase. Points, in the order of a purchase: "connect",
"challenge", "paid" (verified, nothing moved), "settled", "job", "job price", "poll" (nothing moved), "polled"
(settled), "media" and "witness".
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import io
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from email import policy
from email.parser import BytesParser
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from unittest import mock

from eth_account import Account
from eth_account.messages import encode_typed_data
from PIL import Image

from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.client import Client, Timeouts
from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.gateway.request import PriceKey
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.x402.networks import PRACTICE, EvmNetwork
from blockrun_magic.studio import RetryPolicy, Studio
from blockrun_magic.studio.services import Wallets, purchase_services
from harness import PATIENCE
from harness.wallets import TYPES

PAYEE = "0x" + "5a" * 20
QUICK = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.05, poll_every=0.01, poll_at_most_every=0.02)
_WINDOW = 300
_SECONDS_TO_SETTLE = 6


@dataclass
class Clock:
    """The world's clock; a test moves it by hand."""

    ahead: float = 0.0

    def __call__(self) -> float:
        """Return the Unix time of the world."""
        return time.time() + self.ahead


@dataclass(frozen=True)
class PaymentPayload:
    """An authorization whose signature was verified; `value` in micro-USDC."""

    payer: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    signature: str = ""


@dataclass(frozen=True)
class Shown:
    """A payment header as it arrived: its time, and the body of its request."""

    at: float
    order: str
    header: str
    payload: PaymentPayload


class Chain:
    """The chain that moves the money: once per nonce, and only inside the window of the signature."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.moved: dict[str, PaymentPayload] = {}

    def cash(self, payload: PaymentPayload) -> str:
        """Move the money and return the transaction; cashing twice moves it once."""
        if payload.nonce not in self.moved:
            if not payload.valid_after < self._clock() < payload.valid_before:
                raise InvalidPayment("the authorization is outside its window")
            self.moved[payload.nonce] = payload
        return self.transaction(payload.nonce)

    def transaction(self, nonce: str) -> str:
        """Return the hash of the transaction that cashed a nonce."""
        return transaction_of(nonce)

    @property
    def total(self) -> int:
        """The sum of all moved money, in micro-USDC."""
        return sum(payload.value for payload in self.moved.values())


def transaction_of(nonce: str) -> str:
    """Return the hash of the transaction that cashes a nonce."""
    return "0x" + hashlib.sha256(f"settled {nonce}".encode()).hexdigest()


class InvalidPayment(Exception):
    """A payment that the gateway refuses."""

    def __init__(self, why: str, code: str = "PAYMENT_INVALID") -> None:
        self.why, self.code = why, code
        super().__init__(why)


class HangUp(Exception):
    """A request to reset the connection now."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; with `raw`, only those bytes are sent; with `cut`, only this number of bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    cut: int | None = None
    close: bool = False

    @classmethod
    def of(cls, status: int, content: Any, **headers: str) -> Reply:
        """Return an answer with `content` as JSON; header names have underscores for hyphens."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(content).encode(), names)

    def content(self) -> dict[str, Any]:
        """Return the JSON of the body."""
        return dict(json.loads(self.body))


@dataclass
class Exchange:
    """One request to the merchant; `reply` is its honest answer."""

    merchant: Merchant
    method: str = ""
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The order in the body, and its endpoint."""
    reply: Reply | None = None
    payload: PaymentPayload | None = None
    read: Callable[[int], Awaitable[bytes]] | None = None

    @property
    def payment(self) -> str | None:
        """The payment header, if there is one."""
        return self.headers.get("payment-signature")

    @property
    def form(self) -> str | None:
        """The content type of a form with files; None for JSON."""
        kind = self.headers.get("content-type", "")
        return kind if kind.startswith("multipart/form-data") else None

    def ordered(self) -> dict[str, Any]:
        """Return the order in the body; files are bytes."""
        if self.form is None:
            return dict(json.loads(self.body))
        whole = BytesParser(policy=policy.HTTP).parsebytes(f"Content-Type: {self.form}\r\n\r\n".encode() + self.body)
        fields: dict[str, Any] = {}
        for part in whole.iter_parts():
            name = str(part.get_param("name", header="content-disposition"))
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            fields[name] = content if part.get_filename() else content.decode()
        return fields | {"n": int(fields["n"])}


Act = Callable[[Exchange], Awaitable[Reply | None]]


@dataclass
class Job:
    """A slow order that is done after `polls_left` more polls."""

    id: str
    order: str
    fields: Mapping[str, Any]
    amount: int
    polls_left: int
    paid_by: str | None = None


class Merchant:
    """A gateway on loopback, in a thread of its own; `clock` is the world's clock."""

    def __init__(
        self,
        clock: Callable[[], float],
        acts: Mapping[str, Act] | None = None,
        *,
        slow: bool = False,
        witness: bool = True,
        form: str = "data",
        network: EvmNetwork = PRACTICE,
    ) -> None:
        self.clock = clock
        self.chain = Chain(clock)
        self.acts: dict[str, Act] = dict(acts or {})
        self.slow, self.witness, self.form, self.network = slow, witness, form, network
        self.hands_out_again = True
        self.surcharge = 0
        self.window = _WINDOW
        self.urls_lapse = False
        self.takes_files = self.looks_before_paid = True
        self.requests = 0
        self.shown: list[Shown] = []
        self.orders: dict[str, str] = {}
        self.jobs: dict[str, Job] = {}
        self.handed_out = 0
        self.silent = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._halt = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._port = 0

    # -- start and end

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="merchant", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._halt.set)
        self._thread.join()

    @property
    def gateway(self) -> Gateway:
        """The merchant as a gateway, paid on its own network."""
        return replace(practice_at(f"http://127.0.0.1:{self._port}/api"), networks=(self.network,))

    def shut(self) -> None:
        """Refuse connections until `heal` is called."""
        asyncio.run_coroutine_threadsafe(self.close_door(), self._loop).result()

    def heal(self) -> None:
        """Remove all acts and accept connections again."""
        self.acts.clear()
        asyncio.run_coroutine_threadsafe(self.open_door(), self._loop).result()

    async def open_door(self) -> None:
        """Listen on the same port as before."""
        if self._server is None:
            listener = socket.create_server(("127.0.0.1", self._port))
            self._port = listener.getsockname()[1]
            self._server = await asyncio.start_server(self._serve, sock=listener, limit=2**20)

    async def close_door(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cash_what_it_holds(self) -> None:
        """Cash every payload that the merchant has seen and that the chain still accepts."""
        for shown in self.shown:
            with suppress(InvalidPayment):
                self.chain.cash(shown.payload)

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            await self.open_door()
            ready.set()
            await self._halt.wait()
            await self.close_door()
            for writer in list(self._writers):
                writer.transport.abort()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)

        self._loop.run_until_complete(serve())
        self._loop.close()

    # -- HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._act("connect", Exchange(self, read=reader.read))
            while (exchange := await self._read(reader)) is not None:
                exchange.read = reader.read
                reply = await self._answer(exchange)
                await self._send(writer, reply)
                if reply.close or reply.raw is not None or reply.cut is not None:
                    break
            writer.close()
        except HangUp:
            # With a linger time of zero, the kernel resets the connection when it closes.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._writers.discard(writer)

    async def _read(self, reader: asyncio.StreamReader) -> Exchange | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests += not path.startswith("/api/practice/")  # a witness is asked separately
        return Exchange(self, method, path, headers, body)

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        if reply.raw is not None:
            writer.write(reply.raw)
        else:
            headers = {
                "Date": formatdate(self.clock(), usegmt=True),
                "Content-Type": "application/json",
                "Content-Length": str(len(reply.body)),
                **({"Connection": "close"} if reply.close else {}),
                **reply.headers,
            }
            lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            head = "\r\n".join(lines) + "\r\n\r\n"
            writer.write(head.encode("latin-1") + reply.body[: reply.cut])
        await writer.drain()

    async def _act(self, point: str, exchange: Exchange, reply: Reply | None = None) -> Reply | None:
        """Return the answer of the act at `point`, or `reply` without one."""
        act = self.acts.get(point)
        if act is None:
            return reply
        exchange.reply = reply
        return await act(exchange) or reply

    # -- the gateway's work

    async def _answer(self, exchange: Exchange) -> Reply:
        path = exchange.path.removeprefix("/api")
        try:
            if match := re.fullmatch(r"/v1/jobs/(\w+)", path):
                return await self._polled(exchange, match[1])
            if match := re.fullmatch(r"/media/(\w+)/(\d+)", path):
                return await self._shown_picture(exchange, match[1], int(match[2]))
            if match := re.fullmatch(r"/practice/authorization/(\w+)/(\w+)", path):
                return await self._witnessed(exchange, match[2])
            if exchange.method == "POST":
                return await self._ordered(exchange, path)
        except InvalidPayment as rejected:
            return self._challenge(exchange, rejected)
        return Reply.of(404, {"error": "Not found"})

    async def _ordered(self, exchange: Exchange, path: str) -> Reply:
        if exchange.form and not self.takes_files and (exchange.payment or self.looks_before_paid):
            return Reply.of(415, {"error": "Unsupported Media Type"})
        fields = exchange.fields = exchange.ordered() | {"endpoint": path}
        if exchange.payment is None:
            challenge = self._challenge(exchange)
            return await self._act("challenge", exchange, challenge) or challenge
        order = hashlib.sha256(exchange.body).hexdigest()
        payload = exchange.payload = self._payload(exchange, order)
        known = self.orders.get(payload.nonce)
        if known is not None and known != order:
            raise InvalidPayment("the authorization was used for another request", "PAYMENT_REPLAY")
        if payload.nonce in self.chain.moved:
            return await self._hand_out(exchange, fields, payload.nonce, again=True)
        self._check_terms(payload, self._amount(fields))
        self.orders[payload.nonce] = order
        early = await self._act("paid", exchange)
        if early is not None:
            return early
        if self.slow:
            return await self._queued(exchange, fields, order)
        self.chain.cash(payload)
        return await self._hand_out(exchange, fields, payload.nonce, again=False)

    async def _hand_out(
        self, exchange: Exchange, fields: Mapping[str, Any], nonce: str, *, again: bool, **more: Any
    ) -> Reply:
        if again and not self.hands_out_again:
            raise InvalidPayment("the authorization was used already", "PAYMENT_REPLAY")
        self.handed_out += 1
        transaction = self.chain.transaction(nonce)
        receipt = {"success": True, "transaction": transaction, "network": self.network.id}
        content = {
            "created": int(self.clock()),
            "data": [self._entry(transaction, index) for index in range(fields["n"])],
            "payment": {"status": "settled", "tx_hash": transaction, "network": self.network.id},
            **more,
        }
        reply = Reply.of(200, content, PAYMENT_RESPONSE=to_header(receipt), X_Payment_Receipt=transaction)
        return await self._act("polled" if "id" in more else "settled", exchange, reply) or reply

    def _entry(self, transaction: str, index: int) -> dict[str, str]:
        name = f"{transaction[2:]}_{index}"
        if self.form == "url":
            return {"url": f"{self.gateway.base_url}/media/{name}/{self.handed_out}"}
        return {"url": "data:image/png;base64," + base64.b64encode(picture_for(name)).decode()}

    async def _shown_picture(self, exchange: Exchange, name: str, edition: int) -> Reply:
        if self.urls_lapse and edition != self.handed_out:
            return Reply.of(404, {"error": "This address has lapsed."})
        picture = Reply(200, picture_for(name), {"Content-Type": "image/png"})
        return await self._act("media", exchange, picture) or picture

    async def _queued(self, exchange: Exchange, fields: Mapping[str, Any], order: str) -> Reply:
        assert exchange.payload is not None
        name = "job" + exchange.payload.nonce[2:18]
        job = self.jobs.setdefault(name, Job(name, order, fields, exchange.payload.value, polls_left=2))
        reply = self._job_reply(job, "queued")
        return await self._act("job", exchange, reply) or reply

    def _job_reply(self, job: Job, status: str) -> Reply:
        about = {"id": job.id, "status": status, "payment_status": "verified", "poll_url": f"/api/v1/jobs/{job.id}"}
        return Reply.of(202, about)

    async def _polled(self, exchange: Exchange, name: str) -> Reply:
        job = self.jobs.get(name)
        if job is None:
            return Reply.of(404, {"error": "Not found"})
        exchange.fields = job.fields
        if exchange.payment is None:
            challenge = self._challenge(exchange, amount=job.amount)
            return await self._act("job price", exchange, challenge) or challenge
        payload = exchange.payload = self._payload(exchange, job.order)
        done = {"id": job.id, "status": "completed"}
        paid_by = payload.nonce if payload.nonce in self.chain.moved else job.paid_by
        if paid_by is not None:
            return await self._hand_out(exchange, job.fields, paid_by, again=True, **done)
        self._check_terms(payload, job.amount)
        early = await self._act("poll", exchange)
        if early is not None:
            return early
        job.polls_left -= 1
        if job.polls_left > 0:
            return self._job_reply(job, "in_progress")
        self.chain.cash(payload)
        job.paid_by = payload.nonce
        return await self._hand_out(exchange, job.fields, payload.nonce, again=False, **done)

    async def _witnessed(self, exchange: Exchange, nonce: str) -> Reply:
        used = nonce in self.chain.moved
        moved = {"value": self.chain.moved[nonce].value, "transaction": self.chain.transaction(nonce)} if used else {}
        reply = Reply.of(200, {"used": used, "transaction": None, **moved})
        return await self._act("witness", exchange, reply) or reply if self.witness else Reply.of(404, {})

    # -- x402, checked without our own package's help

    def _amount(self, fields: Mapping[str, Any]) -> int:
        key = PriceKey(fields["endpoint"], fields["model"], fields["size"], fields.get("quality"), fields["n"])
        return (SNAPSHOT.list_price(key) or 0) + self.surcharge

    def _offer(self, amount: int) -> dict[str, Any]:
        return {
            "scheme": "exact",
            "network": self.network.id,
            "amount": str(amount),
            "asset": self.network.asset,
            "payTo": PAYEE,
            "maxTimeoutSeconds": self.window,
            "extra": {"name": self.network.domain_name, "version": self.network.domain_version},
        }

    def _challenge(
        self, exchange: Exchange, rejected: InvalidPayment | None = None, *, amount: int | None = None
    ) -> Reply:
        url = f"http://127.0.0.1:{self._port}{exchange.path}"
        offer = self._offer(self._amount(exchange.fields) if amount is None else amount)
        required = {"x402Version": 2, "accepts": [offer], "resource": {"url": url}}
        body = {"error": "Payment Required"}
        headers = {"PAYMENT-REQUIRED": to_header(required)}
        if rejected is not None:
            body = {"error": "Payment verification failed", "details": rejected.why, "code": rejected.code}
            headers["PAYMENT-RESPONSE"] = to_header({"success": False, "errorReason": rejected.code})
        return Reply(402, json.dumps(body).encode(), headers)

    def _payload(self, exchange: Exchange, order: str) -> PaymentPayload:
        header = exchange.payment or ""
        envelope = json.loads(base64.b64decode(header, validate=True))
        words = envelope["payload"]["authorization"]
        message = {
            **{name: words[name] for name in ("from", "to")},
            **{name: int(words[name]) for name in ("value", "validAfter", "validBefore")},
            "nonce": bytes.fromhex(words["nonce"][2:]),
        }
        signable = encode_typed_data(self.network.domain, TYPES, message)
        signer = Account.recover_message(signable, signature=envelope["payload"]["signature"])
        if signer != words["from"] or words["to"].lower() != PAYEE:
            raise InvalidPayment("the signature is not the payer's")
        sums = message["value"], message["validAfter"], message["validBefore"]
        payload = PaymentPayload(signer, *sums, words["nonce"].lower(), envelope["payload"]["signature"])
        self.shown.append(Shown(self.clock(), order, header, payload))
        if envelope["accepted"] != self._offer(payload.value):
            raise InvalidPayment("accepted is not what was offered")
        return payload

    def _check_terms(self, payload: PaymentPayload, amount: int) -> None:
        if payload.value != amount:
            raise InvalidPayment(f"the price is {amount}")
        if not payload.valid_after < self.clock() < payload.valid_before - _SECONDS_TO_SETTLE:
            raise InvalidPayment("the authorization has expired or is not valid yet")


def to_header(content: Mapping[str, Any]) -> str:
    """Return `content` as an x402 header."""
    return base64.b64encode(json.dumps(content).encode()).decode()


@cache
def picture_for(name: str) -> bytes:
    """Return the PNG for a name; equal names give equal images."""
    color = hashlib.sha256(name.encode()).digest()[:3]
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (color[0], color[1], color[2])).save(file, "PNG")
    return file.getvalue()


# -- acts


def say(status: int, content: Any = None, **headers: str) -> Act:
    """Return an act that answers this instead of the honest answer."""

    async def act(exchange: Exchange) -> Reply:
        body = {"error": f"It answers {status}."} if content is None else content
        return Reply.of(status, body, **headers)

    return act


def say_raw(raw: bytes) -> Act:
    """Return an act that answers bytes that are not HTTP."""

    async def act(exchange: Exchange) -> Reply:
        return Reply(raw=raw)

    return act


async def reset(exchange: Exchange) -> Reply | None:
    """Reset the connection without an answer."""
    raise HangUp


async def stall(exchange: Exchange) -> Reply | None:
    """Send nothing until the client has disconnected."""
    exchange.merchant.silent.set()
    if exchange.read is not None:
        await exchange.read(-1)
    raise HangUp


async def reset_unread(exchange: Exchange) -> Reply | None:
    """Reset the connection as soon as the first byte arrives."""
    if exchange.read is not None:
        await exchange.read(1)
    raise HangUp


async def cut_off(exchange: Exchange) -> Reply:
    """Send half of the body, then close the connection."""
    reply = exchange.reply or Reply.of(200, {"data": [{"url": "data:image/png;base64,AAAA"}]})
    return replace(reply, cut=len(reply.body) // 2)


def change(**parts: Any) -> Act:
    """Return an act that replaces these parts of the honest answer or of its JSON."""

    async def act(exchange: Exchange) -> Reply:
        assert exchange.reply is not None
        reply, own = exchange.reply, {"status", "headers", "body", "close"}
        content = {name: value for name, value in parts.items() if name not in own}
        if content:
            reply = replace(reply, body=json.dumps(reply.content() | content).encode())
        return replace(reply, **{name: value for name, value in parts.items() if name in own})

    return act


def once(act: Act, call: int = 1) -> Act:
    """Return an act that does `act` at one call only: the first, or the one with this number."""
    calls = 0

    async def that_time(exchange: Exchange) -> Reply | None:
        nonlocal calls
        calls += 1
        return await act(exchange) if calls == call else None

    return that_time


def after(number: int, act: Act) -> Act:
    """Return an act that does `act` at every call after the first `number`."""
    calls = 0

    async def later(exchange: Exchange) -> Reply | None:
        nonlocal calls
        calls += 1
        return await act(exchange) if calls > number else None

    return later


def cashing(act: Act) -> Act:
    """Return an act that cashes the payload, then does `act`: the money moves, whatever the answer says."""

    async def cash_first(exchange: Exchange) -> Reply | None:
        assert exchange.payload is not None
        exchange.merchant.chain.cash(exchange.payload)
        return await act(exchange)

    return cash_first


# -- studios


def payer(name: str = "a payer of the tests") -> Wallet:
    """Return a wallet without funds."""
    return Wallet.from_key(hashlib.sha256(name.encode()).digest(), "a test")


_tls_context = functools.cache(ssl.create_default_context)
"""Loading the system's certificates for every client would take longer than the tests."""


@asynccontextmanager
async def studio_over(
    folder: Path,
    *,
    clock: Callable[[], float] = time.time,
    session: str = "first",
    retry: RetryPolicy = QUICK,
    timeouts: Timeouts | None = None,
    wallet: Wallet | None = None,
    **more: Any,
) -> AsyncIterator[Studio]:
    """Open a studio as a new kernel does, with its ledger, store and locks in `folder`; `more` has further services."""
    purse = wallet or payer()
    ledger = Ledger(folder / "ledger.sqlite", session, clock)
    # The tests cut no power: the records must survive the process, not the machine.
    ledger.database._connection.execute("PRAGMA synchronous = OFF")
    ledger.database._log = None
    with mock.patch.object(ssl, "create_default_context", _tls_context):
        client = Client(timeouts or Timeouts(connect=PATIENCE, answer=PATIENCE, image=PATIENCE))
    joined = more.get("account")
    account = joined(client) if joined else None
    services = purchase_services(
        client=client,
        ledger=ledger,
        store=Store(folder / "pictures"),
        wallets=Wallets(lambda _: purse, more.get("api_key"), (lambda: account) if account else None),
        catalogs=more.get("catalogs"),
        retry=retry,
        clock=clock,
    )
    studio = Studio(services, folder / "locks", more.get("usage_logs"))
    try:
        yield studio
    finally:
        await studio.close()
        ledger.close()
