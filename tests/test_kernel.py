"""What a kernel goes through: queued cells, Stop, live lines, no wallet, restarts, hostile answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from kernels import Cell, Kernel, paid_to, running_kernel

from blockrun_magic.payments.networks import BASE
from blockrun_magic.practice.server import PracticeServer

QUICK = "--model cogview --size 512x512"
PRICE = 15_750


@pytest.fixture(scope="module")
def gateway() -> Iterator[PracticeServer]:
    """Return a practice gateway, whose ledger the tests may look into."""
    with PracticeServer() as server:
        yield server


@pytest.fixture(scope="module")
def kernel(gateway: PracticeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Return a kernel that uses the practice gateway."""
    with running_kernel(tmp_path_factory.mktemp("kernel"), {"BLOCKRUN_PRACTICE_URL": gateway.url}) as running:
        assert running.run("%load_ext blockrun_magic\n%blockrun use practice").status == "ok"
        yield running


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Return a kernel without a wallet, a gateway of its own or the extension."""
    with running_kernel(tmp_path_factory.mktemp("bare")) as running:
        yield running


def is_waiting(cell: Cell) -> bool:
    """Return whether a cell shows that its job is queued or in progress."""
    return any("queued" in output["data"].get("text/plain", "") for output in cell.outputs)


# -- a beginner's first minute


def test_loading_imports_nothing_heavy(bare: Kernel) -> None:
    """%load_ext leaves signing, pictures, widgets, HTTP and the practice server for when they are needed."""
    heavy = "eth_account PIL ipywidgets httpx starlette uvicorn filelock numpy nest_asyncio2 sqlite3_never".split()
    bare.run("import sys; before = set(sys.modules)")
    cell = bare.run("%load_ext blockrun_magic")
    loaded = bare.value(f"sorted({{name.partition('.')[0] for name in set(sys.modules) - before}} & set({heavy}))")

    assert "ok" == cell.status
    assert "[]" == loaded


def test_without_a_wallet_a_cell_says_what_is_missing_and_run_all_stops(bare: Kernel) -> None:
    """The first cell answers in two lines, with the three ways to a wallet; the cells behind it do not run."""
    bare.run("%reload_ext blockrun_magic\nreached = []")
    first = bare.start("%%imagegen\na cat")
    behind = [bare.start(f"reached.append({number})") for number in range(3)]
    cell = bare.finish(first)

    assert "WalletMissing: There is no wallet to pay with." == cell.error[0]
    assert 2 == len(cell.error)
    for way in ("%blockrun use practice", "BLOCKRUN_WALLET_KEY", "~/.blockrun/.session"):
        assert way in cell.error[1]
    assert ["aborted"] * 3 == [bare.finish(cell_id).status for cell_id in behind]
    assert "[]" == bare.value("reached")


def test_the_kernel_goes_on_after_an_error(bare: Kernel) -> None:
    """The next cell that is run works as if nothing had happened."""
    bare.run("%reload_ext blockrun_magic")
    bare.run("%imagegen a cat")

    assert "ok" == bare.run("%blockrun").status
    assert "base (https://blockrun.ai/api)" in bare.run("%blockrun").text


def test_unloading_takes_everything_back(bare: Kernel) -> None:
    """After %unload_ext there are no magics, no threads of ours and no formatters; loading again works."""
    bare.run("%reload_ext blockrun_magic\n%blockrun use practice")
    bare.run(f"%imagegen {QUICK} --quiet a picture before the end")
    bare.run("result = _")
    assert "ok" == bare.run("%unload_ext blockrun_magic").status

    threads = bare.value("sorted(t.name for t in __import__('threading').enumerate())")
    assert "blockrun-magic" not in threads
    assert "practice-gateway" not in threads
    assert "UsageError" in bare.run("%imagegen a cat").text + bare.run("%imagegen a cat").error_name
    assert 1 == len(bare.run("result").pictures)

    assert "ok" == bare.run("%load_ext blockrun_magic\n%blockrun use practice").status
    assert "$0.00: bought" in bare.run(f"%imagegen {QUICK} a picture before the end").text


def test_the_gateway_of_the_environment_is_taken_at_load(bare: Kernel) -> None:
    """BLOCKRUN_API_URL says where requests go, with the wallet of the environment; it must be safe to pay there."""
    with PracticeServer(network=BASE) as base:
        key = "0x" + "42" * 32
        bare.run(f"%env BLOCKRUN_API_URL={base.url}\n%env BLOCKRUN_WALLET_KEY={key}\n%reload_ext blockrun_magic")
        overview = bare.run("%blockrun")
        cell = bare.run(f"%imagegen {QUICK} a picture paid on Base, on this machine")
        paid = paid_to(base.url)
    bare.run("%env BLOCKRUN_API_URL=http://blockrun.example/api\n%reload_ext blockrun_magic")
    unsafe = bare.run("%imagegen a cat")
    bare.run("import os; del os.environ['BLOCKRUN_API_URL'], os.environ['BLOCKRUN_WALLET_KEY']")
    bare.run("%reload_ext blockrun_magic")

    assert f"{base.url}" in overview.text
    assert "from BLOCKRUN_API_URL" in overview.text
    assert "play money" not in cell.text
    assert PRICE == paid
    assert ("FlagError", 2) == (unsafe.error_name, len(unsafe.error))
    assert key[2:] not in str([overview, cell, unsafe])


# -- waiting


def test_a_waiting_cell_shows_a_line_that_becomes_the_picture(kernel: Kernel) -> None:
    """One display shows model, price, state and seconds while the cell waits, and then the picture itself."""
    cell = kernel.run(f"%%imagegen {QUICK}\npractice:slow=1 a slow picture")

    first = cell.of_type("display_data")[0]
    place = first["transient"]["display_id"]
    updates = [update["data"] for update in cell.of_type("update_display_data")]
    ids = {update["transient"]["display_id"] for update in cell.of_type("update_display_data")}
    lines = [first["data"]["text/plain"], *(data["text/plain"] for data in updates[:-1])]
    assert {place} == ids
    assert all(line.startswith("zai/cogview-4 · ") for line in lines)
    assert any("$0.01575 play money · queued · 1 s" in line for line in lines)
    assert "image/jpeg" in updates[-1]
    assert 2 == len(cell.outputs)
    assert 1 == len(cell.pictures)


@pytest.mark.parametrize("keep_loop_running", [False, True])
def test_no_queued_cell_is_lost_behind_a_waiting_one(kernel: Kernel, *, keep_loop_running: bool) -> None:
    """Run All: every cell behind two waiting ones runs, once and in order."""
    kernel.run(f"order = []\n%config BlockrunMagics.keep_loop_running = {keep_loop_running}")
    cells = []
    for number in range(6):
        waits = number in {0, 3}
        word = f"practice:slow=0.5 {number} {keep_loop_running}"
        cells.append(
            kernel.start(
                f"%imagegen {QUICK} --quiet {word}\norder.append({number})" if waits else f"order.append({number})"
            )
        )

    assert ["ok"] * 6 == [kernel.finish(cell_id).status for cell_id in cells]
    assert "[0, 1, 2, 3, 4, 5]" == kernel.value("order")
    kernel.run("%config BlockrunMagics.keep_loop_running = False")


def test_no_click_is_lost_behind_a_waiting_cell(kernel: Kernel) -> None:
    """Buttons pressed while a cell waits are heard: during it or right after it, each once."""
    kernel.run("import ipywidgets\nclicks = []\nbutton = ipywidgets.Button()\nbutton.on_click(clicks.append)")
    model_id = kernel.value("button.model_id").strip("'")
    waiting = kernel.start(f"%imagegen {QUICK} --quiet practice:slow=1 while somebody clicks")
    kernel.start("pass")
    for _ in range(5):
        kernel.click(model_id)

    assert "ok" == kernel.finish(waiting).status
    assert "ok" == kernel.run("import time; time.sleep(0.1)").status
    assert "5" == kernel.value("len(clicks)")


def test_the_users_own_threads_may_make_pictures_too(kernel: Kernel) -> None:
    """Two threads of a cell ask at the same time, and each gets its own picture."""
    cell = kernel.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def ask(word):\n"
        f"    return get_ipython().run_line_magic('imagegen', '{QUICK} --quiet ' + word)\n"
        "with ThreadPoolExecutor(2) as pool:\n"
        "    asked = list(pool.map(ask, ['from thread one', 'from thread two']))\n"
        "print([each.prompt for each in asked])"
    )

    assert "ok" == cell.status, cell.error
    assert "['from thread one', 'from thread two']" in cell.text


# -- Stop


def test_stop_after_payment_tells_the_truth_and_loses_nothing(kernel: Kernel, gateway: PracticeServer) -> None:
    """Stop ends the cell with KeyboardInterrupt; what had been sent is said, and a rerun collects it, paid once."""
    before = paid_to(gateway.url)
    code = f"%%imagegen {QUICK}\npractice:slow=2 a picture that is stopped"
    stopped = kernel.start(code)
    kernel.wait_for(stopped, is_waiting)
    kernel.interrupt()
    cell = kernel.finish(stopped)
    later = kernel.run("1 + 1")
    again = kernel.run(code)

    assert "KeyboardInterrupt" == cell.error_name
    assert "Stopped after" in cell.text
    assert "The payment of $0.01575 play money had been sent already" in cell.text
    assert "ok" == later.status
    assert 1 == len(again.pictures)
    assert before + PRICE == paid_to(gateway.url)


@contextmanager
def silent_server() -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """Yield the URL of a server that never answers, and events: somebody asked; the asker has hung up."""
    asked, gone = threading.Event(), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            asked.set()
            if not connection.recv(65536):
                gone.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/picture.png", asked, gone
        thread.join(10)


def test_stop_before_payment_cancels_the_work(kernel: Kernel, gateway: PracticeServer) -> None:
    """Stop while a source is still being fetched hangs up at once; nothing was signed, and the cell says so."""
    before = paid_to(gateway.url)
    with silent_server() as (url, asked, gone):
        waiting = kernel.start(f"%%img2img --image {url}\na picture that is never made")
        assert asked.wait(20)
        kernel.wait_for(waiting, lambda cell: bool(cell.outputs))
        kernel.interrupt()
        cell = kernel.finish(waiting)

        assert gone.wait(10)

    assert "KeyboardInterrupt" == cell.error_name
    assert "nothing is charged" in cell.text
    assert before == paid_to(gateway.url)
    assert "ok" == kernel.run("1 + 1").status


def test_stop_ends_run_all(kernel: Kernel) -> None:
    """The cells behind a stopped one are not run, as with any interrupted cell; the next click works."""
    kernel.run("after = []")
    waiting = kernel.start(f"%imagegen {QUICK} practice:slow=1 stopped in the middle of Run All")
    behind = kernel.start("after.append(1)")
    kernel.wait_for(waiting, is_waiting)
    kernel.interrupt()

    assert "error" == kernel.finish(waiting).status
    assert "aborted" == kernel.finish(behind).status
    assert "ok" == kernel.run("after.append(2)").status
    assert "[2]" == kernel.value("after")


# -- restarts


def test_a_killed_kernel_has_not_paid_for_nothing(gateway: PracticeServer, tmp_path: Path) -> None:
    """A kernel that dies while its picture is made leaves a payment that the next kernel collects on, once."""
    before = paid_to(gateway.url)
    environ = {"BLOCKRUN_PRACTICE_URL": gateway.url}
    ready = "%load_ext blockrun_magic\n%blockrun use practice"
    code = f"%%imagegen {QUICK}\npractice:slow=1 a picture whose kernel dies"
    with running_kernel(tmp_path, environ) as first:
        first.run(ready)
        first.wait_for(first.start(code), is_waiting)
    with running_kernel(tmp_path, environ) as second:
        second.run(ready)
        cell = second.run(code)

    assert "ok" == cell.status, cell.error
    assert 1 == len(cell.pictures)
    assert before + PRICE == paid_to(gateway.url)


# -- a gateway that cannot be trusted


@pytest.mark.parametrize(
    ("trigger", "name", "words"),
    [
        ("html", "AnswerUnusable", "HTML"),
        ("truncated", "AnswerUnusable", ""),
        ("bomb", "AnswerUnusable", ""),
        ("svg", "AnswerUnusable", ""),
        ("file-url", "AnswerUnusable", "file:///etc/passwd"),
        ("foreign-url", "AnswerUnusable", ""),
        ("no-data", "AnswerUnusable", ""),
    ],
)
def test_a_hostile_answer_ends_in_two_lines(
    kernel: Kernel, gateway: PracticeServer, trigger: str, name: str, words: str
) -> None:
    """What is no picture is not shown, opened or bound; the two lines say what came, and what became of the money."""
    kernel.run("img = 'untouched'")
    cell = kernel.run(f"%%imagegen {QUICK}\npractice:{trigger}")

    assert (name, 2) == (cell.error_name, len(cell.error)), cell.error
    assert words in cell.error[0]
    assert "$0.01575" in cell.error[1]
    assert [] == cell.pictures
    assert "root:" not in str(cell)
    assert "'untouched'" == kernel.value("img")


@pytest.mark.parametrize(
    ("trigger", "name", "words"),
    [
        ("400", "RequestRejected", "The prompt is not acceptable"),
        ("402", "PaymentRejected", "refused the payment"),
        ("403", "ContentRefused", "refused"),
        ("fail-job", "JobFailed", "could not paint this"),
        ("price-up", "BudgetError", "listed at $0.01575"),
    ],
)
def test_a_refusal_ends_in_two_lines_and_costs_nothing(
    kernel: Kernel, gateway: PracticeServer, trigger: str, name: str, words: str
) -> None:
    """The gateway's own words are shown, and that nothing was charged."""
    before = paid_to(gateway.url)
    cell = kernel.run(f"%%imagegen {QUICK}\npractice:{trigger}")

    assert (name, 2) == (cell.error_name, len(cell.error)), cell.error
    assert words in cell.error[0]
    assert "nothing was" in cell.error[1].lower()
    assert before == paid_to(gateway.url)


