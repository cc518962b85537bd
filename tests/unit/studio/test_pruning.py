"""`store prune`: removed files, remaining files, and the number of statements."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from blockrun_magic.images.store import Store, StoredFile
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import StoredImage
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.studio.pruning import plan_pruning, remove_files
from harness.ledgers import Clock, another_purchase, payment_in

COUNT = 12
PRICE = 42_000
TEN = [b"image %d" % number for number in range(10)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return a ledger without limits."""
    with closing(Ledger(tmp_path / "ledger.sqlite", "one", Clock())) as opened:
        opened.set_caps(session=10**12, day=10**12)
        yield opened


@pytest.fixture
def store(tmp_path: Path, ledger: Ledger) -> Store:
    """Return a store with twelve bought images, oldest first, and one unknown file; the last purchase is open."""
    store = Store(tmp_path / "pictures")
    for number in range(COUNT):
        bought = another_purchase(ledger)
        payment_in(ledger, State.SETTLED, PRICE, bought)
        digest = store.put(b"image %d" % number, "image/png")
        ledger.finish(bought.id, [StoredImage(digest, "image/png", 8, 8)], 1.0)
        os.utime(store.path(digest, "image/png"), (1000 + number, 1000 + number))
    ledger.reopen(bought.id)
    os.utime(store.path(store.put(b"nobody's", "image/png"), "image/png"), (1, 1))
    return store


def test_what_is_old_goes_and_what_has_no_receipt_stays(ledger: Ledger, store: Store) -> None:
    """Only old files of finished purchases are removed; the plan shows their cost."""
    plan = plan_pruning(ledger, store, 1000 + COUNT, older_than=2.0, larger_than=None)
    remove_files(plan)
    remove_files(plan)  # another kernel may have removed them before

    assert COUNT - 2 == len(plan.files)
    assert (COUNT - 2) * PRICE == plan.paid
    assert 2 == plan.without_receipt
    assert 3 == len(store.files())


def test_the_oldest_go_until_the_store_is_small_enough(ledger: Ledger, store: Store) -> None:
    """The oldest files are removed until the store has the allowed size."""
    size = sum(file.size for file in store.files())
    plan = plan_pruning(ledger, store, 2000.0, older_than=None, larger_than=size - 1)
    nothing = plan_pruning(ledger, store, 2000.0, older_than=None, larger_than=size)

    assert [1000.0] == [file.written_at for file in plan.files]
    assert (PRICE, 0) == (plan.paid, nothing.paid)
    assert () == nothing.files


def test_both_limits_hold_together(ledger: Ledger, store: Store) -> None:
    """Files above the age limit are removed first, then the oldest until the size fits."""
    size = sum(file.size for file in store.files())
    plan = plan_pruning(ledger, store, 1000 + COUNT, older_than=COUNT - 2, larger_than=size - sum(map(len, TEN[:4])))

    assert [1000.0, 1001.0, 1002.0, 1003.0] == sorted(file.written_at for file in plan.files)
    assert 4 * PRICE == plan.paid


def test_a_source_stays_until_its_edit_is_finished(ledger: Ledger, store: Store) -> None:
    """A source or image that an open edit needs stays until the edit is finished."""
    before = plan_pruning(ledger, store, 2000.0, older_than=0.0, larger_than=None)
    bought = before.files[0].digest
    source = store.put(b"a photo", "image/png")
    os.utime(store.path(source, "image/png"), (1, 1))
    request = {"prompt": "a boat", "uploads": [{"file": source}, {"file": bought}]}
    edit = ledger.create_purchase("real", "base", "sha256:edit", 1, request, private=False)
    during = plan_pruning(ledger, store, 2000.0, older_than=0.0, larger_than=None)
    ledger.finish(edit.id, [], 1.0)
    after = plan_pruning(ledger, store, 2000.0, older_than=0.0, larger_than=None)

    names = {file.digest for file in before.files}
    assert names - {bought} == {file.digest for file in during.files}
    assert names | {source} == {file.digest for file in after.files}
    assert before.paid - PRICE == during.paid
    assert before.paid == after.paid


def test_the_collector_is_off_only_during_a_plan(ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector is enabled again after an error."""
    collecting = []

    def unreadable() -> list[StoredFile]:
        collecting.append(gc.isenabled())
        raise PermissionError

    monkeypatch.setattr(store, "files", unreadable)
    with pytest.raises(PermissionError):
        plan_pruning(ledger, store, 2000.0, older_than=0.0, larger_than=None)

    assert [False] == collecting
    assert gc.isenabled()


def test_many_files_cost_few_questions(ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan takes three statements, and each file is removed once."""
    removed: list[str] = []
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path: (removed.append(path), unlink(path)))
    asked: list[str] = []
    ledger.database._connection.set_trace_callback(asked.append)
    plan = plan_pruning(ledger, store, 2000.0, older_than=0.0, larger_than=None)
    ledger.database._connection.set_trace_callback(None)
    remove_files(plan)

    assert 3 == len(asked)
    assert sorted(file.path for file in plan.files) == sorted(removed)
