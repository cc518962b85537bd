"""Every fault we can think of, over real sockets: what moved is in the books, and what is said is true.

Each case runs a request against a faulty merchant, then again in a new studio against a healthy one, at
once or after the first signature has expired.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from merchant import (
    PAYEE,
    QUICK,
    Act,
    Clock,
    Exchange,
    Merchant,
    Reply,
    after,
    cashing,
    change,
    cut_off,
    once,
    payer,
    reset,
    say,
    say_raw,
    stall,
    studio_over,
    to_header,
    transaction_of,
)
from PIL import Image

from blockrun_magic.errors import (
    AnswerUnusable,
    BlockrunError,
    BudgetError,
    ContentRefused,
    GatewayUnreachable,
    JobFailed,
    LedgerError,
    OutcomeUnknown,
    PaymentRejected,
    RateLimited,
    RequestRejected,
    StoreError,
    TermsRefused,
    UpstreamFailed,
)
from blockrun_magic.gateway.client import Timeouts
from blockrun_magic.gateway.request import ImageRequest, Operation, Upload
from blockrun_magic.payments.database import told
from blockrun_magic.payments.networks import BASE, PRACTICE
from blockrun_magic.payments.reports import spending
from blockrun_magic.payments.states import State
from blockrun_magic.studio import ImageResult, Patience, Studio

_LONG = 400
"""Seconds after which every signature of the first run has certainly expired."""
_PICTURE = ImageResult
_TX = "0x" + "7" * 64
_NOTHING_CHARGED = re.compile(r"nothing (was |has been |is )?charged|not (been )?charged|no money", re.IGNORECASE)
_NOTHING_SIGNED = re.compile(r"nothing was (sent|signed)", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """One fault: where the merchant errs, and what each run must end with.

    `first` and `then` are what the runs return or raise, `later` the second run when the first
    signature has expired by then.
    """

    acts: Mapping[str, Act] = field(default_factory=dict)
    first: type = OutcomeUnknown
    then: type = _PICTURE
    later: type | None = None
    moved: bool = False
    """Whether money has moved when the first run ends."""
    slow: bool = False
    witness: bool = True
    form: str = "data"
    prepare: Callable[[Merchant, Clock], None] = lambda merchant, world: None
    spoil: Callable[[Studio, Merchant], Any] = lambda studio, merchant: None
    """What goes wrong on our own side, in the first run only."""
    meanwhile: Callable[[Merchant], None] = lambda merchant: None
    """What the merchant does between the runs."""
    timeouts: Timeouts | None = None
    patience: Patience = QUICK
    skew: float = 0.0
    """How far our clock is ahead of the world's."""


# -- acts of this file


async def _shut(exchange: Exchange) -> Reply | None:
    await exchange.merchant.close_door()
    return replace(exchange.reply, close=True) if exchange.reply else None


async def _next_day(exchange: Exchange) -> Reply | None:
    clock = exchange.merchant.clock
    assert isinstance(clock, Clock)
    clock.ahead += _LONG
    return None


async def _raise_price(exchange: Exchange) -> Reply | None:
    exchange.merchant.price_factor = 2
    return None


def _charge(status: int, *, body: bool = False, header: bool = False) -> Act:
    """Answer `status` to a cashed cheque, with the transaction in body or header, or nowhere."""

    async def act(exchange: Exchange) -> Reply:
        assert exchange.cheque is not None
        transaction = transaction_of(exchange.cheque.nonce)
        content: dict[str, Any] = {"error": "It broke."}
        if body:
            content["payment"] = {"status": "settled", "tx_hash": transaction}
        headers = {"PAYMENT_RESPONSE": to_header({"success": True, "transaction": transaction})} if header else {}
        return Reply.of(status, content, **headers)

    return act


def _terms(version: Any = 2, **parts: Any) -> Act:
    """Ask for a payment with these parts of the offer in place of the right ones; None leaves one out."""

    async def act(exchange: Exchange) -> Reply:
        offer = exchange.merchant._offer(52_500) | parts
        accepts = [{name: value for name, value in offer.items() if value is not None}]
        resource = {"url": parts.pop("resource", exchange.merchant.gateway.base_url)}
        content = {"x402Version": version, "accepts": accepts, "resource": resource}
        return Reply.of(402, {"error": "Payment Required"}, PAYMENT_REQUIRED=to_header(content))

    return act


