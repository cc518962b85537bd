"""A kernel that waits: the live line, Stop, queued cells, and gateways that answer badly."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels import Cell, Kernel, paid_to, running_kernel

from blockrun_magic.practice.server import PracticeServer

QUICK = "--model cogview --size 512x512"
PRICE = 15_750
"""What a picture costs with these flags, in micro-dollars."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[PracticeServer]:
    """Return a practice gateway, whose ledger the tests may look into."""
    with PracticeServer() as server:
        yield server


@pytest.fixture(scope="module")
def kernel(gateway: PracticeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Return a kernel that has loaded the extension and uses the practice gateway."""
    home = tmp_path_factory.mktemp("kernel")
    with running_kernel(home, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as running:
        assert "ok" == running.run("%load_ext blockrun_magic").status
        assert "ok" == running.run("%blockrun use practice").status
        yield running


def waits_for_its_picture(cell: Cell) -> bool:
    """Return whether a cell's live line says that it is paid for and waits."""
    return any("in progress" in output["data"]["text/plain"] for output in cell.outputs)


# -- the live line


def test_a_waiting_cell_shows_a_line_that_becomes_the_picture(kernel: Kernel) -> None:
    """What, price, stage and seconds are shown in one place, which the picture takes over in the end."""
    cell = kernel.run(f"%imagegen {QUICK} a slow tree practice:slow=1.5")
    shown = [content["data"] for content in cell.of_type("display_data")]
    updates = [content["data"] for content in cell.of_type("update_display_data")]

    assert "ok" == cell.status
    assert shown[0]["text/plain"].startswith("zai/cogview-4 · ")
    assert shown[0]["text/plain"].endswith(" s")
    assert any("$0.01575 play money · " in data["text/plain"] for data in updates)
    assert "image/jpeg" in updates[-1]
    assert not any("image/jpeg" in data for data in [*shown, *updates[:-1]])
    assert [{"image/jpeg", "text/plain"}, {"text/html", "text/plain"}] == [
        set(output["data"]) for output in cell.outputs
    ]


def test_a_quiet_cell_shows_no_line_either(kernel: Kernel) -> None:
    """--quiet means nothing is displayed, however long it takes."""
    cell = kernel.run(f"%imagegen {QUICK} --quiet a silent tree practice:slow=1")

    assert ("ok", []) == (cell.status, cell.outputs)


# -- Run All and clicks while a cell waits


def test_no_queued_cell_is_lost_while_a_cell_waits(kernel: Kernel) -> None:
    """Cells sent behind waiting magics all run, in order, magics among them."""
    codes = ["seen = []"]
    for number in range(2):
        codes += [f"%imagegen {QUICK} --quiet queue number {number} practice:slow=0.3", f"seen.append({number})"]
    cells = [kernel.finish(name) for name in [kernel.start(code) for code in codes]]

    assert ["ok"] * len(codes) == [cell.status for cell in cells]
    assert "[0, 1]" == kernel.value("seen")
    assert sorted(cell.count or 0 for cell in cells) == [cell.count for cell in cells]


def test_a_cell_that_fails_stops_what_is_queued_behind_it(kernel: Kernel) -> None:
    """Run All does not go on after one of our errors."""
    first = kernel.start(f"%imagegen {QUICK} practice:403 refused")
    second = kernel.start("went_on = True")

    assert "ContentRefused" == kernel.finish(first).error_name
    assert "aborted" == kernel.finish(second).status


# -- Stop


def test_stop_ends_the_waiting_and_the_picture_is_collected_later(kernel: Kernel, gateway: PracticeServer) -> None:
    """Stop raises KeyboardInterrupt, says truly that the payment had left, and the same cell then pays nothing more."""
    code = f"%%imagegen {QUICK}\na stopped tree practice:slow=2"
    before = paid_to(gateway.url)
    name = kernel.start(code)
    kernel.wait_for(name, waits_for_its_picture)
    kernel.interrupt()
    stopped = kernel.finish(name)
    after_stop = kernel.run("1 + 1")
    again = kernel.run(code)

    assert ("error", "KeyboardInterrupt") == (stopped.status, stopped.error_name)
    assert "The payment of $0.01575 play money had been sent already" in stopped.text
    assert [] == stopped.pictures
    assert ("ok", "2") == (after_stop.status, after_stop.text)
    assert ("ok", 1) == (again.status, len(again.pictures))
    assert before + PRICE == paid_to(gateway.url)


def test_stop_before_anything_was_sent_costs_nothing(kernel: Kernel) -> None:
    """A cell that waits for its price has signed nothing, and says so when it is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kernel.run("import os; os.environ['BLOCKRUN_WALLET_KEY'] = '0x' + '17' * 32")
        kernel.run(f"%blockrun use http://127.0.0.1:{silent.getsockname()[1]}/api")
        name = kernel.start(f"%imagegen {QUICK} a tree that nobody asked for")
        kernel.wait_for(name, lambda cell: bool(cell.outputs))
        kernel.interrupt()
        stopped = kernel.finish(name)
        spend = kernel.run("%blockrun spend")
        kernel.run("del os.environ['BLOCKRUN_WALLET_KEY']")
        back = kernel.run("%blockrun use practice")

    assert "KeyboardInterrupt" == stopped.error_name
    assert "Nothing was sent, nothing is charged." in stopped.text
    assert "Real USDC spent this session" in spend.text
    assert "$0.00    $0.00" in spend.text
    assert "ok" == back.status


# -- answers that are none


@pytest.mark.parametrize("trigger", ["html", "truncated", "bomb", "svg", "file-url", "foreign-url", "no-data"])
def test_an_answer_that_is_no_picture_ends_in_two_lines(kernel: Kernel, gateway: PracticeServer, trigger: str) -> None:
    """What was wrong, and what it cost: no traceback, no picture, and the same cell pays nothing more."""
    code = f"%imagegen {QUICK} a trap practice:{trigger}"
    before = paid_to(gateway.url)
    cell, again = kernel.run(code), kernel.run(code)

    assert "AnswerUnusable" == cell.error_name
    assert 2 == len(cell.error)
    assert "$0.01575 was paid" in cell.error[1]
    assert [] == cell.pictures
    assert "AnswerUnusable" == again.error_name
    assert before + PRICE == paid_to(gateway.url)


@pytest.mark.parametrize(
    ("trigger", "name"),
    [
        ("400", "RequestRejected"),
        ("402", "PaymentRejected"),
        ("fail-job=0.1", "JobFailed"),
    ],
)
def test_a_refusal_ends_in_two_lines_and_costs_nothing(
    kernel: Kernel, gateway: PracticeServer, trigger: str, name: str
) -> None:
    """An error before payment is told without HTML or a traceback, and moves no money."""
    before = paid_to(gateway.url)
    cell = kernel.run(f"%imagegen {QUICK} a wall practice:{trigger}")

    assert (name, 2) == (cell.error_name, len(cell.error))
    assert "<" not in "".join(cell.error)
    assert before == paid_to(gateway.url)


def test_a_script_from_the_model_is_shown_as_words(kernel: Kernel) -> None:
    """A revised prompt with tags in it is escaped in HTML and told as it is in text."""
    cell = kernel.run(f"%imagegen {QUICK} a tree practice:script")

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in cell.html
    assert "<script" not in cell.html
    assert "The model read: <script>alert(1)</script>" in cell.text


def test_the_result_is_the_value_of_its_cell(kernel: Kernel, tmp_path: Path) -> None:
    """`_` and `Out` hold the result, whose picture can be saved and edited further."""
    kernel.run(f"%imagegen {QUICK} a tree to keep")
    kernel.run("kept = _")
    saved = kernel.run(f"kept.save({str(tmp_path / 'tree.png')!r})")

    assert "'ImageResult'" == kernel.value("type(kept).__name__")
    assert "ok" == saved.status
    assert (tmp_path / "tree.png").read_bytes().startswith(b"\x89PNG")
