"""The key is stored nowhere, and payment headers are only in the ledger, which only its owner can read.

A session of IPython fails in every way that prints something, with all logging on and `%xmode Verbose`. Everything
that it writes is searched.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import logging
import os
import pickle
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.x402.networks import BASE
from fakes.gateway import Act, Exchange, Merchant, Reply, payer, reset, say, studio_over

_OWNER = "the owner of the secrets"
_SESSION = r"""
import logging, os, sys
from pathlib import Path

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from IPython.terminal.interactiveshell import TerminalInteractiveShell
from blockrun_magic.studio import RetryPolicy

RetryPolicy.wait = lambda self, attempt: 0.01
RetryPolicy.in_progress = property(lambda self: 0.2)  # a minute of repetitions would show nothing new

shell = TerminalInteractiveShell.instance()
for cell in Path(sys.argv[1]).read_text().split("\n# ---\n"):
    print("In:", cell)
    shell.run_cell(cell, store_history=True)
print("the end")
"""
_SIGNATURE = re.compile(rb"(?<![0-9a-fA-F])(?:0x)?[0-9a-fA-F]{130}(?![0-9a-fA-F])")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{300,}={0,2}")
_BREAK = """
import eth_account, httpcore, httpx
import blockrun_magic.payments.ledger.ledger as ledger
from blockrun_magic.gateway.network import streams, transport

def breaking(owner, name, paid=False):
    real = getattr(owner, name)
    def fail(*args, **kwargs):
        request = getattr(args[0], "request", None) if len(args) == 1 else args[1]
        if paid and b"payment-signature" not in repr(getattr(request.headers, "raw", request.headers)).lower().encode():
            return real(*args, **kwargs)
        setattr(owner, name, real)
        raise RuntimeError("a bug in " + name)
    setattr(owner, name, fail)
"""
_BUGS = {
    "signing": "eth_account.Account, 'sign_message'",
    "recording": "ledger.Ledger, 'authorize'",
    "sending": "transport.Transport, 'handle_async_request', paid=True",
    "pooling": "httpcore.AsyncConnectionPool, 'handle_async_request', paid=True",
    "connecting": "httpcore.AsyncHTTP11Connection, 'handle_async_request', paid=True",
    "reading": "httpx.Response, 'aiter_raw', paid=True",
    "claiming": "ledger.Ledger, 'claim'",
    "delivering": "ledger.Ledger, 'finish'",
}
"""Errors of other code with the key or a header at hand; a traceback shows the variables of every frame."""
_CELLS = [
    "%load_ext blockrun_magic",
    "%colors nocolor",
    "%xmode Verbose",
    "%blockrun",
    "%blockrun wallet",
    "%blockrun wallet address",
    "%%imagegen --as image\na harbor",
    "image.info, dir(image), vars(image)",
    "%%imagegen\na harbor, please answer 403",
    "%%imagegen\na harbor, please answer 500",
    "%%imagegen\na harbor, please answer 402",
    "%%imagegen --private\na harbor, please be lost",
    "%%imagegen\na harbor, please answer nonsense",
    "%blockrun jobs",
    "%blockrun resume",
    "%blockrun spend",
    "%blockrun history",
    _BREAK,
    *(cell for name, bug in _BUGS.items() for cell in (f"breaking({bug})", f"%%imagegen\na bug while {name}")),
    "%tb",
    "import gc\n[repr(thing) for thing in gc.get_objects() if type(thing).__module__.startswith('blockrun_magic')]",
]


@dataclass(frozen=True)
class Secrets:
    """A search for secrets: by name and text, in upper or lower case, with or without base64."""

    texts: Mapping[str, str]

    def found_in(self, data: bytes) -> list[str]:
        """Return the names of the secrets in `data`."""
        shown = data.lower()
        found = {name for name, text in self.texts.items() if text.lower().encode() in shown}
        # A signature that was never sent is not in the list, so it is found by its form.
        found |= {"a signature"} if _SIGNATURE.search(data) else set()
        found |= {"a header"} if any(b'"signature"' in _decoded(run) for run in _BASE64.findall(data)) else set()
        return sorted(found)


def _decoded(run: bytes) -> bytes:
    with suppress(ValueError):
        return base64.b64decode(run[: len(run) // 4 * 4])
    return b""


def _secrets(key_name: str, merchant: Merchant) -> Secrets:
    key = payer(key_name)._with_key(_as_bytes)
    texts = {"the key": key.hex(), "the key as base64": base64.b64encode(key).decode().rstrip("=")}
    texts |= {"the key as bytes": repr(key)[2:-1], "the key as a number": str(int.from_bytes(key, "big"))}
    for number, shown in enumerate(merchant.shown):
        signature = json.loads(base64.b64decode(shown.header))["payload"]["signature"]
        # Half of a secret counts, too.
        texts |= {f"header {number}": shown.header[-120:], f"signature {number}": signature[2:66]}
    return Secrets(texts)


def _as_bytes(key: str | bytes) -> bytes:
    return key if isinstance(key, bytes) else bytes.fromhex(key.removeprefix("0x"))


async def _misbehave(exchange: Exchange) -> Reply | None:
    """Answer as the prompt says."""
    prompt = exchange.fields["prompt"]
    if match := re.search(r"answer (\d+)", prompt):
        return await say(int(match[1]))(exchange)
    if "lost" in prompt:
        return await reset(exchange)
    return await say(200, [1])(exchange) if "nonsense" in prompt else None


def _hex_key(name: str) -> str:
    return payer(name)._with_key(_as_bytes).hex()


@dataclass(frozen=True)
class Session:
    """The output of a session of IPython, and the files in its home."""

    output: bytes
    home: Path
    secrets: Secrets

    @property
    def files(self) -> Iterator[Path]:
        """All files except those of the ledger."""
        return (path for path in self.home.rglob("*") if path.is_file() and not path.name.startswith("ledger.sqlite"))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Run a session with a key and many failures, and return its output."""
    home = tmp_path_factory.mktemp("home")
    cells = home / "cells.txt"
    cells.write_text("\n# ---\n".join(_CELLS))
    with Merchant(time.time, {"paid": _misbehave}, network=BASE) as merchant:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environ = kept | {
            "BLOCKRUN_TRACEBACKS": "1",
            "HOME": str(home),
            "BLOCKRUN_HOME": str(home / ".blockrun"),
            "IPYTHONDIR": str(home / ".ipython"),
            "BLOCKRUN_WALLET_KEY": _hex_key(_OWNER),
            "BLOCKRUN_API_URL": merchant.gateway.base_url,
            # The tests must not use the chain's public servers, so this proxy has no listener.
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "TERM": "dumb",
        }
        command = [sys.executable, "-X", "dev", "-c", _SESSION, str(cells)]
        done = subprocess.run(command, env=environ, cwd=home, capture_output=True, timeout=300, check=False)
        secrets = _secrets(_OWNER, merchant)
    cells.unlink()
    return Session(done.stdout + done.stderr, home, secrets)


