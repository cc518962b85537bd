"""Reports of spending, and the lines of the official SDK's cost log."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import secrets
import stat
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrun_magic.payments import cost_log
from blockrun_magic.payments.cost_log import append_settled
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.reports import (
    Spending,
    list_payments,
    spending_by_day,
    spending_by_model,
    spending_summary,
)
from blockrun_magic.payments.ledger.states import AT_RISK, State, Witness
from blockrun_magic.payments.ledger.years import sums
from blockrun_magic.payments.ledger.years.search import HistorySearch
from harness.ledgers import HASH, NOON, Clock, another, payment_in

FLUX, BANANA = "black-forest/flux-1.1-pro", "google/nano-banana"
REALMS = ("real", "testnet", "practice")


@pytest.fixture
def clock() -> Clock:
    """Return a clock at noon UTC."""
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    """Return an empty ledger of session "one", at the path of a user's ledger."""
    with closing(Ledger(tmp_path / ".blockrun" / "magic" / "ledger.sqlite", "one", clock)) as ledger:
        ledger.set_caps(session=10**12, day=10**12)
        yield ledger


def purchase(ledger: Ledger, model: str = BANANA, realm: str = "real", take: int = 1) -> Purchase:
    """Return a new purchase of an image by `model`."""
    request = {"endpoint": "/v1/images/generations", "model": model, "prompt": "a cat"}
    return ledger.create_purchase(realm, "base", f"sha256:{secrets.token_hex(8)}", take, request, private=False)


