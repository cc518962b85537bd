"""Batches: priced and reserved together, made concurrently, and completed by a second run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.database.sqlite import SqliteDatabase
from blockrun_magic.errors import BudgetError, RequestError
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.wallets.evm import practice_wallet
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio import BatchProgress, ImageResults, Options, RetryPolicy, Studio, make_all
from blockrun_magic.studio.batch import _warn
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.services import Wallets, purchase_services
from fakes import signer
from fakes.gateway import studio_over

COGVIEW = 15_750


@pytest.fixture(scope="module")
def server() -> Iterator[PracticeServer]:
    """Return a practice gateway for this module."""
    with PracticeServer() as server:
        yield server


@pytest.fixture
def gateway(server: PracticeServer) -> Gateway:
    """Return the gateway of that server."""
    return practice_at(server.url)


def batch(
    folder: Path, gateway: Gateway, prompts: Sequence[str], jobs: int = 4, options: Options | None = None
) -> tuple[ImageResults, BatchProgress]:
    """Return the results and the progress of one batch of small images."""
    requests = [ImageRequest("generate", prompt, "zai/cogview-4", "512x512") for prompt in prompts]
    progress = BatchProgress(len(requests))

    async def work() -> ImageResults:
        ledger = Ledger(folder / "magic" / "ledger.sqlite", "session")
        async with Client() as client:
            services = purchase_services(
                client=client,
                ledger=ledger,
                store=Store(folder / "pictures"),
                wallets=Wallets(lambda _: practice_wallet()),
                retry=RetryPolicy(attempts=2, first_wait=0.01, poll_every=0.02),
            )
            studio = Studio(services, folder / "locks")
            try:
                return await make_all(studio, requests, gateway, options or Options(), progress, jobs)
            finally:
                ledger.close()

    return asyncio.run(work()), progress


def settled(gateway: Gateway) -> int:
    """Return how many payments the gateway has settled."""
    return len(signer.ledger(gateway.base_url)["settlements"])


def caps_left(folder: Path, **caps: int) -> Ledger:
    """Return the ledger of `folder` with some caps set."""
    ledger = Ledger(folder / "magic" / "ledger.sqlite", "session")
    ledger.set_caps(**caps)
    return ledger


def test_results_keep_the_order_of_the_requests(tmp_path: Path, gateway: Gateway) -> None:
    """Results have the order of the requests, whatever the order of completion."""
    prompts = [f"order {index}" for index in range(6)]
    results, progress = batch(tmp_path, gateway, prompts)

    assert prompts == [result.prompt for result in results]
    assert 6 * COGVIEW == results.cost_micros
    assert (6, 0, 6 * COGVIEW) == (progress.done, progress.failed, progress.total)


def test_a_batch_waits_for_the_disk_at_its_end(
    tmp_path: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image has two durable transactions, before its payment and for its URL; the batch ends with one more.

    Each image also has two syncs in the store, for its file and for its name.
    """
    durable: list[bool] = []
    synced: list[int] = []
    transaction, fsync = SqliteDatabase.transaction, os.fsync

    def recorded(self: SqliteDatabase, **options: bool) -> Any:
        durable.append(options.get("durable", True))
        return transaction(self, **options)

    batch(tmp_path, gateway, ["the first"])
    monkeypatch.setattr(SqliteDatabase, "transaction", recorded)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), fsync(descriptor)))
    batch(tmp_path, gateway, [f"waits {index}" for index in range(8)])

    assert 2 * 8 + 1 == durable.count(True)
    assert 2 * 8 <= len(synced) <= 2 * 8 + 2  # the folders of the store are synced once in a process
    assert durable[-1]


def test_a_failing_one_does_not_stop_the_rest(tmp_path: Path, gateway: Gateway) -> None:
    """A failure is listed with its index; a second run pays for no image twice."""
    prompts = ["fine one", "practice:403 refused", "fine two"]
    before = settled(gateway)
    results, _ = batch(tmp_path, gateway, prompts)
    again, progress = batch(tmp_path, gateway, prompts)

    assert ["fine one", "fine two"] == [result.prompt for result in results]
    assert [1] == [failure.index for failure in results.failures]
    assert ["fine one", None, "fine two"] == [
        None if record["error"] else record["prompt"] for record in results.to_records()
    ]
    assert 0 == again.cost_micros
    assert COGVIEW == progress.total
    assert before + 2 == settled(gateway)


