"""The first notebook: it runs as committed, its bill is correct, and it is paid for once."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE, ROOT
from harness.forecast import forecast, micros
from harness.kernel import Cell, Kernel, clean_environ, paid_to, running_kernel

PATH = ROOT / "notebooks" / "01-first-picture.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
OUTPUTS = [output for cell in CODE for output in cell.outputs]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for the notebook's run."""
    return tmp_path_factory.mktemp("desk")


@pytest.fixture(scope="module")
def first_forecast(gateway: PracticeServer, desk: Path) -> int:
    """Return the forecast of the first Run All, in micro-USDC."""
    return micros(forecast(PATH, desk, gateway.url))


@pytest.fixture(scope="module")
def first_run(gateway: PracticeServer, desk: Path, first_forecast: int) -> list[Cell]:
    """Return the cells of the first Run All."""
    with running_kernel(desk, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as kernel:
        return run_all(kernel)


def run_all(kernel: Kernel) -> list[Cell]:
    """Send all cells at once, as Run All does, and return them after the last one ends."""
    return [kernel.finish(name) for name in [kernel.start(cell.source) for cell in CODE]]


def total_said(cells: list[Cell]) -> str:
    """Return the total in the notebook's bill."""
    bill = next(cell.text for cell in cells if "spent this session" in cell.text)
    match = re.search(r"^total\s+\d+\s+\$(\S+)", bill, re.MULTILINE)

    assert match is not None, bill
    return match[1]


def test_every_cell_runs(first_run: list[Cell]) -> None:
    """Run All has no error and shows at least five images."""
    assert [] == [cell.error for cell in first_run if cell.status != "ok"]
    assert 5 <= sum(len(cell.pictures) for cell in first_run)


def test_the_gateway_the_bill_and_the_forecast_agree(
    gateway: PracticeServer, first_run: list[Cell], first_forecast: int
) -> None:
    """The forecast, the gateway's total and the notebook's bill agree to the micro-dollar."""
    assert first_forecast == paid_to(gateway.url)
    assert f"{paid_to(gateway.url) / 1_000_000:.6f}".rstrip("0") == total_said(first_run)


def test_a_second_run_costs_nothing(gateway: PracticeServer, desk: Path, first_run: list[Cell]) -> None:
    """In another kernel, the notebook shows the same images, and no money moves."""
    assert 0 == micros(forecast(PATH, desk, gateway.url))
    before = paid_to(gateway.url), paid_requests_to(gateway.url)
    with running_kernel(desk, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as kernel:
        cells = run_all(kernel)

    assert before == (paid_to(gateway.url), paid_requests_to(gateway.url))
    assert "0.00" == total_said(cells)
    assert pictures_of(first_run) == pictures_of(cells)


def paid_requests_to(url: str) -> int:
    """Return the number of paid requests that the gateway at `url` received."""
    return int(httpx.get(f"{url}/practice/ledger", timeout=PATIENCE).json()["paid_requests"])


def pictures_of(cells: list[Cell]) -> list[dict[str, Any]]:
    """Return the data of all shown images, by media type."""
    shown = [output["data"] for cell in cells for output in cell.pictures]
    return [{kind: data for kind, data in bundle.items() if kind.startswith("image/")} for bundle in shown]


# -- the committed file


def test_it_is_small_enough_to_be_opened_anywhere() -> None:
    """The file with its images is below 400 KB."""
    assert PATH.stat().st_size < 400_000


def test_it_shows_its_pictures_to_those_who_only_look() -> None:
    """The outputs are committed: every code cell was run in order, and none failed."""
    pictures = [output for output in OUTPUTS if "image/jpeg" in output.get("data", {})]

    assert list(range(1, len(CODE) + 1)) == [cell.execution_count for cell in CODE]
    assert 5 <= len(pictures)
    assert [] == [output for output in OUTPUTS if output.output_type == "error"]


def test_it_knows_nothing_of_the_machine_that_ran_it() -> None:
    """The file contains no local paths, and only standard metadata."""
    text = json.dumps([cell.get("outputs", []) for cell in NOTEBOOK.cells])

    assert {"kernelspec", "language_info"} == set(NOTEBOOK.metadata)
    assert "python3" == NOTEBOOK.metadata.kernelspec.name
    assert all({} == cell.metadata for cell in NOTEBOOK.cells)
    assert [] == re.findall(r"/(?:tmp|home|root|Users)\b|[A-Z]:\\\\", text)


def test_its_source_is_what_the_language_allows() -> None:
    """Python cells parse, and a text cell precedes each code cell."""
    for cell in CODE:
        if not cell.source.startswith("%"):
            ast.parse(cell.source)
    kinds = [cell.cell_type for cell in NOTEBOOK.cells]

    assert "markdown" == kinds[0]
    assert ("code", "code") not in set(pairwise(kinds))


# -- `make demo`


def test_the_demo_leaves_pictures_a_page_and_the_bill(tmp_path: Path) -> None:
    """The demo prints the bill and the images' paths; its page shows the images and loads nothing from a network."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    demo = subprocess.run(
        [sys.executable, "notebooks/demo.py"],
        cwd=tmp_path,
        env=clean_environ(tmp_path),
        check=True,
        capture_output=True,
        text=True,
    )
    pictures = sorted((tmp_path / "build" / "pictures").iterdir())
    page = (tmp_path / "build" / "demo.html").read_text("utf-8")

    assert 5 <= len(pictures)
    assert [] == [path.name for path in pictures if f"build/pictures/{path.name}" not in demo.stdout]
    assert "Play money spent this session" in demo.stdout
    assert 5 <= page.count("data:image/jpeg;base64,")
    assert [] == re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["']https?:[^"']*""", page)
