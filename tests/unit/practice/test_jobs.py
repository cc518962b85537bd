"""Slow jobs at the practice gateway: queued, polled, and settled once, when they are complete."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from blockrun_magic.practice.server import handlers
from blockrun_magic.practice.server.server import PracticeServer
from fakes.signer import Payer, ledger
from harness import PATIENCE

PRICE = "15750"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Return the base URL of a practice gateway."""
    with PracticeServer(slow_seconds=0.2) as server:
        yield server.url


@pytest.fixture
def payer(url: str, request: pytest.FixtureRequest) -> Iterator[Payer]:
    """Return a payer with a separate wallet for each test."""
    payer = Payer(url, request.node.name)
    yield payer
    payer.http.close()


def slow(words: str = "practice:slow=0.2") -> dict[str, object]:
    """Return a request that becomes a job."""
    return {"model": "zai/cogview-4", "prompt": f"{words} a ship", "size": "512x512", "n": 1}


def opened(payer: Payer, body: dict[str, object], nonce: int = 1) -> tuple[str, dict[str, str]]:
    """Return the poll URL of a new job, and the header that opened it."""
    header = payer.sign(payer.ask(body), nonce.to_bytes(32, "big"))
    answer = payer.pay(body, header)

    assert (202, "verified") == (answer.status_code, answer.json()["payment_status"])
    return answer.json()["poll_url"], header


def finished(payer: Payer, address: str, header: dict[str, str]) -> httpx.Response:
    """Return the first answer to a poll that is not 202."""
    end = time.monotonic() + PATIENCE
    while (answer := payer.poll(address, header)).status_code == 202:
        assert time.monotonic() < end
        time.sleep(0.05)
    return answer


def paid(payer: Payer) -> list[str]:
    """Return the amounts that this payer has paid."""
    return [line["amount"] for line in ledger(payer.url)["settlements"] if line["payer"] == payer.account.address]


def test_a_job_is_settled_when_its_image_is_asked_for(payer: Payer) -> None:
    """A queued job charges nothing; the first completed poll settles it; another poll returns the same image."""
    queued = payer.poll(*opened(payer, slow("practice:slow=600"), 2))
    before = paid(payer)
    address, header = opened(payer, slow())
    done = finished(payer, address, header)
    again = payer.poll(address, header)

    assert (202, "in_progress") == (queued.status_code, queued.json()["status"])
    assert [] == before
    assert (200, "completed") == (done.status_code, done.json()["status"])
    assert done.json()["data"] == again.json()["data"]
    assert again.json()["already_settled"] is True
    assert [PRICE] == paid(payer)


def test_a_job_that_nobody_asks_for_is_never_charged(payer: Payer) -> None:
    """A job without polls moves no money."""
    opened(payer, slow("practice:slow=0"))
    time.sleep(0.1)

    assert [] == paid(payer)


def test_the_same_payment_opens_the_same_job(payer: Payer) -> None:
    """A repeated POST with the same payment returns the same job."""
    address, header = opened(payer, slow())
    again = payer.pay(slow(), header)

    assert (202, address) == (again.status_code, again.json()["poll_url"])


def test_only_the_wallet_that_opened_it_may_ask(payer: Payer, url: str) -> None:
    """Polls with another wallet's signature or with none are refused."""
    address, _ = opened(payer, slow())
    stranger = Payer(url, "a stranger at the door")
    foreign = payer.poll(address, stranger.sign(stranger.ask(slow()), bytes(32)))
    bare = payer.poll(address, {})
    stranger.http.close()

    assert (403, 402) == (foreign.status_code, bare.status_code)


def test_a_failed_job_is_not_charged(payer: Payer) -> None:
    """`practice:fail-job` ends with `failed` and `not_charged`."""
    address, header = opened(payer, slow("practice:fail-job=0.1"))
    answer = finished(payer, address, header).json()

    assert ("failed", "not_charged") == (answer["status"], answer["payment_status"])
    assert [] == paid(payer)


def test_an_expired_signature_gives_way_to_a_fresh_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expired header is refused, a new one from the same wallet is accepted, and only one of them is cashed."""
    body, ahead = slow("practice:slow=0.1"), [0.0]
    monkeypatch.setattr(handlers, "Options", partial(handlers.Options, clock=lambda: time.time() + ahead[0]))
    with PracticeServer() as server:
        payer = Payer(server.url)
        header = payer.sign(payer.ask(body), bytes(31) + b"\1", validBefore=int(time.time()) + PATIENCE)
        address = payer.pay(body, header).json()["poll_url"]
        ahead[0] = PATIENCE
        late = payer.poll(address, header)
        fresh = finished(payer, address, payer.sign(payer.ask(body), bytes(31) + b"\2"))
        with_old = payer.poll(address, header)
        amounts = paid(payer)
        payer.http.close()

    assert 402 == late.status_code
    assert 200 == fresh.status_code
    assert (200, True) == (with_old.status_code, with_old.json()["already_settled"])
    assert [PRICE] == amounts


def test_a_job_survives_a_restart(tmp_path: Path) -> None:
    """A new server over the same database file completes the job."""
    with PracticeServer(db=tmp_path / "practice.sqlite") as server:
        first = Payer(server.url)
        address, header = opened(first, slow())
        first.http.close()
    with PracticeServer(db=tmp_path / "practice.sqlite") as server:
        second = Payer(server.url)
        done = finished(second, address, header)
        total = ledger(server.url)["total"]
        second.http.close()

    assert 200 == done.status_code
    assert PRICE == total


def test_an_unknown_job_is_not_found(payer: Payer) -> None:
    """A poll for an unknown job gets a 404."""
    assert 404 == payer.poll("/api/v1/jobs/job_nothing", {}).status_code
