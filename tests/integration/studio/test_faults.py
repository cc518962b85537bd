"""Faults over real sockets: the ledger contains all money that moved, and every message is true.

Each case runs a request against a faulty merchant, and again in a new studio against a healthy one, at once or after
the first signature has expired.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from PIL import Image

from blockrun_magic.database.file_errors import translate_errors
from blockrun_magic.errors import (
    BlockrunError,
    BudgetError,
    ClockError,
    ContentPolicyViolation,
    Fate,
    GatewayError,
    GatewayUnreachable,
    InvalidResponse,
    JobFailed,
    LedgerError,
    PaymentOutcomeUnknown,
    PaymentRejected,
    RateLimited,
    RequestRejected,
    TermsRefused,
    UpstreamFailed,
)
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.images import store as store_module
from blockrun_magic.payments.ledger.reports import spending_summary
from blockrun_magic.payments.x402.networks import BASE, PRACTICE
from blockrun_magic.studio import BatchProgress, ImageResult, Options, RetryPolicy, Studio, make_all
from blockrun_magic.studio.payment import settlement
from blockrun_magic.threads import run_io, run_within
from fakes.gateway import (
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
    reset_unread,
    say,
    say_raw,
    stall,
    studio_over,
    to_header,
    transaction_of,
)
from fakes.silence import gives_up
from harness import PATIENCE

_LONG = 400
"""Seconds after which all signatures of the first run have expired."""
_PICTURE = ImageResult
_TWO = replace(QUICK, attempts=2)
_JUNK = b"SSH-2.0-OpenSSH_9.6\r\n\r\n"
_LIMITED = {"error": "Rate limit exceeded", "retry_after_seconds": 0.01}
_RUNNING = {"status": "in_progress"}
_FAILED = {"status": "failed", "payment_status": "not_charged", "error": "It could not be painted."}
_REPLAY = {"error": "Payment verification failed", "code": "PAYMENT_REPLAY"}
_REFUSING = {400: RequestRejected, 402: PaymentRejected, 403: ContentPolicyViolation}
_PASSING = {408: UpstreamFailed, 425: UpstreamFailed, 429: RateLimited} | dict.fromkeys(
    (500, 502, 503, 504), UpstreamFailed
)


@dataclass(frozen=True)
class Fault:
    """One fault of the merchant or of our own machine, and the required end of each run.

    `first` and `then` are the types that the two runs return or raise; `later` replaces `then` if the first
    signature expires before the second run.
    """

    acts: Mapping[str, Act] = field(default_factory=dict)
    first: type = PaymentOutcomeUnknown
    then: type = _PICTURE
    later: type | None = None
    moved: bool = False
    """True if money has moved at the end of the first run."""
    prepare: Callable[[Merchant], None] = lambda merchant: None
    meanwhile: Callable[[Merchant], None] = lambda merchant: None
    """An action of the merchant between the runs, before it becomes healthy."""
    spoil: Callable[[Studio, Merchant], AbstractContextManager[Any]] = lambda studio, merchant: nullcontext()
    """A fault of our own machine, in the first run only."""
    slow: bool = False
    witness: bool = True
    form: str = "data"
    retry: RetryPolicy = QUICK
    hasty: bool = False
    """True if the first run gives up when the merchant is silent."""
    skew: float = 0.0
    """Seconds that our clock is ahead of the world's clock."""


# -- acts of these faults


async def _shut(exchange: Exchange) -> Reply | None:
    await exchange.merchant.close_door()
    return replace(exchange.reply, close=True) if exchange.reply else None


async def _much_later(exchange: Exchange) -> Reply | None:
    clock = exchange.merchant.clock
    assert isinstance(clock, Clock)
    clock.ahead += _LONG
    return None


async def _raise_price(exchange: Exchange) -> Reply | None:
    exchange.merchant.surcharge = 1000
    return None


def _surcharge(amount: int) -> Callable[[Merchant], None]:
    return lambda merchant: setattr(merchant, "surcharge", amount)


def _hand_out_once(merchant: Merchant) -> None:
    merchant.hands_out_again = False


def _lapse(merchant: Merchant) -> None:
    merchant.urls_lapse = True


def _paid_for(status: int, where: str) -> Act:
    """Answer `status` to a cashed payload, with the transaction in the "body", in the "header" or in neither."""

    async def act(exchange: Exchange) -> Reply:
        assert exchange.payload is not None
        transaction = transaction_of(exchange.payload.nonce)
        receipt = {"PAYMENT_RESPONSE": to_header({"success": True, "transaction": transaction})}
        payment = {"payment": {"status": "settled", "tx_hash": transaction}}
        content = {"error": "It broke."} | (payment if where == "body" else {})
        return Reply.of(status, content, **(receipt if where == "header" else {}))

    return act


