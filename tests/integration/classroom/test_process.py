"""The service as a process: it shuts down in order, and the next one takes over the orders of a killed one."""

from __future__ import annotations

import csv
import json
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path

import httpx
import pytest

from blockrun_magic.classroom.commands import run
from blockrun_magic.classroom.room import Settings, open_classroom
from blockrun_magic.errors import WalletMissing
from blockrun_magic.gateway.gateways import gateway_named
from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.classroom import PRICE, Class, run_command, served_class
from harness.gates import Gate


@pytest.fixture
def gateway(gate: Gate) -> Iterator[PracticeServer]:
    """Yield a practice gateway."""
    with PracticeServer(hook=gate) as running:
        yield running


def test_the_end_lets_orders_end(tmp_path: Path, gateway: PracticeServer, gate: Gate) -> None:
    """SIGTERM refuses new orders, finishes current ones and exits cleanly; a second service cannot use the folder."""
    with served_class(tmp_path, gateway) as (room, process):
        ada, key = room.student("ada"), secrets.token_hex(16)
        gate.point = "paid"
        assert 202 == ada.put("a fox", key, wait=0).status_code
        assert gate.seen.wait(PATIENCE)
        second = run_command(room.home, "serve", "--gateway", gateway.url, "--port", "0")
        process.send_signal(signal.SIGTERM)
        _wait_until_it_stops(room)
        with suppress(httpx.TransportError):  # a closed connection also takes no order
            refused = ada.put("a cat", wait=0)
            assert (503, "stopping") == (refused.status_code, refused.json()["error"]["code"])
        gate.opened.set()

        assert 0 == process.wait(PATIENCE)
        assert (2, "", 2) == (second.returncode, second.stdout, len(second.stderr.splitlines()))
        [order] = room.records.orders.listed()
        assert (key, "done") == (order.key, order.state)
    assert 1 == len(httpx.get(f"{gateway.url}/practice/ledger", timeout=PATIENCE).json()["settlements"])


def _wait_until_it_stops(room: Class) -> None:
    """Wait until the service reports that it accepts no more orders, or does not answer."""
    end = time.monotonic() + PATIENCE
    with suppress(httpx.TransportError):
        while room.client.get(f"{room.url}/ready").status_code == 200:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.parametrize("point", ["challenge", "received", "paid", "settled"])
def test_killed_between_two_messages(tmp_path: Path, gateway: PracticeServer, gate: Gate, point: str) -> None:
    """The next service takes over the order of a killed one: it has one settlement and the image."""
    with served_class(tmp_path, gateway) as (room, process):
        ada, key = room.student("ada"), secrets.token_hex(16)
        gate.point = point
        assert 202 == ada.put("a fox", key, wait=0).status_code
        assert gate.seen.wait(PATIENCE)
        process.kill()
        process.wait(PATIENCE)
    gate.opened.set()
    with served_class(tmp_path, gateway) as (room, _):
        started = time.monotonic()
        ada.url, ada.client = room.url, room.client
        while (done := ada.get(key, wait=20)).status_code == 202:
            assert time.monotonic() - started < PATIENCE

        assert (200, "done", PRICE) == (
            done.status_code,
            *(done.json()[name] for name in ("state", "charged_micros")),
        )
        assert 1 == len(room.settlements)
        assert room.agrees