def log_of(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the lines of the official cost log."""
    path = ledger.path.parent.parent / "cost_log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# -- sums


@pytest.mark.parametrize("when", ["session", "today", "all"])
def test_nothing_was_spent(ledger: Ledger, when: str) -> None:
    """A new ledger has sums of zero and no models."""
    assert Spending(settled=0, payments=0, at_risk=0) == spending_summary(ledger, "real", when)
    assert [] == spending_by_model(ledger, "real", when)


@pytest.mark.parametrize("state", State, ids=str)
def test_settled_is_spent_and_open_is_at_risk(ledger: Ledger, state: State) -> None:
    """A settled payment is spent, an open one is at risk, and a released one is neither."""
    payment_in(ledger, state, amount=700, of=purchase(ledger))
    spent = 700 if state is State.SETTLED else 0
    at_risk = 700 if state in AT_RISK else 0

    assert Spending(spent, int(bool(spent)), at_risk) == spending_summary(ledger, "real", "all")
    assert [(BANANA, int(bool(spent)), spent, at_risk)] * (state is not State.RELEASED) == spending_by_model(
        ledger, "real", "all"
    )


def test_each_report_has_its_time(ledger: Ledger, clock: Clock) -> None:
    """The sums of this session, of this UTC day and of all time differ; a day includes other kernels."""
    clock.now = NOON - 86_400
    payment_in(ledger, State.SETTLED, amount=1, of=purchase(ledger))
    clock.now = NOON
    payment_in(ledger, State.SETTLED, amount=20, of=purchase(ledger))
    with another(ledger) as other:
        payment_in(other, State.SETTLED, amount=300, of=purchase(other))

        assert 300 == spending_summary(other, "real", "session").settled

    assert 21 == spending_summary(ledger, "real", "session").settled
    assert 320 == spending_summary(ledger, "real", "today").settled
    assert 321 == spending_summary(ledger, "real", "all").settled
    assert (320, 21) == (ledger.committed("real").day, ledger.committed("real").session)


def test_models_are_listed_dearest_first(ledger: Ledger) -> None:
    """Each model has its count, its sum and its amount at risk."""
    for model, state, amount in [
        (BANANA, State.SETTLED, 52_500),
        (BANANA, State.SETTLED, 52_500),
        (BANANA, State.RELEASED, 52_500),
        (FLUX, State.SETTLED, 42_000),
        (FLUX, State.UNKNOWN, 42_001),
        ("zai/cogview-4", State.POLLING, 15_750),
    ]:
        payment_in(ledger, state, amount=amount, of=purchase(ledger, model))

    assert [
        (BANANA, 2, 105_000, 0),
        (FLUX, 1, 42_000, 42_001),
        ("zai/cogview-4", 0, 0, 15_750),
    ] == spending_by_model(ledger, "real", "today")


PAYMENTS = st.lists(
    st.tuples(
        st.sampled_from(list(State)),
        st.integers(min_value=0, max_value=10**9),
        st.sampled_from([BANANA, FLUX, "x/y"]),
        st.sampled_from(REALMS),
    ),
    max_size=6,
)


@settings(max_examples=12)
@given(payments=PAYMENTS)
def test_reports_and_caps_agree_with_the_rows(tmp_path_factory: pytest.TempPathFactory, payments: Any) -> None:
    """Every sum equals that of its rows to the micro-dollar, for random payments."""
    path = tmp_path_factory.mktemp("sums") / "ledger.sqlite"
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    with closing(Ledger(path, "one", Clock())) as ledger:
        ledger.set_caps(session=10**12, day=10**12)
        for state, amount, model, realm in payments:
            payment_in(ledger, state, amount, purchase(ledger, model, realm))
            if state is not State.RELEASED:
                counted = (1, amount, 0) if state is State.SETTLED else (0, 0, amount)
                sums[realm, model] = [a + b for a, b in zip(sums[realm, model], counted, strict=True)]

        for realm in REALMS:
            mine = {model: tuple(found) for (where, model), found in sums.items() if where == realm}
            count, settled, at_risk = (sum(found[index] for found in mine.values()) for index in range(3))

            assert Spending(settled, count, at_risk) == spending_summary(ledger, realm, "session")
            assert mine == {
                model: (n, paid, risk) for model, n, paid, risk in spending_by_model(ledger, realm, "today")
            }
            assert settled + at_risk == ledger.committed(realm).day == ledger.committed(realm).session


# -- the official cost log


def test_a_settled_payment_is_a_line_of_the_official_log(ledger: Ledger, clock: Clock) -> None:
    """A line has the fields of the official SDK: time, endpoint, dollars, model, wallet, network and client."""
    payment = payment_in(ledger, State.SUBMITTED, amount=52_500, of=purchase(ledger))
    clock.now += 9
    ledger.settle(payment.id, HASH, witness=Witness.CHAIN)

    append_settled(ledger)

    assert [
        {
            "ts": NOON + 9,
            "endpoint": "/v1/images/generations",
            "cost_usd": 0.0525,
            "model": BANANA,
            "wallet": payment.payer,
            "network": "base-mainnet",
            "client_kind": "blockrun-magic",
            "id": f"{payment.id}-{NOON + 9:.6f}",
        }
    ] == log_of(ledger)


def test_the_official_billing_counts_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official SDK's own reader adds our lines to its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        official = importlib.import_module("blockrun_llm.cache")
    monkeypatch.setattr(official, "COST_LOG_PATH", ledger.path.parent.parent / "cost_log.jsonl")
    official._append_cost_log("/v1/chat/completions", 0.25, model="x/chat")
    payment_in(ledger, State.SETTLED, amount=52_500, of=purchase(ledger))
    payment_in(ledger, State.SETTLED, amount=42_000, of=purchase(ledger, FLUX))
    append_settled(ledger)
    official._append_cost_log("/v1/chat/completions", 0.25, model="x/chat")

    summary = official.get_cost_log_summary(group_by="model")

    assert 4 == summary["calls"]
    assert pytest.approx(0.5945) == summary["total_usd"]
    assert {"calls": 1, "cost_usd": 0.0525} == summary["groups"][BANANA]


def test_each_payment_is_logged_once(ledger: Ledger) -> None:
    """Appending again adds only the payments settled since."""
    payment_in(ledger, State.SETTLED, amount=1, of=purchase(ledger))
    append_settled(ledger)
    append_settled(ledger)
    payment_in(ledger, State.SETTLED, amount=2, of=purchase(ledger))
    append_settled(ledger)
    with another(ledger) as other:
        append_settled(other)

    assert [1e-6, 2e-6] == [line["cost_usd"] for line in log_of(ledger)]


@pytest.mark.parametrize("state", [state for state in State if state is not State.SETTLED], ids=str)
def test_only_what_is_settled_is_logged(ledger: Ledger, state: State) -> None:
    """Payments at risk and released payments are not logged."""
    payment_in(ledger, state, of=purchase(ledger))

    append_settled(ledger)

    assert [] == log_of(ledger)


@pytest.mark.parametrize("realm", ["practice", "testnet"])
def test_only_real_money_is_logged(ledger: Ledger, realm: str) -> None:
    """Play money and test networks add no line and create no file, because they would falsify the sum."""
    payment_in(ledger, State.SETTLED, of=purchase(ledger, realm=realm))

    append_settled(ledger)

    assert [] == log_of(ledger)
    assert not (ledger.path.parent.parent / "cost_log.jsonl").exists()


def test_several_kernels_log_each_payment_once(ledger: Ledger) -> None:
    """Kernels that append at the same moment neither repeat, lose nor mix lines."""
    for amount in range(1, 21):
        payment_in(ledger, State.SETTLED, amount=amount, of=purchase(ledger, take=amount))
    together = threading.Barrier(4)

    def kernel(number: int) -> None:
        with another(ledger, f"kernel {number}") as mine:
            together.wait()
            append_settled(mine)

    threads = [threading.Thread(target=kernel, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(range(1, 21)) == sorted(round(line["cost_usd"] * 1_000_000) for line in log_of(ledger))


def test_a_commit_that_fails_doubles_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a line was written but not recorded in the ledger, it is found in the log and not written again."""
    payment_in(ledger, State.SETTLED, amount=1, of=purchase(ledger))
    for _ in range(3):
        with ledger.transaction() as connection:
            connection.execute("UPDATE authorizations SET logged = 0")
        append_settled(ledger)

    assert [1e-6] == [line["cost_usd"] for line in log_of(ledger)]


def test_lines_are_whole_or_not_there(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk an incomplete line is removed again, and the line is written later."""
    path = ledger.path.parent.parent / "cost_log.jsonl"
    path.write_text('{"ts": 1}\n{"cut')
    payment_in(ledger, State.SETTLED, amount=1, of=purchase(ledger))
    with monkeypatch.context() as patch:
        write = os.write
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:30]))
        append_settled(ledger)
    assert '{"ts": 1}\n{"cut' == path.read_text()

    append_settled(ledger)

    first, cut, ours = path.read_text().splitlines()
    assert ('{"ts": 1}', '{"cut') == (first, cut)
    assert 1e-6 == json.loads(ours)["cost_usd"]


def test_a_log_that_cannot_be_written_is_caught_up_with(ledger: Ledger) -> None:
    """A failure is ignored, and the line is written once on a later call."""
    path = ledger.path.parent.parent / "cost_log.jsonl"
    payment_in(ledger, State.SETTLED, amount=1, of=purchase(ledger))
    path.mkdir()

    append_settled(ledger)
    path.rmdir()
    append_settled(ledger)
    append_settled(ledger)

    assert [1e-6] == [line["cost_usd"] for line in log_of(ledger)]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_new_log_is_its_owners_alone(ledger: Ledger) -> None:
    """A new log is readable by its owner only; an existing file keeps its mode."""
    path = ledger.path.parent.parent / "cost_log.jsonl"
    payment_in(ledger, State.SETTLED, of=purchase(ledger))
    append_settled(ledger)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    path.chmod(0o644)
    payment_in(ledger, State.SETTLED, of=purchase(ledger))
    append_settled(ledger)

    assert 0o644 == stat.S_IMODE(path.stat().st_mode)
    assert 2 == len(log_of(ledger))


# -- payments as records


def test_payments_are_values_a_table_and_csv(ledger: Ledger, clock: Clock) -> None:
    """Each payment that is settled or at risk is a record; all three forms agree to the micro-dollar."""
    for take, state in enumerate((State.SETTLED, State.UNKNOWN, State.RELEASED), 1):
        payment_in(ledger, state, of=purchase(ledger, FLUX, take=take))
        clock.now += 60
    found = list_payments(ledger, "real", "all")
    file = io.StringIO()
    found.to_csv(file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    frame = found.to_dataframe()

    assert ["settled", "unknown"] == [record["state"] for record in found]
    assert [FLUX] * 2 == list(frame["model"]) == [row["model"] for row in rows]
    assert [str(record["usd"]) for record in found] == [row["usd"] for row in rows]
    assert list(frame.columns) == list(rows[0])
    assert found[0]["time"].endswith("+00:00")
    assert 1 == len(found[1:])
    assert "2 payments" in repr(found)
    assert [] == list(list_payments(ledger, "testnet", "all").to_dataframe()["usd"])


def test_what_was_added_up_is_the_sum_of_the_payments(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored sums stay correct when open payments settle later; each payment counts once."""
    monkeypatch.setattr(sums, "_ENOUGH", 4)
    monkeypatch.setattr(sums, "_STEP", 3)
    waiting: list[Payment] = []
    for number in range(24):
        clock.now += 30_000
        state = [State.SETTLED, State.UNKNOWN, State.RELEASED, State.SETTLED, State.POLLING][number % 5]
        model, realm = (BANANA, FLUX)[number % 2], REALMS[number % 3 // 2]
        payment = payment_in(ledger, state, number + 1, purchase(ledger, model, realm))
        waiting += [payment] * (state in AT_RISK)
        if number % 7 == 6:
            ledger.settle(waiting.pop(0).id, HASH, witness=Witness.CHAIN)
        for money in ("real", "practice"):
            assert spent_in(ledger, money) == (
                spending_summary(ledger, money, "all"),
                spending_by_model(ledger, money, "all"),
                spending_by_day(ledger, money, "all"),
            )

    added = ledger.query("SELECT sum(payments) AS payments FROM sums")[0]["payments"]
    assert 8 <= added <= ledger.query("SELECT count(*) FROM authorizations WHERE state = 'settled'")[0][0]


def spent_in(ledger: Ledger, realm: str) -> tuple[Spending, list[tuple[str, int, int, int]], list[tuple[float, int]]]:
    """Return the three reports on all payments of a realm, computed from the payments."""
    models: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    days: defaultdict[float, int] = defaultdict(int)
    for row in ledger.query(
        "SELECT authorizations.*, request FROM authorizations JOIN purchases ON purchases.id = purchase_id"
        " WHERE authorizations.realm = ? AND state <> 'released'",
        (realm,),
    ):
        settled, amount = row["state"] == "settled", row["amount"]
        counted = (1, amount, 0) if settled else (0, 0, amount)
        model = json.loads(row["request"])["model"]
        models[model] = [one + more for one, more in zip(models[model], counted, strict=True)]
        days[row["created_at"] // 86_400 * 86_400] += amount * settled
    payments, spent, at_risk = (sum(found[place] for found in models.values()) for place in range(3))
    listed = [(model, *found) for model, found in models.items()]
    return (
        Spending(spent, payments, at_risk),
        sorted(listed, key=lambda line: (-line[2], line[0])),  # type: ignore[arg-type]
        sorted((day, amount) for day, amount in days.items() if amount),
    )


@pytest.mark.parametrize(("when", "days"), [("session", 5), ("today", 1), ("all", 5)])
def test_the_days_add_up(ledger: Ledger, clock: Clock, when: str, days: int) -> None:
    """The report lists days with settled payments, and their sum is the total of the period."""
    assert [] == spending_by_day(ledger, "real", when)

    for take in range(1, 6):
        clock.now += 86_400
        payment_in(ledger, State.SETTLED, of=purchase(ledger, FLUX, take=take))
    found = spending_by_day(ledger, "real", when)

    assert spending_summary(ledger, "real", when).settled == sum(spent for _, spent in found)
    assert sorted(found) == found
    assert days == len(found)
    assert all(at % 86_400 == 0 for at, _ in found)


# -- large ledgers


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda ledger: spending_summary(ledger, "real", "all"), "SEARCH authorizations USING INTEGER PRIMARY KEY"),
        (lambda ledger: spending_by_model(ledger, "real", "all"), "SEARCH sums USING PRIMARY KEY"),
        (lambda ledger: spending_by_day(ledger, "real", "all"), "SEARCH sums USING PRIMARY KEY"),
        (lambda ledger: spending_by_model(ledger, "real", "today"), "settled_by_time"),
        (lambda ledger: spending_summary(ledger, "real", "today"), "settled_by_time"),
        (lambda ledger: ledger.log_settled("real", list), "missing_in_log"),
        (lambda ledger: spending_summary(ledger, "real", "session"), "by_session"),
        (lambda ledger: ledger.committed("real"), "PRIMARY KEY"),
        (lambda ledger: ledger.open_payments(), "by_open_state"),
        (lambda ledger: ledger.open_purchases(), "unfinished"),
        (lambda ledger: ledger.search_finished(HistorySearch("real"), 20), "by_age"),
        (lambda ledger: ledger.purchase_by_id("0123"), "sqlite_autoindex_purchases_1"),
    ],
    ids=[
        "spend all",
        "models of all",
        "days of all",
        "spend today",
        "today",
        "cost log",
        "spend session",
        "caps",
        "open payments",
        "open purchases",
        "history",
        "an id",
    ],
)
def test_no_question_reads_every_receipt(ledger: Ledger, ask: Callable[[Ledger], object], index: str) -> None:
    """Each query uses an index, so that years of receipts do not slow it down."""
    asked: list[str] = []
    ledger.database._connection.set_trace_callback(asked.append)
    ask(ledger)
    ledger.database._connection.set_trace_callback(None)
    plans = [row["detail"] for sql in asked for row in ledger.query(f"EXPLAIN QUERY PLAN {sql}")]

    assert any(index in plan for plan in plans), plans
    assert [] == [
        plan for plan in plans if plan.startswith(("SCAN authorizations", "SCAN purchases")) and "INDEX" not in plan
    ]


def test_a_rare_word_is_looked_for_in_the_order_of_the_file(ledger: Ledger) -> None:
    """A search reads the newest purchases by index, then the table, where it compares the text first."""
    asked: list[str] = []
    ledger.database._connection.set_trace_callback(asked.append)
    ledger.search_finished(HistorySearch("real", "zeppelin"), 20)
    ledger.database._connection.set_trace_callback(None)
    plans = [[row["detail"] for row in ledger.query(f"EXPLAIN QUERY PLAN {sql}")] for sql in asked]

    assert all(any("by_age" in step for step in plan) for plan in plans[:-1]), plans
    assert "SCAN purchases" == plans[-1][0]
    assert asked[-1].index("LIKE") < asked[-1].index("json_extract")


def test_the_cost_log_is_where_the_sdks_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both official SDKs ignore BLOCKRUN_HOME for the log; a ledger in another folder has its log beside it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BLOCKRUN_HOME", str(tmp_path / "moved"))

    assert tmp_path / ".blockrun" / "cost_log.jsonl" == cost_log._log_path(tmp_path / "moved")
    assert tmp_path / "other" / "cost_log.jsonl" == cost_log._log_path(tmp_path / "other")