def _ask(version: int = 2, resource: str | None = None, **parts: Any) -> Act:
    """Ask for a payment with these parts of the offer changed; a part that is None is left out."""

    async def act(exchange: Exchange) -> Reply:
        merchant = exchange.merchant
        offer = merchant._offer(merchant._amount(exchange.fields)) | parts
        accepts = [{name: value for name, value in offer.items() if value is not None}]
        about = {"url": resource or merchant.gateway.base_url}
        content = {"x402Version": version, "accepts": accepts, "resource": about}
        return Reply.of(402, {"error": "Payment Required"}, PAYMENT_REQUIRED=to_header(content))

    return act


def _ask_badly(header: str) -> Act:
    return say(402, {"error": "Payment Required"}, PAYMENT_REQUIRED=header)


def _bring(url: str) -> Act:
    """Send this URL in place of the image's URL; `{origin}` stands for the merchant's own origin."""

    async def act(exchange: Exchange) -> Reply:
        address = url.replace("{origin}", exchange.merchant.gateway.origin)
        reply = await change(data=[{"url": address}])(exchange)
        assert reply is not None
        return reply

    return act


def _bring_bytes(data: bytes) -> Act:
    return _bring("data:image/png;base64," + base64.b64encode(data).decode())


@cache
def _png(size: tuple[int, int]) -> bytes:
    png = io.BytesIO()
    Image.effect_noise(size, 50).save(png, "PNG") if size[0] < 1000 else Image.new("1", size).save(png, "PNG")
    return png.getvalue()


def _receiptless(act: Act | None = None) -> Act:
    """Remove the receipt from the headers and from the body."""

    async def without(exchange: Exchange) -> Reply | None:
        assert exchange.reply is not None
        content = exchange.reply.content()
        content.pop("payment")
        exchange.reply = Reply.of(200, content)
        return await act(exchange) if act else exchange.reply

    return without


async def _give(exchange: Exchange) -> Reply:
    return Reply.of(200, {"data": [exchange.merchant._entry("0x" + "ab" * 32, 0)]})


# -- faults of our own machine


def _disk_full(_: Studio, merchant: Merchant) -> AbstractContextManager[Any]:
    real = store_module.write_atomically

    def write(path: Path, data: bytes, **how: Any) -> None:
        if merchant.chain.moved:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data, **how)

    return mock.patch.object(store_module, "write_atomically", write)


def _ledger_fails(method: str) -> Callable[[Studio, Merchant], AbstractContextManager[Any]]:
    """Make this method of the ledger find the database locked."""

    def spoil(studio: Studio, _: Merchant) -> AbstractContextManager[Any]:
        def fail(*_: Any, **__: Any) -> None:
            with translate_errors(studio.ledger.path):
                raise sqlite3.OperationalError("database is locked")

        return mock.patch.object(studio.ledger, method, fail)

    return spoil


