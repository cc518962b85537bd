"""The forecast of Run All, read from the cells without running them, exact to the micro-dollar."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness.forecast import forecast
from harness.kernel import clean_environ, made, paid_to, running_kernel


@pytest.fixture
def gateway() -> Iterator[PracticeServer]:
    """Return a separate practice gateway."""
    with PracticeServer() as server:
        yield server


def notebook(folder: Path, *cells: str) -> Path:
    """Return a notebook with these cells."""
    path = folder / "notebook.ipynb"
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    path.write_text(nbformat.writes(content), "utf-8")
    return path


@pytest.mark.parametrize(
    ("cells", "dollars", "says"),
    [
        (["%imagegen --model cogview a fox"], "0.01575", ""),
        (["x = %imagegen --model cogview a fox"], "0.01575", ""),
        (["%imagegen --model cogview a fox", "%%imagegen --model cogview\na fox"], "0.01575", "1, 1 stored"),
        (["%config BlockrunMagics.model = 'cogview'", "%imagegen a fox"], "0.01575", ""),
        (["words = ['a', 'b']", "%%imagegen --model cogview --fill\n{words} fox"], "0.00", "variables"),
        (["%%imagegen --model cogview --prompts words"], "0.00", "variables"),
        (["%%imagegen --model cogview --each\na fox\na hen"], "0.0315", ""),
        (["for i in range(3):\n    %imagegen a fox"], "0.00", "loop"),
        (["import blockrun_magic\nblockrun_magic.generate('a fox')"], "0.00", "generate"),
        (["%imagegen --modle flux a fox"], "0.00", "--modle"),
        (["%imagegen --dry-run a fox"], "0.00", ""),
        (["%imagegen --model cogview practice:500 a fox"], "0.00", ""),
        (["def broken(:", "%imagegen --model cogview a fox"], "0.01575", ""),
    ],
)
def test_what_can_be_read_and_what_is_said_of_the_rest(
    tmp_path: Path, gateway: PracticeServer, cells: list[str], dollars: str, says: str
) -> None:
    """Literal cells are priced; other cells are named and count as $0."""
    path = notebook(tmp_path, "%blockrun use practice", *cells)
    said = forecast(path, tmp_path, gateway.url)

    assert f"${dollars} play money" in said
    assert says in said
    assert (f"at least ${dollars}" in said) == (says not in ("", "1, 1 stored"))
    assert 0 == paid_to(gateway.url)


def test_the_same_in_the_notebook(tmp_path: Path, gateway: PracticeServer) -> None:
    """`%blockrun price` accepts a notebook and uses the kernel's gateway."""
    notebook(tmp_path, "%imagegen --model cogview a fox")
    with running_kernel(tmp_path, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as kernel:
        made(kernel, "%load_ext blockrun_magic\n%blockrun use practice")
        said = made(kernel, "%blockrun price notebook.ipynb").text
        missing = kernel.run("%blockrun price nowhere.ipynb")

    assert "What Run All costs at practice" in said
    assert "$0.01575 play money" in said
    assert 2 == len(missing.error)


def test_what_is_no_notebook_is_refused(tmp_path: Path) -> None:
    """A file that is not a notebook gives an error and exit status 1 without a traceback."""
    path = tmp_path / "x.ipynb"
    path.write_text("[]")
    done = subprocess.run(
        [sys.executable, "-m", "blockrun_magic", "price", str(path)],
        capture_output=True,
        text=True,
        env=clean_environ(tmp_path),
        check=False,
    )

    assert 1 == done.returncode
    assert "notebook" in done.stderr
    assert "Traceback" not in done.stderr
