"""Run the first notebook without a browser: its images, its page, and its bill.

Usage:
    python notebooks/demo.py            run it like `make demo`; all files are written to build/
    python notebooks/demo.py --update   also store the new outputs in the notebook
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from traitlets.config import Config

from blockrun_magic.images.provenance import read as read_receipt

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "01-first-picture.ipynb"
BUILD = ROOT / "build"
HOME = BUILD / "blockrun-home"
DESK = BUILD / "notebook"
IMAGES = BUILD / "pictures"
PAGE = BUILD / "demo.html"

PRIVATE = ("BLOCKRUN_", "BASE_CHAIN_")
"""Prefixes of the owner's variables, which are removed: the demo reads no key."""
CELL_SECONDS = 120
KEPT_METADATA = frozenset({"jp-MarkdownHeadingCollapsed", "jupyter", "tags"})
"""Metadata that hides a solution; all other metadata differs from run to run."""


def main() -> int:
    """Return 0 if every cell ran, every image exists and the bill is readable."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the outputs into the notebook")
    options = parser.parse_args()

    print(f"Running {shown(NOTEBOOK)} on the practice gateway: play money, nothing is charged.", flush=True)
    sweep()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    execute(notebook)
    publish(notebook)
    images = collect()

    print(f"\n{len(images)} images:")
    for path in images:
        print(f"  {shown(path)}")
    print(f"\n{bill(notebook)}")
    print(f"\nThe notebook as a page: {shown(PAGE)}")
    if options.update:
        nbformat.write(fit_to_keep(notebook), NOTEBOOK)
        print(f"Its outputs are in {shown(NOTEBOOK)}.")
    return 0


def sweep() -> None:
    """Empty the home, so that every image is bought again."""
    for folder in (HOME, DESK, IMAGES):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)


def execute(notebook: NotebookNode) -> None:
    """Run all cells in a new kernel without a wallet or the user's IPython settings."""
    for name in [name for name in os.environ if name.startswith(PRIVATE)]:
        del os.environ[name]
    os.environ |= {"BLOCKRUN_HOME": str(HOME), "IPYTHONDIR": str(HOME / "ipython")}
    config = Config()
    with tempfile.TemporaryDirectory() as sockets:
        if os.name == "posix":  # sockets are files here: no ports, and no access for others
            config.KernelManager.update(transport="ipc", ip=str(Path(sockets) / "kernel"))
        place = {"metadata": {"path": str(DESK)}}
        client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=place, config=config)
        client.execute()


def publish(notebook: NotebookNode) -> None:
    """Write the notebook as one page that needs no network."""
    exporter = HTMLExporter(mathjax_url="", require_js_url="", exclude_input_prompt=True, exclude_output_prompt=True)
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": "Your first image"}})
    PAGE.write_text(page, encoding="utf-8")


def collect() -> list[Path]:
    """Copy the bought images out of the store, in the order of their creation, under readable names."""
    bought = []
    for path in (HOME / "magic" / "pictures").glob("??/*"):
        receipt = read_receipt(path)
        if receipt is not None:  # other files are sources and masks
            bought.append((path.stat().st_mtime_ns, path, receipt))
    copies = []
    for number, (_, path, receipt) in enumerate(sorted(bought, key=lambda entry: entry[0]), 1):
        words = "-".join(re.findall(r"[a-z0-9]+", receipt["prompt"].lower())[:5])
        copy = IMAGES / f"{number}-{receipt['model'].rpartition('/')[2]}-{words}{path.suffix}"
        copies.append(Path(shutil.copyfile(path, copy)))
    return copies


def bill(notebook: NotebookNode) -> str:
    """Return the output of the last `%blockrun spend` in the notebook."""
    cell = next(cell for cell in reversed(notebook.cells) if cell.source.startswith("%blockrun spend"))
    return "\n".join(output["data"]["text/plain"] for output in cell.outputs)


def fit_to_keep(notebook: NotebookNode) -> NotebookNode:
    """Remove data that differs from run to run, and the larger version of each image that has two."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {name: value for name, value in cell.metadata.items() if name in KEPT_METADATA}
        for output in cell.get("outputs", []):
            if "image/jpeg" in output.get("data", {}):
                output["data"].pop("image/png", None)
    return notebook


def shown(path: Path) -> str:
    """Return a path relative to the current folder."""
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())