@contextmanager
def _locked(studio: Studio, _: Merchant) -> Iterator[None]:
    studio.ledger.database._connection.execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(studio.ledger.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


# -- the matrix


def _unsigned() -> dict[str, Fault]:
    """Return the faults that end before anything is signed."""
    asked = {
        "not base64": _ask_badly("%%%"),
        "not JSON": _ask_badly(base64.b64encode(b"{").decode()),
        "a list": _ask_badly(base64.b64encode(b"[]").decode()),
        "nothing to accept": _ask_badly(to_header({"x402Version": 2})),
        "no header, no body": say(402),
        "version 3": _ask(version=3),
        "another network": _ask(network=BASE.id),
        "another scheme": _ask(scheme="upto"),
        "another token": _ask(asset="0x" + "22" * 20),
        "another domain": _ask(extra={"name": "USD Coin", "version": "2"}),
        "the zero address": _ask(payTo="0x" + "00" * 20),
        "the token itself": _ask(payTo=PRACTICE.asset),
        "our own wallet": _ask(payTo=payer().address),
        "no amount": _ask(amount=None),
        "a negative amount": _ask(amount="-1"),
        "an amount of zero": _ask(amount="0"),
        "a time without end": _ask(maxTimeoutSeconds="never"),
        "another host's resource": _ask(resource="https://elsewhere.example/x"),
    }
    return {
        "server down": Fault(prepare=Merchant.shut, first=GatewayUnreachable),
        "reset at the price": Fault({"challenge": reset}, GatewayUnreachable),
        "silent at the price": Fault({"challenge": stall}, GatewayUnreachable, hasty=True, retry=_TWO),
        "half a price": Fault({"challenge": cut_off}, GatewayUnreachable),
        "junk at the price": Fault({"challenge": say_raw(_JUNK)}, GatewayUnreachable),
        "500 at the price": Fault({"challenge": say(500)}, UpstreamFailed),
        "429 at the price": Fault({"challenge": say(429, _LIMITED)}, RateLimited),
        "400 at the price": Fault({"challenge": say(400)}, RequestRejected),
        "200 at the price": Fault({"challenge": say(200, {"data": [{"url": "https://x.example/y"}]})}, InvalidResponse),
        **{f"terms: {name}": Fault({"challenge": act}, TermsRefused) for name, act in asked.items()},
        "terms: a million dollars": Fault({"challenge": _ask(amount="1000000000000")}, BudgetError),
        "terms: far above the list": Fault(prepare=_surcharge(200_000), meanwhile=_surcharge(0), first=BudgetError),
    }


def _before() -> dict[str, Fault]:
    """Return the faults of a paid call before money moves."""
    return {
        "no connection to pay": Fault({"challenge": _shut}),
        "reset before reading": Fault({"challenge": change(close=True), "connect": after(1, reset_unread)}),
        "reset before reading, once": Fault(
            {"challenge": change(close=True), "connect": once(reset_unread, call=2)}, _PICTURE, moved=True
        ),
        "reset before settling": Fault({"paid": reset}),
        "reset before settling, once": Fault({"paid": once(reset)}, _PICTURE, moved=True),
        "silent before settling": Fault({"paid": stall}, hasty=True, retry=_TWO),
        "half a body before settling": Fault({"paid": cut_off}),
        "junk before settling": Fault({"paid": say_raw(_JUNK)}),
        "reset, and cashed minutes later": Fault({"paid": reset}, meanwhile=Merchant.cash_what_it_holds),
        "403, and cashed minutes later": Fault(
            {"paid": say(403)}, ContentPolicyViolation, meanwhile=Merchant.cash_what_it_holds
        ),
        **{f"{status} before settling": Fault({"paid": say(status)}) for status in _PASSING},
        **{
            f"{status} before settling, once": Fault({"paid": once(say(status))}, _PICTURE, moved=True)
            for status in _PASSING
        },
        **{f"{status} before settling": Fault({"paid": say(status)}, error) for status, error in _REFUSING.items()},
        "429 with Retry-After": Fault({"paid": say(429, Retry_After="0.02")}),
        "429 with Retry-After, once": Fault({"paid": once(say(429, _LIMITED))}, _PICTURE, moved=True),
        "a redirect": Fault({"paid": say(307, Location="http://127.0.0.1:9/")}, RequestRejected),
        "402, because the price rose": Fault({"challenge": _raise_price}, _PICTURE, moved=True),
        "no witness, reset before settling": Fault({"paid": reset}, witness=False, later=PaymentOutcomeUnknown),
        "no witness, 403 before settling": Fault(
            {"paid": say(403)}, ContentPolicyViolation, witness=False, later=PaymentOutcomeUnknown
        ),
        "a witness that errs, reset before settling": Fault({"paid": reset, "witness": say(200, {"used": "yes"})}),
        "a witness that breaks off, 403": Fault({"paid": say(403), "witness": reset}, ContentPolicyViolation),
    }


def _after() -> dict[str, Fault]:
    """Return the faults of a paid call after money has moved."""
    told_nowhere = {
        "reset": (reset, GatewayUnreachable),
        "junk": (say_raw(_JUNK), GatewayUnreachable),
        "half a body": (_receiptless(cut_off), GatewayUnreachable),
        "a web page": (_receiptless(change(body=b"<html>")), InvalidResponse),
        "no image": (_receiptless(change(data=[])), InvalidResponse),
        "replay": (say(402, _REPLAY), PaymentRejected),
        **{f"{status}": (_paid_for(status, "nowhere"), error) for status, error in (_PASSING | _REFUSING).items()},
    }
    told_us = {
        "half a body": (cut_off, GatewayUnreachable),
        "a web page": (change(body=b"<html>"), InvalidResponse),
        "no image": (change(data=[]), InvalidResponse),
        "no list": (change(data={"url": "x"}), InvalidResponse),
        "bad base64": (_bring("data:image/png;base64,%%%"), InvalidResponse),
        "a page for an image": (_bring_bytes(b"<html>no</html>"), InvalidResponse),
        "an image cut short": (_bring_bytes(_png((64, 64))[:900]), InvalidResponse),
        "a bomb": (_bring_bytes(_png((20_000, 20_000))), InvalidResponse),
        "a file URL": (_bring("file:///etc/passwd"), InvalidResponse),
        "an http URL elsewhere": (_bring("http://169.254.169.254/latest"), InvalidResponse),
        "a URL with a password": (_bring("https://user:word@x.example/y.png"), InvalidResponse),
        "a URL that is none": (_bring("{origin}/\x01\x7f.png"), InvalidResponse),
        **{
            f"{status}, told in the {where}": (_paid_for(status, where), error)
            for status, error in {402: PaymentRejected, 403: ContentPolicyViolation, 500: UpstreamFailed}.items()
            for where in ("body", "header")
        },
    }
    silent = {f"{name}, told nowhere": fault for name, fault in told_nowhere.items()}
    return {
        **{
            f"paid, {name}": Fault({"settled": act}, error, moved=True)
            for name, (act, error) in (silent | told_us).items()
        },
        "paid, reset, once": Fault({"settled": once(reset)}, _PICTURE, moved=True),
        "paid, 500, once": Fault({"settled": once(_paid_for(500, "nowhere"))}, _PICTURE, moved=True),
        "paid, silent": Fault({"settled": stall}, GatewayUnreachable, moved=True, hasty=True, retry=_TWO),
        "paid, and never handed out again": Fault(
            {"settled": reset}, PaymentRejected, prepare=_hand_out_once, then=PaymentRejected, moved=True
        ),
        "paid, no receipt": Fault({"settled": _receiptless()}, _PICTURE, moved=True),
        "given for nothing": Fault({"paid": _give}, _PICTURE),
        "no witness, paid, reset": Fault({"settled": reset}, moved=True, witness=False),
        "no witness, paid, half a body": Fault({"settled": cut_off}, moved=True, witness=False),
        "no witness, paid, no receipt": Fault({"settled": _receiptless()}, _PICTURE, moved=True, witness=False),
        **{
            f"no witness, paid, {status}": Fault({"settled": say(status)}, error, moved=True, witness=False)
            for status, error in _REFUSING.items()
        },
        "the image's URL: 404": Fault({"media": say(404)}, GatewayUnreachable, moved=True, form="url"),
        "the image's URL: reset": Fault({"media": reset}, GatewayUnreachable, moved=True, form="url"),
        "the image's URL: half a body": Fault({"media": cut_off}, GatewayUnreachable, moved=True, form="url"),
        "the image's URL: a page": Fault({"media": say(200)}, InvalidResponse, moved=True, form="url"),
        "the image's URL: without end": Fault(
            {"media": say(302, Location="/api/media/a/1")}, InvalidResponse, moved=True, form="url"
        ),
        "the image's URL: lapsed": Fault(
            {"media": say(410)}, GatewayUnreachable, moved=True, form="url", prepare=_lapse
        ),
    }


def _jobs() -> dict[str, Fault]:
    """Return the faults of a slow job."""
    brief = RetryPolicy(attempts=3, first_wait=0.01, poll_every=0.01, poll_at_most_every=0.02, job=0.3)
    faults = {
        "no fault": Fault({}, _PICTURE, moved=True),
        "202 lost, once": Fault({"job": once(reset)}, _PICTURE, moved=True),
        "202 lost": Fault({"job": reset}),
        "poll 404": Fault({"poll": say(404)}, RequestRejected),
        "poll 410": Fault({"poll": say(410)}, RequestRejected),
        "poll 402": Fault({"poll": say(402)}, PaymentRejected),
        "poll 403": Fault({"poll": say(403)}, ContentPolicyViolation),
        "poll 500, once": Fault({"poll": once(say(500))}, _PICTURE, moved=True),
        "poll 504": Fault({"poll": say(504)}),
        "poll reset, once": Fault({"poll": once(reset)}, _PICTURE, moved=True),
        "poll reset": Fault({"poll": reset}),
        "poll in HTML": Fault({"poll": say_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")}),
        "failed": Fault({"poll": say(200, _FAILED)}, JobFailed),
        "failed, and charged": Fault({"poll": cashing(say(200, _FAILED))}, JobFailed, moved=True),
        "404, and charged": Fault({"poll": cashing(say(404))}, RequestRejected, moved=True),
        "never done": Fault({"poll": say(202, _RUNNING)}, UpstreamFailed, retry=brief),
        "never done, and charged": Fault(
            {"poll": cashing(say(202, _RUNNING)), "polled": say(202, _RUNNING)},
            UpstreamFailed,
            retry=brief,
            moved=True,
        ),
        "elsewhere": Fault({"job": change(poll_url="https://elsewhere.example/api/v1/jobs/1")}),
        "on another port": Fault({"job": change(poll_url="http://127.0.0.1:9/api/v1/jobs/1")}),
        "with a password": Fault({"job": change(poll_url="http://user:word@127.0.0.1/api/v1/jobs/1")}),
        "at an address that is none": Fault({"job": change(poll_url="/api/v1/jobs/\x01")}),
        "without an address": Fault({"job": change(poll_url=None)}),
        "with a number for an address": Fault({"job": change(poll_url=7)}),
        "paid, reset, once": Fault({"polled": once(reset)}, _PICTURE, moved=True),
        "paid, reset": Fault({"polled": reset}, GatewayUnreachable, moved=True),
        "paid, 500": Fault({"polled": say(500)}, UpstreamFailed, moved=True),
        "paid, 500, told": Fault({"polled": _paid_for(500, "header")}, UpstreamFailed, moved=True),
        "paid, 404": Fault({"polled": say(404)}, RequestRejected, moved=True),
        "outlives its signature": Fault({"poll": once(_much_later)}, _PICTURE, moved=True),
        "outlives its signature, which was cashed": Fault({"poll": once(cashing(_much_later))}, _PICTURE, moved=True),
        "outlives its signature, no price": Fault(
            {"poll": once(_much_later), "challenge": after(1, say(503)), "job price": say(503)}, UpstreamFailed
        ),
        "outlives its signature, price from the job": Fault(
            {"poll": once(_much_later), "challenge": after(1, say(503))}, _PICTURE, moved=True
        ),
        "outlives its signature, price of new ones rose": Fault(
            {"poll": once(_much_later), "job": _raise_price}, _PICTURE, moved=True
        ),
        "outlives its signature, its price rose": Fault(
            {"poll": once(_much_later), "job price": _ask(amount="90000")}, TermsRefused
        ),
        "outlives its signature, no witness": Fault(
            {"poll": once(_much_later)}, then=PaymentOutcomeUnknown, later=PaymentOutcomeUnknown, witness=False
        ),
    }
    return {f"job: {name}": replace(fault, slow=True) for name, fault in faults.items()}


def _ours() -> dict[str, Fault]:
    """Return the faults of our own machine: disk, database, clock."""
    return {
        "disk full": Fault(first=_PICTURE, moved=True, spoil=_disk_full),
        "disk full, a page for an image": Fault(
            {"settled": _bring_bytes(b"<html>no</html>")}, InvalidResponse, moved=True, spoil=_disk_full
        ),
        "the ledger is locked": Fault(first=LedgerError, spoil=_locked),
        **{
            f"the ledger fails to {method}": Fault(first=LedgerError, spoil=_ledger_fails(method))
            for method in ("authorize", "submit")
        },
        "the ledger fails to settle": Fault(first=_PICTURE, spoil=_ledger_fails("settle"), moved=True),
        "the ledger fails to finish": Fault(first=_PICTURE, spoil=_ledger_fails("finish"), moved=True),
        "the ledger fails to answer": Fault(
            first=_PICTURE, spoil=_ledger_fails("save_image_urls"), moved=True, form="url"
        ),
        "the ledger fails to doubt": Fault({"paid": say(403)}, LedgerError, spoil=_ledger_fails("mark_unknown")),
        "the ledger fails to release": Fault({"challenge": _shut}, spoil=_ledger_fails("release")),
        "the ledger fails to poll": Fault(first=LedgerError, spoil=_ledger_fails("poll"), slow=True),
        "our clock is far ahead": Fault({}, ClockError, then=ClockError, later=ClockError, skew=900),
        "our clock is far behind": Fault({}, ClockError, then=ClockError, later=ClockError, skew=-400),
        "our clock is ahead, reset before settling": Fault({"paid": reset}, skew=60),
        "our clock is ahead, cashed minutes later": Fault(
            {"paid": reset}, skew=60, meanwhile=Merchant.cash_what_it_holds
        ),
    }


def _faults() -> dict[str, Fault]:
    """Return all faults, newly made, because some have state."""
    return _unsigned() | _before() | _after() | _jobs() | _ours()


# -- the runs


def _request(operation: str) -> ImageRequest:
    if operation == "generate":
        return ImageRequest("generate", "a harbor at dusk", "google/nano-banana")
    source, mask = (Upload.from_file_bytes(_png(size), "image/png") for size in ((32, 32), (33, 33)))
    return ImageRequest("edit", "a harbor at dawn", "openai/gpt-image-1", images=(source,), mask=mask)


@dataclass
class _Case:
    """One fault, one request and one folder; each run is a new kernel."""

    fault: Fault
    request: ImageRequest
    merchant: Merchant
    world: Clock
    folder: Path

    def clock(self) -> float:
        return self.world() + self.fault.skew

    async def run(self, session: str, *, first: bool = False) -> ImageResult | BlockrunError:
        """Run a kernel's cell, check the ledger and the messages, and return the result or the error."""
        shown_before = len(self.merchant.shown)
        hasty, retry = (self.fault.hasty, self.fault.retry) if first else (False, QUICK)
        async with studio_over(self.folder, clock=self.clock, session=session, retry=retry) as studio:
            with (
                gives_up(self.merchant.silent) if hasty else nullcontext(),
                self.fault.spoil(studio, self.merchant) if first else nullcontext(),
            ):
                try:
                    result: ImageResult | BlockrunError = await studio.make(self.request, self.merchant.gateway)
                except BlockrunError as error:
                    result = error
            self._check_books(studio)
        if isinstance(result, BlockrunError):
            self._check_words(result, shown=len(self.merchant.shown) > shown_before)
        return result

    async def reconcile(self) -> None:
        """Look up open payments, as the next start does, and check that the ledger is right to the micro-dollar."""
        async with studio_over(self.folder, clock=self.clock, session="last") as studio:
            await studio.reconcile(self.merchant.gateway)
            books = spending_summary(studio.ledger, "practice", "all")
            self._check_books(studio)
        if self.fault.witness:
            assert 0 == books.at_risk
            assert self.merchant.chain.total == books.settled

    def _check_books(self, studio: Studio) -> None:
        """Check that settled payments are at most the moved money, and that moved money is settled or at risk."""
        books, moved = spending_summary(studio.ledger, "practice", "all"), self.merchant.chain.total

        assert books.settled <= moved
        assert moved <= books.settled + books.at_risk
        assert studio.ledger.committed("practice").day <= studio.ledger.caps().day

    def _check_words(self, error: BlockrunError, *, shown: bool) -> None:
        moved = bool(self.merchant.chain.moved)
        text, fate = str(error), error.money and error.money.fate

        assert 2 == len([line for line in text.split("\n") if line.strip()])
        assert not moved or fate in (Fate.PAID, Fate.UNKNOWN)
        assert not shown or fate not in (Fate.NOTHING_SIGNED, Fate.NOTHING_SENT)
        assert moved or fate is not Fate.PAID
        if isinstance(error, GatewayError) and shown and self.fault.witness and "witness" not in self.merchant.acts:
            assert fate in ((Fate.PAID,) if moved else (Fate.NOT_CHARGED, Fate.RESERVED))
        for header in self.merchant.shown:
            assert header.header not in text

    def check_cheques(self) -> None:
        """Check that an image was paid for once, and that never two payloads for it could be cashed.

        Two payloads with one nonce exclude each other; another price is signed this way.
        """
        payloads = {shown.payload.nonce: shown for shown in reversed(self.merchant.shown)}
        prices = {(shown.payload.nonce, shown.payload.value) for shown in self.merchant.shown}
        headers = {(shown.payload.nonce, shown.header) for shown in self.merchant.shown}
        first_shown = sorted(payloads.values(), key=lambda shown: shown.at)

        assert len(prices) == len(headers)
        assert len(self.merchant.chain.moved) <= 1
        for older, newer in pairwise(first_shown):
            assert older.payload.valid_before <= newer.at
            assert older.payload.nonce not in self.merchant.chain.moved


async def _play(fault: Fault, operation: str, folder: Path, *, expired: bool) -> None:
    world = Clock()
    with Merchant(world, fault.acts, slow=fault.slow, witness=fault.witness, form=fault.form) as merchant:
        case = _Case(fault, _request(operation), merchant, world, folder)
        fault.prepare(merchant)
        first = await case.run("first", first=True)

        assert fault.first is type(first), str(first)
        assert fault.moved == bool(merchant.chain.moved)

        fault.meanwhile(merchant)
        merchant.heal()
        world.ahead += _LONG if expired else 0
        again = await case.run("second")

        assert ((fault.later if expired else None) or fault.then) is type(again), str(again)

        case.check_cheques()
        if isinstance(again, ImageResult):
            await _check_kept(case, again)
        world.ahead += 4 * _LONG
        await case.reconcile()


async def _check_kept(case: _Case, bought: ImageResult) -> None:
    """Check that the stored image costs nothing and causes no request."""
    requests = case.merchant.requests
    kept = await case.run("third")

    assert isinstance(kept, ImageResult)
    assert bought.image.tobytes() == kept.image.tobytes()
    assert 0 == kept.cost_micros
    assert requests == case.merchant.requests


@pytest.fixture(autouse=True)
def _no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load no certificates: all servers are on loopback, and loading takes longer than a whole case."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


_SIGNED = [name for name in _faults() if name not in _unsigned()]
_PAIRWISE = [
    case
    for number, name in enumerate(_SIGNED)
    for case in ((name, "generate", bool(number % 2)), (name, "edit", not number % 2))
]
"""All faults with both operations and both times of the second run, but not all combinations of operation and time:
edits and generations share the code that decides about a second run."""


@pytest.mark.parametrize(("name", "operation"), [*zip(_unsigned(), cycle(("generate", "edit")), strict=False)])
def test_fault_before_the_signature(name: str, operation: str, tmp_path: Path) -> None:
    """Invalid terms are not signed, and the message says so."""
    asyncio.run(_play(_faults()[name], operation, tmp_path / "magic", expired=False))


@pytest.mark.parametrize(("name", "operation", "expired"), _PAIRWISE)
def test_fault(name: str, operation: str, tmp_path: Path, *, expired: bool) -> None:
    """After any fault, the ledger has the moved money, at most one payload can be cashed, and the message is true."""
    asyncio.run(_play(_faults()[name], operation, tmp_path / "magic", expired=expired))


@pytest.mark.parametrize("method", ["create_purchase", "authorize", "submit"])
def test_a_ledger_that_fails_before_the_sending_says_so(method: str, tmp_path: Path) -> None:
    """A payment that cannot be recorded is not sent."""

    async def buy(merchant: Merchant) -> None:
        async with studio_over(tmp_path / "magic") as studio:
            with _ledger_fails(method)(studio, merchant), pytest.raises(LedgerError):
                await studio.make(_request("generate"), merchant.gateway)

    with Merchant(Clock()) as merchant:
        asyncio.run(buy(merchant))

        assert [] == merchant.shown


@pytest.mark.parametrize(("method", "counted"), [("authorize", 0), ("submit", 52_500)])
def test_what_a_dead_kernel_never_sent_is_given_back(method: str, counted: int, tmp_path: Path) -> None:
    """The next start releases a dead kernel's payment that was signed but never sent; an unsigned one never counts."""

    async def lives(merchant: Merchant) -> None:
        async with studio_over(tmp_path / "magic") as dying:
            # A dead kernel cannot release a payment.
            failing = [_ledger_fails(name)(dying, merchant) for name in (method, "release")]
            with failing[0], failing[1], pytest.raises(LedgerError):
                await dying.make(_request("generate"), merchant.gateway)

            assert counted == dying.ledger.committed("practice").day
        async with studio_over(tmp_path / "magic", session="next") as studio:
            assert (counted > 0) == await studio.reconcile(merchant.gateway)
            assert 0 == studio.ledger.committed("practice").day

    with Merchant(Clock()) as merchant:
        asyncio.run(lives(merchant))

        assert [] == merchant.shown


def test_a_price_that_rises_during_a_batch_stays_within_its_bound(tmp_path: Path) -> None:
    """`max_price` limits a whole batch, even if the gateway raises its price after you have agreed to it."""
    requests = [replace(_request("generate"), prompt=f"boat {number}") for number in range(3)]
    agreed = 3 * 52_500

    async def dearer(exchange: Exchange) -> None:
        exchange.merchant.surcharge = 100_000

    async def batch(merchant: Merchant) -> None:
        async with studio_over(tmp_path / "magic") as studio:
            progress = BatchProgress(len(requests))
            results = await make_all(studio, requests, merchant.gateway, Options(max_price=agreed), progress)

            assert [BudgetError] * 3 == [type(failure.error) for failure in results.failures]

    with Merchant(Clock(), {"challenge": dearer}) as merchant:
        asyncio.run(batch(merchant))

        assert {52_500} == {shown.payload.value for shown in merchant.shown}
        assert {} == merchant.chain.moved


def test_a_resumed_purchase_costs_no_more_than_was_agreed(tmp_path: Path) -> None:
    """If the first payment expired unused and the price rose, `resume` refuses the new price, and the cell pays it."""
    world = Clock()

    async def runs(merchant: Merchant) -> None:
        async with studio_over(tmp_path / "magic", clock=world) as studio:
            with pytest.raises(PaymentOutcomeUnknown):
                await studio.make(_request("generate"), merchant.gateway)
            [purchase] = studio.ledger.open_purchases()
            merchant.heal()
            merchant.surcharge = 1000
            world.ahead += _LONG
            with pytest.raises(BudgetError, match=r"\$0\.0535.*\$0\.0525"):
                await studio.resume(purchase, merchant.gateway)
            shown = len(merchant.shown)
            result = await studio.make(_request("generate"), merchant.gateway)

            assert {52_500} == {one.payload.value for one in merchant.shown[:shown]}
            assert 53_500 == result.cost_micros

    with Merchant(world, {"paid": reset}) as merchant:
        asyncio.run(runs(merchant))

        assert 53_500 == merchant.chain.total


@pytest.mark.parametrize("where", ["poll_url", "redirect of a poll", "redirect"])
def test_a_payment_is_shown_to_nobody_else(where: str, tmp_path: Path) -> None:
    """A gateway cannot send us to another server with a poll URL or a redirect: no request arrives there."""

    async def buy(merchant: Merchant) -> None:
        async with studio_over(tmp_path / "magic") as studio:
            with pytest.raises(BlockrunError):
                await studio.make(_request("generate"), merchant.gateway)

    with Merchant(Clock()) as stranger, Merchant(Clock(), slow=where != "redirect") as merchant:
        elsewhere = f"{stranger.gateway.base_url}/v1/jobs/job1"
        merchant.acts = {
            "poll_url": {"job": change(poll_url=elsewhere)},
            "redirect of a poll": {"poll": say(307, Location=elsewhere)},
            "redirect": {"paid": say(308, Location=elsewhere)},
        }[where]
        asyncio.run(buy(merchant))

        assert 0 == stranger.requests
        assert len(merchant.shown) > 0


async def _echo(exchange: Exchange) -> Reply:
    """Answer with the payment header and its signature, in every text that a gateway can write."""
    envelope = json.loads(base64.b64decode(exchange.payment or ""))
    secret = f"{envelope['payload']['signature']} {exchange.payment}"
    if exchange.reply is None:
        return Reply.of(403, {"error": secret, "message": secret})
    reply = await change(data=[exchange.merchant._entry("0x" + "ab" * 32, 0) | {"revised_prompt": secret}])(exchange)
    assert reply is not None
    return reply


@pytest.mark.parametrize("point", ["paid", "settled"])
def test_an_echoed_payment_header_is_not_repeated(point: str, tmp_path: Path) -> None:
    """A signature that the gateway repeats is in no error and in no receipt."""
    said: list[str] = []

    async def buy(merchant: Merchant) -> None:
        async with studio_over(tmp_path / "magic") as studio:
            try:
                result = await studio.make(_request("generate"), merchant.gateway)
            except BlockrunError as error:
                said.append(str(error))
            else:
                said.extend([repr(result.stored), result.files[0].read_bytes().decode("latin-1")])

    with Merchant(Clock(), {point: _echo}) as merchant:
        asyncio.run(buy(merchant))
        [shown] = merchant.shown
        signature = json.loads(base64.b64decode(shown.header))["payload"]["signature"]

    assert said
    assert [] == [text for text in said if shown.header[-120:] in text or signature[2:66] in text]


def test_a_job_is_polled_no_faster_than_we_like(tmp_path: Path) -> None:
    """A tiny `Retry-After` does not make polls more frequent."""
    times: list[float] = []
    retry = replace(QUICK, poll_every=0.1, poll_at_most_every=0.1)

    async def busy(exchange: Exchange) -> Reply | None:
        times.append(time.monotonic())
        return Reply.of(202, _RUNNING, Retry_After="0.000001") if len(times) < 4 else None

    async def main() -> None:
        async with studio_over(tmp_path, retry=retry) as studio:
            await studio.make(ImageRequest("generate", "a cat", "black-forest/flux-1.1-pro"), merchant.gateway)

    with Merchant(time.time, {"poll": busy}, slow=True) as merchant:
        asyncio.run(main())

    assert 4 <= len(times)
    assert 0.09 < min(later - earlier for earlier, later in pairwise(times))


def test_a_slow_ledger_does_not_cancel_a_purchase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit of the look-up after a failure ends only the look-up."""
    settling = threading.Event()

    async def limited(_: float, work: Coroutine[Any, Any, Any]) -> Any:
        """End the look-up as soon as the ledger settles."""
        looking = asyncio.ensure_future(work)
        await run_io(settling.wait, PATIENCE)
        return await run_within(0, looking)  # type: ignore[arg-type]

    monkeypatch.setattr(settlement, "run_within", limited)

    async def main() -> UpstreamFailed:
        async with studio_over(tmp_path, retry=_TWO) as studio:
            settle = studio.ledger.settle

            def slowly(*args: Any, **kwargs: Any) -> Any:
                settling.set()
                time.sleep(0.3)
                return settle(*args, **kwargs)

            monkeypatch.setattr(studio.ledger, "settle", slowly)
            with pytest.raises(UpstreamFailed) as caught:
                await studio.make(ImageRequest("generate", "a cat", "black-forest/flux-1.1-pro"), merchant.gateway)
            return caught.value

    with Merchant(time.time, {"paid": cashing(say(500)), "settled": say(500)}) as merchant:
        error = asyncio.run(main())

    assert error.money is not None
    assert (Fate.PAID, 42_000) == (error.money.fate, error.money.amount)
