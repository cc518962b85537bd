"""Run every notebook on the practice gateway and write its outputs into it: `make notebooks`.

Usage:
    python notebooks/build.py                 all of them, each in a home of its own
    python notebooks/build.py 04-panel*.ipynb some of them
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from demo import DESK, HOME, execute, fit_to_keep, sweep

if TYPE_CHECKING:
    from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
LIVE = "application/vnd.jupyter.widget-view+json"


def main() -> None:
    """Run the notebooks that are named, or all that are lessons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(FOLDER.glob("0*.ipynb")))
    for path in parser.parse_args().notebooks:
        sweep()
        notebook = nbformat.read(path, as_version=4)
        execute(notebook)
        nbformat.write(without_places(without_widgets(fit_to_keep(notebook))), path)
        print(f"{path.name}: {path.stat().st_size // 1000} KB")


def without_widgets(notebook: NotebookNode) -> NotebookNode:
    """Take out what needs a kernel that is gone; the text and the image beside it stay."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(LIVE, None)
    return notebook


def without_places(notebook: NotebookNode) -> NotebookNode:
    """Write folders of this machine as a reader's own."""
    text = nbformat.writes(notebook).replace(str(HOME), "~/.blockrun").replace(str(DESK), ".")
    return nbformat.reads(text, as_version=4)


if __name__ == "__main__":
    main()
