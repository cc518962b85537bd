"""A waiting kernel: the live line, Stop, queued cells, and invalid responses of gateways."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from blockrun_magic.payments.x402.networks import BASE
from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.gates import Gate
from harness.kernel import Cell, Kernel, paid_to, running_kernel

QUICK = "--model cogview --size 512x512"
PRICE = 15_750
"""The price of an image with these flags, in micro-USDC."""


def waits_for_its_picture(cell: Cell) -> bool:
    """Return whether a cell's live line shows that the cell waits for a paid image."""
    lines = [output["data"]["text/plain"] for output in cell.outputs]
    return any(stage in line for line in lines for stage in ("queued", "in progress"))


# -- the live line


def test_a_waiting_cell_shows_a_line_that_becomes_the_picture(kernel: Kernel) -> None:
    """One display shows model, price, stage and seconds, and later the image."""
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
    """A cell with --quiet displays nothing, even if it is slow."""
    cell = kernel.run(f"%imagegen {QUICK} --quiet a silent tree practice:slow=1")

    assert ("ok", []) == (cell.status, cell.outputs)


# -- queued cells and clicks while a cell waits


def test_no_queued_cell_is_lost_while_a_cell_waits(kernel: Kernel) -> None:
    """Cells queued behind waiting magics run completely and in order."""
    codes = ["seen = []"]
    for number in range(2):
        codes += [f"%imagegen {QUICK} --quiet queue number {number} practice:slow=0.3", f"seen.append({number})"]
    cells = [kernel.finish(name) for name in [kernel.start(code) for code in codes]]

    assert ["ok"] * len(codes) == [cell.status for cell in cells]
    assert "[0, 1]" == kernel.value("seen")
    assert sorted(cell.count or 0 for cell in cells) == [cell.count for cell in cells]


def test_a_cell_that_fails_stops_what_is_queued_behind_it(kernel: Kernel) -> None:
    """After one of our errors, Run All stops."""
    first = kernel.start(f"%imagegen {QUICK} practice:403 refused")
    second = kernel.start("went_on = True")

    assert "ContentPolicyViolation" == kernel.finish(first).error_name
    assert "aborted" == kernel.finish(second).status


# -- Stop


def test_stop_ends_the_waiting_and_the_image_is_collected_later(
    kernel: Kernel, gateway: PracticeServer, gate: Gate
) -> None:
    """Stop raises KeyboardInterrupt and reports the sent payment; the next run gets the image and pays nothing."""
    code = f"%%imagegen {QUICK}\na stopped tree practice:slow=0"
    gate.hold("polled")
    before = paid_to(gateway.url)
    name = kernel.start(code)
    kernel.wait_for(name, waits_for_its_picture)
    kernel.interrupt()
    stopped = kernel.finish(name)
    gate.opened.set()
    after_stop = kernel.run("1 + 1")
    again = kernel.run(code)

    assert ("error", "KeyboardInterrupt") == (stopped.status, stopped.error_name)
    assert 1 == len(stopped.error)
    assert "$0.01575 play money" in stopped.error[0]
    assert "" == stopped.text.strip()
    assert [] == stopped.pictures
    assert ("ok", "2") == (after_stop.status, after_stop.text)
    assert ("ok", 1) == (again.status, len(again.pictures))
    assert before + PRICE == paid_to(gateway.url)


def test_stop_before_anything_was_sent_costs_nothing(kernel: Kernel) -> None:
    """A cell stopped during its quote has signed nothing."""
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
    assert stopped.error
    assert "Real USDC spent this session" in spend.text
    assert "$0.00    $0.00" in spend.text
    assert "ok" == back.status


# -- invalid responses


@pytest.mark.parametrize("trigger", ["html", "truncated", "bomb", "svg", "file-url", "foreign-url", "no-data"])
def test_an_answer_that_is_no_picture_ends_in_two_lines(kernel: Kernel, gateway: PracticeServer, trigger: str) -> None:
    """The error has two lines with the paid amount, no image is shown, and the next run pays nothing."""
    code = f"%imagegen {QUICK} a trap practice:{trigger}"
    before = paid_to(gateway.url)
    cell, again = kernel.run(code), kernel.run(code)

    assert "InvalidResponse" == cell.error_name
    assert 2 == len(cell.error)
    assert "$0.01575 was paid" in cell.error[1]
    assert [] == cell.pictures
    assert "InvalidResponse" == again.error_name
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
    """The error has two lines without HTML, and no money moves."""
    before = paid_to(gateway.url)
    cell = kernel.run(f"%imagegen {QUICK} a wall practice:{trigger}")

    assert (name, 2) == (cell.error_name, len(cell.error))
    assert "<" not in "".join(cell.error)
    assert before == paid_to(gateway.url)


def test_a_script_from_the_model_is_shown_as_words(kernel: Kernel) -> None:
    """Tags in a revised prompt are escaped in HTML and unchanged in text."""
    cell = kernel.run(f"%imagegen {QUICK} a tree practice:script")

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in cell.html
    assert "<script" not in cell.html
    assert "The model read: <script>alert(1)</script>" in cell.text