def test_no_key_and_no_signature_is_in_what_a_notebook_keeps(gateway: PracticeServer, tmp_path: Path) -> None:
    """Outputs, errors and reprs of a paying kernel hold neither its key nor a payment header."""
    key = "0x" + "1b" * 32
    with PracticeServer(network=BASE) as base, running_kernel(tmp_path, {"BLOCKRUN_WALLET_KEY": key}) as kernel:
        kernel.run(f"%load_ext blockrun_magic\n%blockrun use {base.url}")
        cells = [
            kernel.run(code)
            for code in (
                f"%imagegen {QUICK} a picture by a real key",
                "_",
                "print(repr(_), vars(_.receipt) if hasattr(_.receipt, '__dict__') else _.receipt)",
                f"%imagegen {QUICK} practice:500",
                f"%imagegen {QUICK} practice:402",
                "%blockrun",
                "%blockrun wallet address",
                "%blockrun spend",
                "%tb",
                "%blockrun wallet nonsense",
            )
        ]
        signatures = [line["nonce"] for line in httpx.get(f"{base.url}/practice/ledger").json()["settlements"]]

    shown = str(cells)
    assert "0.01575" in shown
    assert 1 == len(signatures)
    assert key[2:] not in shown
    assert signatures[0][2:] not in shown
    assert "PAYMENT-SIGNATURE" not in shown