def test_commands(tmp_path: Path, gateway: PracticeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The owner's commands work while the service runs, and their changes apply at once."""
    with served_class(tmp_path, gateway) as (room, _):

        def command(*arguments: str) -> tuple[int, str]:
            status = run(["--home", str(room.home), *arguments])
            return status, capsys.readouterr().out

        assert {"url", "pid"} == set(json.loads((room.home / "classroom" / "ready.json").read_text()))
        assert 0o600 == (room.home / "classroom" / "ready.json").stat().st_mode & 0o777
        limits = command("limits", "class=1.00", "each=0.20", "each/day=0.10", "group:red=10", "all=5")
        code = run_command(room.home, "invite", "ada", "--group", "red")
        joined = room.client.post(f"{room.url}/v1/join", json={"code": code.stdout.strip()})
        headers = {"Authorization": f"Bearer {joined.json()['pass']}"}
        personal = command("limits", "member:ada/day=0.06", "each/day=none", "see=amounts", "models=nano-banana")
        report = command("report", "--csv", str(tmp_path / "spend.csv"))
        for name, code_of in (("pause", "paused"), ("resume", "")):
            assert 0 == command(name)[0]
            me = room.client.get(f"{room.url}/v1/me", headers=headers).json()
            assert (code_of == "paused") is me["policy"]["paused"]
        assert 0 == command("revoke", "ada")[0]
        gone = room.client.get(f"{room.url}/v1/me", headers=headers)
        forgotten = command("forget", "ada")
        again = command("forget", "ada")
        audit = room.records.audit.entries()

    assert (0, 0, 0, 0) == (limits[0], personal[0], report[0], forgotten[0])
    assert {"class/total=$1.00", "each/total=$0.20", "each/day=$0.10", "group:red/total=$10.00", "all/total=$5.00"} == {
        *limits[1].split()
    }
    assert ["red"] == joined.json()["groups"]
    assert ["google/nano-banana"] == me["policy"]["models"]
    assert [("you", "day", 60_000)] == [
        (limit["subject"], limit["period"], limit["limit"]) for limit in me["limits"] if limit["period"] == "day"
    ]
    assert (401, "revoked") == (gone.status_code, gone.json()["error"]["code"])
    assert 2 == again[0]
    assert "ada" not in "".join(str(entry) for entry in audit)
    assert {"owner", "service"} == {entry.actor for entry in audit}
    assert ["name", "role", "groups"] == (tmp_path / "spend.csv").read_text().split(",")[:3]


@pytest.mark.parametrize(
    "arguments",
    [
        ["limits", "clas=1"],
        ["limits", "class"],
        ["limits", "class=1,50"],
        ["limits", "class=-1"],
        ["limits", "each/dy=1"],
        ["limits", "member:nobody=1"],
        ["limits", "group:=1"],
        ["limits", "class=1", "each=99999999999999"],
        ["limits", "class=1", "models="],
        ["limits", "group:red/rate=5"],
        ["limits", "group:\u202ered=5"],
        ["limits", "class=1", "max_size=big"],
        ["limits", "timezone=Mars/Olympus"],
        ["invite"],
        ["invite", ""],
        ["invite", "a\nb"],
        ["invite", "\u202eada"],
        ["invite", "ada", "--people", "3"],
        ["invite", "--people", "0"],
        ["invite", "ada", "--expires", "yesterday"],
        ["invite", "ada", "--expires", "2020-01-01"],
        ["revoke", "nobody"],
        ["forget", "nobody"],
        ["report", "--csv", "/nowhere/at/all.csv"],
        ["serve", "--port", "99999", "--gateway", "practice"],
        ["serve", "--gateway", "nowhere"],
        ["serve", "--database", "mysql://x", "--gateway", "practice"],
        ["serve"],
        ["bogus"],
        [],
    ],
)
def test_bad_input_of_the_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Wrong input gives two lines and an exit status of 1 or 2, and changes nothing."""
    home = ["--home", str(tmp_path / "home")]
    assert 0 == run([*home, "limits"])
    capsys.readouterr()
    try:
        status = run([*home, *arguments])
    except SystemExit as end:  # argparse exits
        status = int(str(end.code))
    written = capsys.readouterr()

    assert (True, "", 2) == (status in (1, 2), written.out, len(written.err.splitlines())), written.err
    if arguments[:1] == ["limits"]:
        assert 0 == run([*home, "limits"])
        assert "" == capsys.readouterr().out


def test_what_limits_prints_can_be_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every limit and rule is printed as an argument that `limits` accepts, even for names with special characters."""
    given = ["all/total=$5.00", "class/day=$1.00", "group:a=b/total=$2.00", "each/day=$0.50", "member:c/d/month=$0.20"]
    rules = ["class/models=google/nano-banana", "class/starts_at=2027-01-31T08:00+01:00", "class/rate=3"]
    first, again = (["--home", str(tmp_path / name)] for name in ("first", "again"))
    for home in (first, again):
        assert 0 == run([*home, "invite", "c/d", "--group", "red"])
    capsys.readouterr()

    assert 0 == run([*first, "limits", *given, *rules, "group:red/edits=no", "timezone=Europe/Berlin"])
    printed = capsys.readouterr().out.splitlines()
    assert {*given, *rules, "group:red/edits=no"} == {*printed}
    assert 0 == run([*again, "limits", *printed, "timezone=Europe/Berlin"])
    assert printed == capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", ["report", "pause", "resume", "link", "revoke ada", "forget ada"])
def test_a_folder_without_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A mistyped folder is reported and not created; so is a file in place of a folder."""
    (tmp_path / "file").touch()
    for name in ("typo", "file"):
        assert 2 == run(["--home", str(tmp_path / name), *command.split()])
        written = capsys.readouterr()
        assert ("", 2) == (written.out, len(written.err.splitlines()))
    assert not (tmp_path / "typo").exists()


def test_a_rehearsal_is_in_no_report(tmp_path: Path, gateway: PracticeServer) -> None:
    """A service without a wallet changes no report; with another kind of money, the report starts again."""
    with served_class(tmp_path, gateway) as (room, _):
        assert 200 == room.student("ada").put("a fox").status_code
        home = room.home

    def report_after(begun: AbstractContextManager[object], **environ: str) -> tuple[str, str, str]:
        environ |= {"HOME": str(home), "BLOCKRUN_HOME": str(home)}
        other = open_classroom(Settings(home, gateway_named("testnet"), environ=environ))
        with closing(other.records), begun:
            other.begin()
        assert 0 == run(["--home", str(home), "report", "--csv", str(tmp_path / "spend.csv")])
        [row] = csv.DictReader((tmp_path / "spend.csv").read_text().splitlines())
        return row["orders"], row["images"], row["spent_usd"]

    assert ("1", "1", "0.052500") == report_after(pytest.raises(WalletMissing))
    assert ("0", "0", "0.000000") == report_after(nullcontext(), BLOCKRUN_WALLET_KEY="0x" + "11" * 32)