def test_a_failed_request_that_was_sent_is_in_the_progress(tmp_path: Path, gateway: Gateway) -> None:
    """The at-risk amount of a failed batch equals that of the ledger."""
    _, progress = batch(tmp_path, gateway, ["fine", "practice:403 refused", "practice:403 refused, too"])
    ledger = Ledger(tmp_path / "magic" / "ledger.sqlite", "session")

    assert 2 * COGVIEW == sum(payment.amount for payment in ledger.open_payments())
    assert (2, 2 * COGVIEW) == (progress.failed, progress.failed_at_risk)
    ledger.close()


def test_a_part_that_is_at_work_is_undecided() -> None:
    """A running part without a sent payment counts as undecided."""
    parts = [Progress(running=True), Progress(running=True, sent=True), Progress(), Progress(sent=True)]

    assert 1 == BatchProgress(4, parts=parts).undecided


def test_the_total_is_held_first(tmp_path: Path) -> None:
    """A batch above the session limit is refused before any signature."""
    caps_left(tmp_path, session=3 * COGVIEW).close()
    with PracticeServer() as own:  # a server without payments by other tests
        with pytest.raises(BudgetError) as error:
            batch(tmp_path, practice_at(own.url), [f"held {index}" for index in range(4)])

        assert 0 == settled(practice_at(own.url))
    assert "$0.063" in error.value.message


def test_an_empty_wallet_is_told_of_before_the_batch(tmp_path: Path) -> None:
    """A wallet with too little balance gets a hint, and the batch makes the images it can pay for."""
    with PracticeServer(start_balance=COGVIEW * 2) as poor:
        gateway, progress = practice_at(poor.url), BatchProgress(3)

        async def warn() -> None:
            async with studio_over(tmp_path / "hint", wallet=practice_wallet()) as studio:
                await _warn(studio, gateway, progress, 3 * COGVIEW)

        asyncio.run(warn())  # a batch does not wait for this check
        results, _ = batch(tmp_path, gateway, ["a", "b", "c"], jobs=1)

    assert "$0.0315" in progress.hint
    assert 2 == len(results)
    assert 1 == len(results.failures)


def test_a_batch_that_just_fits_its_cap_is_made(tmp_path: Path, gateway: Gateway) -> None:
    """A batch that exactly fits the limit is made, and afterwards nothing is held."""
    ledger = caps_left(tmp_path, session=4 * COGVIEW)
    results, _ = batch(tmp_path, gateway, [f"fits {index}" for index in range(4)])
    held = ledger.query("SELECT count(*) FROM holds")[0][0]
    ledger.close()

    assert 4 == len(results)
    assert 0 == held


def test_max_price_bounds_the_whole_batch(tmp_path: Path, gateway: Gateway) -> None:
    """--max-price limits the total of a batch."""
    with pytest.raises(BudgetError):
        batch(tmp_path, gateway, ["a", "b", "c", "d"], options=Options(max_price=3 * COGVIEW))


def test_a_bad_request_is_refused_before_any_is_paid(tmp_path: Path, gateway: Gateway) -> None:
    """An invalid prompt stops the whole batch before any payment."""
    before = settled(gateway)
    with pytest.raises(RequestError):
        batch(tmp_path, gateway, ["good", " "])

    assert before == settled(gateway)


def test_the_same_prompt_twice_is_bought_once(tmp_path: Path, gateway: Gateway) -> None:
    """Two equal prompts are one purchase with two results."""
    before = settled(gateway)
    results, _ = batch(tmp_path, gateway, ["twin", "twin"])

    assert 2 == len(results)
    assert before + 1 == settled(gateway)


def test_a_slice_a_sheet_and_records(tmp_path: Path, gateway: Gateway) -> None:
    """Results support slices, a contact sheet, records and a DataFrame."""
    results, _ = batch(tmp_path, gateway, ["one", "two", "three"])
    sheet = results.contact_sheet(600)

    assert ["two", "three"] == [result.prompt for result in results[1:]]
    assert sheet.width <= 600
    assert ["prompt", "model", "size", "n", "cost_usd", "seconds", "transaction", "file", "error"] == list(
        results.to_records()[0]
    )
    assert 3 == len(results.to_dataframe())


def test_files_are_numbered_in_order(tmp_path: Path, gateway: Gateway) -> None:
    """Saving a batch writes one numbered file per image."""
    results, _ = batch(tmp_path, gateway, ["one", "two"])
    written = results.save(tmp_path / "out")

    assert ["image-001.png", "image-002.png"] == [path.name for path in written]
    assert all(path.stat().st_size > 0 for path in written)
