"""Loading and unloading: fast, complete, and with clear errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.gates import Gate
from harness.kernel import Kernel, made, paid_to, running_kernel

HEAVY = ("eth_account", "PIL", "ipywidgets", "httpx", "starlette", "uvicorn", "filelock", "numpy", "pandas")
HEAVY += ("sqlite3", "psycopg", "jinja2", "prometheus_client", "jupyterhub")
ELSEWHERE = "https://gateway.example/api"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Return a kernel with the extension loaded and without a wallet; `new` are the modules that loading imported."""
    with running_kernel(tmp_path_factory.mktemp("kernel")) as running:
        running.run("import sys; before = set(sys.modules)")
        assert "ok" == running.run("%load_ext blockrun_magic").status
        running.run("new = set(sys.modules) - before")
        yield running


def test_loading_imports_nothing_heavy(kernel: Kernel) -> None:
    """Loading imports no heavy libraries, and no classroom, database or ledger."""
    new = ast.literal_eval(kernel.value("sorted(name.partition('.')[0] for name in new)"))

    assert "blockrun_magic" in new
    assert set() == set(HEAVY) & set(new)
    rooms = ast.literal_eval(kernel.value("sorted(name for name in new if name.startswith('blockrun_magic.'))"))
    lazy = ("blockrun_magic.classroom", "blockrun_magic.database", "blockrun_magic.payments.ledger")
    assert [] == [name for name in rooms if name.startswith(lazy)]


def test_loading_touches_no_file(kernel: Kernel) -> None:
    """Loading creates no files."""
    assert "False" == kernel.value("__import__('os').path.exists(__import__('os').environ['BLOCKRUN_HOME'])")


@pytest.mark.parametrize("code", ["%%imagegen\na cat", "%imagegen a cat", "%%imagegen --model flux -n 2\na cat"])
def test_without_a_wallet_a_cell_says_what_is_missing_and_run_all_stops(
    kernel: Kernel, code: str, tmp_path: Path
) -> None:
    """The error names the three ways to pay, and the queued cells do not run."""
    queued = tmp_path / "queued"  # queued cells are aborted only if they wait already
    kernel.start(f"import pathlib, time\nwhile not pathlib.Path({str(queued)!r}).exists(): time.sleep(0.1)")
    first, second = kernel.start(code), kernel.start("went_on = True")
    queued.touch()
    cell, behind = kernel.finish(first), kernel.finish(second)
    what, to_do = cell.error

    assert "WalletMissing" == cell.error_name
    assert what
    assert "`%blockrun use practice`" in to_do
    assert "BLOCKRUN_WALLET_KEY" in to_do
    assert "~/.blockrun/.session" in to_do
    assert "aborted" == behind.status
    assert [] == [output for output in cell.outputs if output["data"].get("text/plain")]


def test_unloading_takes_everything_back_and_loading_again_works(kernel: Kernel) -> None:
    """After unloading, no magic and no thread remains, and images stay in their variables."""
    kernel.run("%load_ext blockrun_magic")
    kernel.run("%blockrun use practice")
    made = kernel.run("kept = %imagegen --model cogview --size 512x512 a tree before the end")
    unloaded = kernel.run("%unload_ext blockrun_magic")
    gone = kernel.run("%imagegen a tree after the end")
    threads = kernel.value("sorted(t.name for t in __import__('threading').enumerate())")
    shown = kernel.run("kept.image.size")
    kernel.run("%load_ext blockrun_magic")
    kernel.run("%blockrun use practice")
    again = kernel.run("%imagegen --model cogview --size 512x512 a tree before the end")

    assert ("ok", "ok") == (made.status, unloaded.status)
    assert "`%imagegen` not found" in gone.text + "".join(gone.error)
    assert "blockrun-magic" not in threads
    assert "practice-gateway" not in threads
    assert "(512, 512)" == shown.text
    assert "$0.00: bought" in again.text


def test_unloading_lets_nothing_be_paid_that_is_not_paid_yet(tmp_path: Path) -> None:
    """Unloading cancels a background job that waits for its price."""
    cell = """
%load_ext blockrun_magic
%blockrun use practice
%imagegen --background --model cogview --size 512x512 a tree that nobody waits for
"""
    gate = Gate("challenge")
    with (
        PracticeServer(hook=gate) as gateway,
        running_kernel(tmp_path, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as kernel,
    ):
        made(kernel, cell.strip())
        assert gate.seen.wait(PATIENCE)
        done = kernel.run("%unload_ext blockrun_magic")
        gate.opened.set()
        threads = kernel.value("sorted(t.name for t in __import__('threading').enumerate())")
        paid = paid_to(gateway.url)

    assert "ok" == done.status
    assert "blockrun-magic" not in threads
    assert 0 == paid


def test_loading_twice_changes_nothing(kernel: Kernel) -> None:
    """The chosen gateway stays chosen."""
    kernel.run("%load_ext blockrun_magic")
    kernel.run("%blockrun use practice")
    kernel.run("%load_ext blockrun_magic")
    kernel.run("import blockrun_magic; blockrun_magic.load_ipython_extension(get_ipython())")

    assert "practice" in kernel.run("%blockrun").text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (ELSEWHERE, f"{ELSEWHERE}, from BLOCKRUN_API_URL"),
        ("http://gateway.example/api", "http://gateway.example"),
    ],
    ids=["https", "http"],
)
def test_the_gateway_of_the_environment_is_used(tmp_path: Path, url: str, words: str) -> None:
    """Requests go to `BLOCKRUN_API_URL`; an unencrypted URL is refused."""
    with running_kernel(tmp_path, {"BLOCKRUN_API_URL": url}) as kernel:
        kernel.run("%load_ext blockrun_magic")
        cell = kernel.run("%blockrun")

    assert words in cell.text + "\n".join(cell.error)
