"""Forked children: they have connections, loop and locks of their own, or get a clear error; the parent is unharmed.

Each script runs in a process of its own, because a fork of a process with many threads may fail at random.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from blockrun_magic.practice.server.server import PracticeServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

START = """
import asyncio, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from blockrun_magic import agenerate, generate, open_studio
from blockrun_magic.errors import BlockrunError, LedgerError
from blockrun_magic.wiring import process_session
SMALL = {"model": "cogview", "size": "512x512", "gateway": "practice"}

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
OWN_CALLS = """
first = generate("a fox", **SMALL)
assert 0 == in_child(lambda: generate("a hen", **SMALL).cost_micros == 15_750)
assert 0 == in_child(lambda: generate("a fox", **SMALL).cost_micros == 0)
assert 15_750 == generate("an owl", **SMALL).cost_micros
"""
PARENTS_STUDIO = """
studio = open_studio()

def child():
    try:
        asyncio.run(agenerate("a hen", studio=studio, **SMALL))
    except LedgerError as error:
        return bool(error.hint)

assert 0 == in_child(child)

async def parent():
    result = await agenerate("a hen", studio=studio, **SMALL)
    await studio.close()
    return result

assert 15_750 == asyncio.run(parent()).cost_micros
"""
SESSIONS = """
mine = process_session()
assert 0 == in_child(lambda: process_session() != mine)
assert mine == process_session()
"""
NOTEBOOK = """
from blockrun_magic.notebook.session import Session
from blockrun_magic.notebook.settings import Settings
session = Session(Settings())
session.selection.use("practice")
studio, gateway = session.studio_and_gateway()

def child():
    session.close()  # as `atexit` would: it closes nothing of the parent's
    own, same = session.studio_and_gateway()
    return own is not studio and same == gateway and own.ledger.session != studio.ledger.session

assert 0 == in_child(child)
assert [] == studio.ledger.open_payments()
session.close()
"""


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    """Yield the environment of a script; its practice gateway runs in this process."""
    with PracticeServer() as server:
        yield {**os.environ, "BLOCKRUN_PRACTICE_URL": server.url}


@pytest.mark.parametrize(
    "script", [OWN_CALLS, PARENTS_STUDIO, SESSIONS, NOTEBOOK], ids=["own calls", "a studio", "sessions", "a notebook"]
)
def test_a_fork_is_another_process(environ: dict[str, str], script: str) -> None:
    """Each image is paid once, and both processes continue."""
    done = subprocess.run(
        [sys.executable, "-c", START + script], env=environ, capture_output=True, text=True, timeout=120, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