def test_the_result_is_the_value_of_its_cell(kernel: Kernel, tmp_path: Path) -> None:
    """`_` holds the result of the cell, and its image can be saved."""
    kernel.run(f"%imagegen {QUICK} a tree to keep")
    kernel.run("kept = _")
    saved = kernel.run(f"kept.save({str(tmp_path / 'tree.png')!r})")

    assert "'ImageResult'" == kernel.value("type(kept).__name__")
    assert "ok" == saved.status
    assert (tmp_path / "tree.png").read_bytes().startswith(b"\x89PNG")


# -- clicks and threads


def test_no_click_is_lost_while_a_cell_waits(kernel: Kernel) -> None:
    """Each click during a waiting cell is handled once."""
    kernel.run("import ipywidgets\nclicks = []\nbutton = ipywidgets.Button()\nbutton.on_click(clicks.append)")
    button = kernel.value("button.model_id").strip("'")
    waiting = kernel.start(f"%imagegen {QUICK} --quiet practice:slow=1 while somebody clicks")
    for _ in range(5):
        kernel.click(button)

    assert "ok" == kernel.finish(waiting).status
    assert "ok" == kernel.run("pass").status
    assert "5" == kernel.value("len(clicks)")


def test_threads_may_ask_at_the_same_time(kernel: Kernel) -> None:
    """Two threads of a cell each get their own image."""
    cell = kernel.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def ask(words):\n"
        f"    return get_ipython().run_line_magic('imagegen', '{QUICK} --quiet ' + words)\n"
        "with ThreadPoolExecutor(2) as pool:\n"
        "    asked = list(pool.map(ask, ['from thread one', 'from thread two']))\n"
        "print([each.prompt for each in asked])"
    )

    assert "ok" == cell.status, cell.error
    assert "['from thread one', 'from thread two']" in cell.text


# -- Stop during a download


def test_stop_hangs_up_on_a_source_that_does_not_come(kernel: Kernel, gateway: PracticeServer) -> None:
    """Stop closes the connection to a slow source, and nothing is paid."""
    before = paid_to(gateway.url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        name = kernel.start(f"%%img2img --image http://127.0.0.1:{silent.getsockname()[1]}/slow.png\na late image")
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(PATIENCE)
            asked = connection.recv(65536)
            kernel.interrupt()
            stopped = kernel.finish(name)
            try:
                hung_up = connection.recv(65536)
            except ConnectionResetError:  # a reset connection is closed as well
                hung_up = b""

    assert asked.startswith(b"GET /slow.png ")
    assert b"" == hung_up
    assert "KeyboardInterrupt" == stopped.error_name
    assert before == paid_to(gateway.url)


# -- other kernels


def test_a_killed_kernel_leaves_a_payment_that_the_next_one_collects(tmp_path: Path) -> None:
    """After a kernel is killed, the next kernel shows its paid image without a second payment."""
    code = f"%%imagegen {QUICK}\npractice:slow=0 an image whose kernel dies"
    hook = Gate()
    hook.hold("polled")
    with PracticeServer(hook=hook) as gateway:
        environ = {"BLOCKRUN_PRACTICE_URL": gateway.url}
        with running_kernel(tmp_path, environ) as first:
            first.run("%load_ext blockrun_magic\n%blockrun use practice")
            first.wait_for(first.start(code), waits_for_its_picture)
        hook.opened.set()
        with running_kernel(tmp_path, environ) as second:
            second.run("%load_ext blockrun_magic\n%blockrun use practice")
            cell = second.run(code)
        paid = paid_to(gateway.url)

    assert ("ok", 1) == (cell.status, len(cell.pictures)), cell.error
    assert PRICE == paid


def test_a_key_that_pays_is_in_nothing_that_a_notebook_keeps(tmp_path: Path) -> None:
    """Neither outputs nor errors contain the key or the payment's nonce."""
    key = "1b" * 32
    with PracticeServer(network=BASE) as gateway:
        environ = {"BLOCKRUN_API_URL": gateway.url, "BLOCKRUN_WALLET_KEY": f"0x{key}"}
        with running_kernel(tmp_path, environ) as kernel:
            cells = [
                kernel.run(code)
                for code in (
                    "%load_ext blockrun_magic",
                    f"%imagegen {QUICK} an image by a real key",
                    "_",
                    "print(repr(_), _.receipt, dict(_.request))",
                    f"%imagegen {QUICK} practice:402",
                    "%tb",
                    "%blockrun",
                    "%blockrun wallet address",
                    "%blockrun jobs",
                    "%blockrun spend",
                )
            ]
        paid = paid_to(gateway.url)
        [settlement] = httpx.get(f"{gateway.url}/practice/ledger", timeout=PATIENCE).json()["settlements"]
    shown = "\n".join(str(cell) for cell in cells)

    assert PRICE == paid
    assert "BLOCKRUN_API_URL" in cells[6].text
    assert "play money" not in shown
    assert settlement["payer"] in cells[7].text
    assert settlement["transaction"] in cells[3].text
    assert key not in shown
    assert settlement["nonce"].removeprefix("0x") not in shown