def _challenge_header(value: str) -> Act:
    return say(402, {"error": "Payment Required"}, PAYMENT_REQUIRED=value)


def _bring(url: Callable[[Exchange], str] | str) -> Act:
    """Hand out this URL in place of the picture's."""

    async def act(exchange: Exchange) -> Reply:
        address = url if isinstance(url, str) else url(exchange)
        return await change(data=[{"url": address}])(exchange) or Reply()

    return act


def _send_to(poll_url: Any) -> Act:
    return change(poll_url=poll_url)


def _data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _bomb() -> bytes:
    png = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(png, "PNG")
    return png.getvalue()


def _truncated() -> bytes:
    png = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(png, "PNG")
    return png.getvalue()[:900]


def _without_receipt(status: int = 200, **parts: Any) -> Act:
    async def act(exchange: Exchange) -> Reply:
        assert exchange.reply is not None
        content = exchange.reply.content() | parts
        content.pop("payment", None)
        return Reply.of(status, content)

    return act


def _gives_without_cashing() -> Act:
    async def act(exchange: Exchange) -> Reply:
        return Reply.of(200, {"data": [exchange.merchant._entry("0x" + "ab" * 32, 0)]})

    return act


# -- faults of our own side


def _disk_full(studio: Studio, merchant: Merchant) -> Any:
    from blockrun_magic.pictures import store

    real = store._write_whole

    def write(path: Path, data: bytes) -> None:
        if merchant.chain.moved:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    return mock.patch.object(store, "_write_whole", write)


def _ledger_fails(*methods: str, also_after: bool = True) -> Callable[[Studio, Merchant], Any]:
    """Let these methods of the ledger find the database locked, at their first call or at every one."""

    def spoil(studio: Studio, _: Merchant) -> Any:
        ledger, calls = studio.ledger, dict.fromkeys(methods, 0)

        def failing(name: str) -> Callable[..., Any]:
            real = getattr(ledger, name)

            def fail(*args: Any, **kwargs: Any) -> Any:
                calls[name] += 1
                if not also_after and calls[name] > 1:
                    return real(*args, **kwargs)
                with told(ledger.path):
                    raise sqlite3.OperationalError("database is locked")

            return fail

        return mock.patch.multiple(ledger, **{name: failing(name) for name in methods})

    return spoil


def _log_is_a_folder(studio: Studio, merchant: Merchant) -> Any:
    return mock.patch("blockrun_magic.studio.studio.append_settled", side_effect=IsADirectoryError("cost_log.jsonl"))


_HASTY = Timeouts(connect=5, answer=0.4, picture=0.4)
_TWO = replace(QUICK, attempts=2)
_JUNK = b"SSH-2.0-OpenSSH_9.6\r\n\r\n"
_LIMITED = {"error": "Rate limit exceeded", "retry_after_seconds": 0.01}

