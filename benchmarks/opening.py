"""Processor time of a kernel to open the panel, with 10,000 images in the ledger."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from clients import Ours
from growth import ledger_of
from measures import Figures, row

__all__ = ["ALL"]

IMAGES = 10_000
TURNS = 5
OPENING = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("%load_ext blockrun_magic\\n%blockrun use practice")
from blockrun_magic.notebook.extension import load

def wait_idle():
    idle = 0
    while idle < 10:
        before = time.process_time()
        time.sleep(0.05)
        idle = idle + 1 if time.process_time() - before < 0.003 else 0

context = load(shell).context
wait_idle()  # the libraries for signing are loaded before anybody opens the panel
begun = time.process_time()
from blockrun_magic.notebook.panel.panel import Panel
Panel(context)
wait_idle()
print(time.process_time() - begun)
"""


def opening() -> Figures:
    """Milliseconds of processor time until the panel is idle, including the import of ipywidgets."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        magic = Path(folder) / ".blockrun" / "magic"
        magic.mkdir(parents=True)
        ledger = ledger_of(magic / "ledger.sqlite", IMAGES)
        with ledger.transaction() as connection:
            connection.executemany(
                "INSERT INTO pictures (purchase_id, position, file, media_type, width, height)"
                " VALUES (?, 0, ?, 'image/png', 1024, 1024)",
                ((f"{number:010x}", f"{number:064x}") for number in range(IMAGES)),
            )
        ledger.close()
        environ = os.environ | {"HOME": folder, "BLOCKRUN_HOME": f"{folder}/.blockrun"}
        for _ in range(TURNS):
            done = subprocess.run(
                [sys.executable, "-c", OPENING], env=environ, check=True, capture_output=True, text=True
            )
            taken.append(float(done.stdout.split()[-1]))
    return row("ms of processor time to open the panel over 10,000 images", {Ours.name: taken}, 1000)


ALL: dict[str, Callable[[], Figures]] = {"panel": opening}
