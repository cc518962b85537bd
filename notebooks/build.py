"""Run every notebook on the practice gateway and store its outputs: `make notebooks`.

Usage:
    python notebooks/build.py                 all notebooks, each with a home of its own
    python notebooks/build.py 04-panel*.ipynb only these notebooks
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from demo import DESK, HOME, execute, fit_to_keep, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
LIVE = "application/vnd.jupyter.widget-view+json"
CLASS_ADDRESS = "https://class.example"
LIMIT = "each=0.25"
"""The limit of each person, as the exercise states it."""


def main() -> None:
    """Run the given notebooks, or all lessons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(FOLDER.glob("0*.ipynb")))
    for path in parser.parse_args().notebooks:
        sweep()
        notebook = nbformat.read(path, as_version=4)
        if any("%blockrun use classroom" in cell.source for cell in notebook.cells):
            with running_class() as (url, code):
                execute_in_class(notebook, url, code)
        else:
            execute(notebook)
        nbformat.write(without_places(without_widgets(fit_to_keep(notebook))), path)
        print(f"{path.name}: {path.stat().st_size // 1000} KB")


@contextmanager
def running_class() -> Iterator[tuple[str, str]]:
    """Run a class on play money; yield its address and a join code."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "blockrun_magic", "classroom"]
        serve = [*command, "serve", "--gateway", "practice", "--home", home, "--port", "0"]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdout is not None
            try:
                url = json.loads(service.stdout.readline())["url"]
                subprocess.run([*command, "--home", home, "limits", LIMIT], check=True, stdout=subprocess.DEVNULL)
                invite = [*command, "--home", home, "invite", "ada"]
                yield url, subprocess.run(invite, check=True, capture_output=True, text=True).stdout.strip()
            finally:
                service.terminate()


def execute_in_class(notebook: NotebookNode, url: str, code: str) -> None:
    """Run all cells in a kernel that has joined the class, and replace the address of the class with an example."""
    lines = ("%load_ext blockrun_magic", f"%blockrun join {url} {code}", "%unload_ext blockrun_magic")
    join = nbformat.v4.new_code_cell("\n".join(lines))
    notebook.cells.insert(0, join)
    execute(notebook)
    notebook.cells.remove(join)
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    text = nbformat.writes(notebook).replace(url, CLASS_ADDRESS)
    notebook.cells = nbformat.reads(text, as_version=4).cells


def without_widgets(notebook: NotebookNode) -> NotebookNode:
    """Remove the widgets, which need a running kernel; their text and images stay."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(LIVE, None)
    return notebook


def without_places(notebook: NotebookNode) -> NotebookNode:
    """Replace the paths of this machine with a reader's paths."""
    text = nbformat.writes(notebook).replace(str(HOME), "~/.blockrun").replace(str(DESK), ".")
    return nbformat.reads(text, as_version=4)


if __name__ == "__main__":
    main()