FAULTS: dict[str, Fault] = {
    # -- before anything is signed
    "server down": Fault({"connect": _shut}, GatewayUnreachable, prepare=lambda merchant, _: None),
    "reset at the price": Fault({"challenge": reset}, GatewayUnreachable),
    "silent at the price": Fault({"challenge": stall}, GatewayUnreachable, timeouts=_HASTY),
    "half a body at the price": Fault({"challenge": cut_off}, GatewayUnreachable),
    "junk at the price": Fault({"challenge": say_raw(_JUNK)}, GatewayUnreachable),
    "500 at the price": Fault({"challenge": say(500)}, UpstreamFailed),
    "429 at the price": Fault({"challenge": say(429, _LIMITED)}, RateLimited),
    "400 at the price": Fault({"challenge": say(400)}, RequestRejected),
    "a picture without a price": Fault({"challenge": say(200, {"data": [{"url": "https://x/y"}]})}, AnswerUnusable),
    "terms: not base64": Fault({"challenge": _challenge_header("%%%")}, TermsRefused),
    "terms: not JSON": Fault({"challenge": _challenge_header(base64.b64encode(b"{").decode())}, TermsRefused),
    "terms: a list": Fault({"challenge": _challenge_header(base64.b64encode(b"[]").decode())}, TermsRefused),
    "terms: nothing accepted": Fault({"challenge": _challenge_header(to_header({"x402Version": 2}))}, TermsRefused),
    "terms: version 3": Fault({"challenge": _terms(version=3)}, TermsRefused),
    "terms: another network": Fault({"challenge": _terms(network=BASE.id)}, TermsRefused),
    "terms: another scheme": Fault({"challenge": _terms(scheme="upto")}, TermsRefused),
    "terms: another token": Fault({"challenge": _terms(asset="0x" + "22" * 20)}, TermsRefused),
    "terms: another domain": Fault({"challenge": _terms(extra={"name": "USD Coin"})}, TermsRefused),
    "terms: no payee": Fault({"challenge": _terms(payTo="0x" + "00" * 20)}, TermsRefused),
    "terms: the token is paid": Fault({"challenge": _terms(payTo=PRACTICE.asset)}, TermsRefused),
    "terms: we are paid": Fault({"challenge": _terms(payTo=payer().address)}, TermsRefused),
    "terms: no amount": Fault({"challenge": _terms(amount=None)}, TermsRefused),
    "terms: a negative amount": Fault({"challenge": _terms(amount="-1")}, TermsRefused),
    "terms: an amount of nothing": Fault({"challenge": _terms(amount="0")}, TermsRefused),
    "terms: for ever": Fault({"challenge": _terms(maxTimeoutSeconds="never")}, TermsRefused),
    "terms: another host's": Fault({"challenge": _terms(resource="https://elsewhere.example/x")}, TermsRefused),
    "terms: a million dollars": Fault({"challenge": _terms(amount="1000000000000")}, BudgetError),
    "the price is ten times the list's": Fault(
        prepare=lambda merchant, _: setattr(merchant, "price_factor", 10),
        meanwhile=lambda merchant: setattr(merchant, "price_factor", 1),
        first=BudgetError,
    ),
    # -- the connection, before money moves
    "no connection to pay": Fault({"challenge": _shut}, GatewayUnreachable),
    "reset before reading, once": Fault({"challenge": change(close=True), "connect": once(after(1, reset))}, _PICTURE),
    "reset before reading": Fault({"challenge": change(close=True), "connect": after(1, reset)}),
    "reset before settling, once": Fault({"paid": once(reset)}, _PICTURE, moved=True),
    "reset before settling": Fault({"paid": reset}),
    "silent before settling": Fault({"paid": stall}, timeouts=_HASTY, patience=_TWO),
    "half a body before settling": Fault({"paid": cut_off}),
    "junk before settling": Fault({"paid": say_raw(_JUNK)}),
    "cashed minutes later": Fault({"paid": reset}, meanwhile=Merchant.cash_what_it_holds),
    "rejected, cashed minutes later": Fault(
        {"paid": say(403)}, ContentRefused, meanwhile=Merchant.cash_what_it_holds
    ),
    # -- answers, before money moves
    **{f"{status} before settling": Fault({"paid": say(status)}) for status in (408, 425, 500, 502, 503, 504)},
    **{
        f"{status} before settling, once": Fault({"paid": once(say(status))}, _PICTURE, moved=True)
        for status in (408, 425, 429, 500, 502, 503, 504)
    },
    "429 before settling": Fault({"paid": say(429)}),
    "429 with Retry-After": Fault({"paid": say(429, _LIMITED, Retry_After="0.02")}),
    "429 with Retry-After, once": Fault({"paid": once(say(429, Retry_After="0.02"))}, _PICTURE, moved=True),
    "502 in HTML": Fault({"paid": change_to_html(502)} if False else {"paid": say(502)}),
    "402, bare": Fault({"paid": say(402)}, PaymentRejected),
    "402, the price changed": Fault({"challenge": _raise_price}, PaymentRejected, prepare=lambda m, _: None),
    "400 before settling": Fault({"paid": say(400)}, RequestRejected),
    "403 before settling": Fault({"paid": say(403)}, ContentRefused),
    "a redirect": Fault({"paid": say(307, Location="http://127.0.0.1:9/")}, RequestRejected),
}
