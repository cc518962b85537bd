"""The later notebooks: they run as committed, stay small, and contain nothing of the author's machine."""

from __future__ import annotations

import re
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness import ROOT
from harness.classroom import running_class
from harness.forecast import forecast, micros
from harness.kernel import Cell, made, paid_to, running_kernel

FOLDER = ROOT / "notebooks"
ALL = sorted(path.name for path in FOLDER.glob("0*.ipynb"))
LATER = [name for name in ALL if not name.startswith("01-")]
_EMBEDDED = re.compile(r"data:image/[^\"')]*")


def run_all(name: str, desk: Path, gateway: PracticeServer) -> list[Cell]:
    """Return the cells of one Run All in a new kernel, which joins a class if the notebook uses one."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    with running_kernel(desk, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as kernel, ExitStack() as stack:
        if any("%blockrun use classroom" in source for source in code):
            room = stack.enter_context(running_class(desk / "class", gateway))
            room.owner.set_limit("each", "total", 250_000)
            later = room.records.database.now() + 3600
            made(kernel, "%load_ext blockrun_magic")
            join = kernel.start(f"%blockrun join {room.url}")
            kernel.type(room.owner.invite("ada", groups=[], expires_at=later))
            assert "ok" == kernel.finish(join).status
        return [kernel.finish(cell_id) for cell_id in [kernel.start(source) for source in code]]


@pytest.mark.parametrize("name", LATER)
def test_every_cell_runs_and_costs_what_was_forecast(name: str, tmp_path: Path, gateway: PracticeServer) -> None:
    """Run All has no error and shows images, and the cost of each run equals its forecast to the micro-dollar.

    If prompts come from variables, the forecast is a lower bound.
    The second run of notebook 03 costs nothing.
    """
    paid = 0
    for _ in range(2):
        said = forecast(FOLDER / name, tmp_path, gateway.url)
        before = paid_to(gateway.url)
        cells = run_all(name, tmp_path, gateway)
        paid = paid_to(gateway.url) - before

        assert ["ok"] * len(cells) == [cell.status for cell in cells], [cell.error for cell in cells if cell.error]
        assert sum(len(cell.pictures) for cell in cells) >= 3
        assert micros(said) <= paid
        assert "at least" in said or micros(said) == paid
    assert 0 == paid or not name.startswith("03-")


@pytest.mark.parametrize("name", LATER)
def test_it_is_small_and_says_nothing_of_its_machine(name: str) -> None:
    """The file with its outputs is below 400 KB and contains no local paths."""
    text = (FOLDER / name).read_text("utf-8")

    assert len(text.encode()) < 400_000
    assert '"image/jpeg"' in text
    for word in ("/tmp/", "/root", "/home/", "/work/", "/Users/"):  # noqa: S108  a path to search for, not to use
        assert word not in text


@pytest.mark.parametrize("name", ALL)
def test_no_key_and_no_payment_is_in_its_outputs(name: str) -> None:
    """Outputs contain no long runs of letters and digits, except for short ones of `%blockrun info`."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            faces = {"text/plain": output.get("text", "")} | output.get("data", {})
            text = " ".join(face for kind, face in faces.items() if not kind.startswith("image/"))
            runs = re.findall(r"[A-Za-z0-9+/=]{60,}", _EMBEDDED.sub("", text))
            found += [run for run in runs if len(run) > 66 or not cell.source.startswith("%blockrun info")]

    assert [] == found


@pytest.mark.parametrize("name", ALL)
def test_a_sentence_stands_before_each_cell(name: str) -> None:
    """A text cell precedes each code cell, except for hidden solutions."""
    cells = nbformat.read(FOLDER / name, as_version=4).cells
    bare = [
        cell.source
        for before, cell in pairwise(cells)
        if cell.cell_type == before.cell_type == "code" and "hide-cell" not in cell.metadata.get("tags", [])
    ]

    assert [] == bare