def test_the_session_did_what_it_should(session: Session) -> None:
    """The session ends, buys an image, sends several signatures, and prints tracebacks and logs."""
    assert b"the end" in session.output
    # An error in the signing code becomes a WalletError without the variables.
    assert len(_BUGS) <= len(re.findall(rb"RuntimeError: a bug in|\(RuntimeError\)", session.output))
    assert b"DEBUG:httpcore" in session.output
    assert b"may have been charged" in session.output
    assert len([name for name in session.secrets.texts if name.startswith("header")]) > 5


def test_nothing_printed_shows_a_secret(session: Session) -> None:
    """Outputs, errors with all variables of all frames, and logs contain neither key nor header."""
    assert [] == session.secrets.found_in(session.output)


def test_no_file_but_the_ledger_holds_a_secret(session: Session) -> None:
    """Images, locks, the cost log and IPython's history contain no key and no header."""
    files = list(session.files)

    assert len(files) > 3
    assert {} == {str(path): found for path in files if (found := session.secrets.found_in(path.read_bytes()))}


def test_the_ledger_holds_headers_never_the_key(session: Session) -> None:
    """The headers of open payments are in the ledger, to be sent again; the key is in none of its files."""
    ledgers = sorted((session.home / ".blockrun" / "magic").glob("ledger.sqlite*"))
    found = {name for path in ledgers for name in session.secrets.found_in(path.read_bytes())}

    assert any(name.startswith("header") for name in found)
    assert not any("key" in name for name in found)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in ledgers}
    assert 0o700 == stat.S_IMODE((session.home / ".blockrun" / "magic").stat().st_mode)


# -- in this process


_REQUEST = ImageRequest("generate", "a harbor", "google/nano-banana")


def _faces(thing: Any) -> Iterator[bytes]:
    """Yield all forms in which a value could be written."""
    yield repr(thing).encode()
    yield str(thing).encode()
    with suppress(Exception):  # a value without a pickle shows nothing
        yield pickle.dumps(thing)
    with suppress(Exception):
        yield repr(copy.deepcopy(vars(thing))).encode()


@pytest.mark.parametrize("act", [None, say(500), say(403), reset], ids=["paid", "500", "403", "lost"])
def test_no_object_shows_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture, act: Act | None) -> None:
    """Reprs and pickles of results, errors, payments, wallets and studios, and all logs, contain no secret."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    things: list[Any] = []

    async def make(merchant: Merchant) -> None:
        async with studio_over(tmp_path) as studio:
            try:
                things.append(await studio.make(_REQUEST, merchant.gateway))
            except BlockrunError as error:
                things.extend([error, error.__cause__, error.args])
            # A payment has its header, which the client needs, so it is not pickled here.
            things.extend(repr(payment) for payment in studio.ledger.open_payments(tuple(State)))
            things.extend([*studio.ledger.takes("practice", _REQUEST.digest), studio, studio.ledger, studio.client])
            things.extend([payer(), merchant.gateway, studio.store])

    with Merchant(time.time, {} if act is None else {"paid": act}) as merchant:
        asyncio.run(make(merchant))
        secrets = _secrets("a payer of the tests", merchant)

    assert len(merchant.shown) > 0
    assert "httpcore" in caplog.text
    assert [] == secrets.found_in(caplog.text.encode())
    assert {} == {type(thing).__name__: found for thing in things if (found := _shown_by(thing, secrets))}


def _shown_by(thing: Any, secrets: Secrets) -> list[str]:
    return [name for face in _faces(thing) for name in secrets.found_in(face)]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """A printed header, even a part of it, and a key in upper or lower case are found."""

    async def make(merchant: Merchant) -> None:
        async with studio_over(tmp_path) as studio:
            await studio.make(_REQUEST, merchant.gateway)

    with Merchant(time.time) as merchant:
        asyncio.run(make(merchant))
        secrets = _secrets("a payer of the tests", merchant)
    [shown] = merchant.shown

    header = f"{{'PAYMENT-SIGNATURE': '{shown.header}'}}".encode()
    signature = json.loads(base64.b64decode(shown.header))["payload"]["signature"].encode()

    assert ["a header", "header 0"] == secrets.found_in(header)
    assert ["a header"] == Secrets({}).found_in(header)
    assert ["a signature", "signature 0"] == secrets.found_in(signature)
    assert ["the key"] == secrets.found_in(_hex_key("a payer of the tests").upper().encode())
