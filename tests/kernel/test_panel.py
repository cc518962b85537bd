"""The panel opens as quickly with many images as with none."""

from __future__ import annotations

import time

from harness import PATIENCE
from harness.kernel import Kernel, made

FILL = """
import json
from blockrun_magic.notebook.extension import load
context = load(get_ipython()).context
ledger = context.session.studio.ledger
request = json.dumps(dict(prompt="a fox", model="zai/cogview-4", size="512x512", n=1, image=[], mask=None))
with ledger.transaction() as connection:
    connection.executemany(
        "INSERT INTO purchases (id, created_at, realm, gateway, digest, take, request, finished_at, seconds)"
        " VALUES (?, ?, 'practice', 'practice', ?, 1, ?, ?, 1.0)",
        ((f"{n:010x}", 1.0 + n, f"sha256:{n:064x}", request, 1.0 + n) for n in range(10_000)),
    )
    connection.executemany(
        "INSERT INTO pictures (purchase_id, position, file, media_type, width, height)"
        " VALUES (?, 0, ?, 'image/png', 512, 512)",
        ((f"{n:010x}", f"{n:064x}") for n in range(10_000)),
    )
"""
WATCH = """
from blockrun_magic.images.store import Store
from blockrun_magic.payments.ledger.queries import LedgerReader
rows, opened = [], []
listed, get = LedgerReader.listed_images, Store.get

def counted(self, *args, **kwargs):
    found = listed(self, *args, **kwargs)
    rows.append(len(found))
    return found

LedgerReader.listed_images = counted
Store.get = lambda self, *args: opened.append(args) or get(self, *args)
import ipywidgets.widgets.widget
before = len(ipywidgets.widgets.widget._instances)
import blockrun_magic
blockrun_magic.panel()
"""


def test_opening_reads_one_image_of_ten_thousand(kernel: Kernel) -> None:
    """Opening lists only the newest image and its chain, opens no file, and creates fewer than 250 widgets."""
    made(kernel, FILL)
    made(kernel, WATCH)
    until = time.monotonic() + PATIENCE
    while kernel.value("bool(context.panel.images.shown)") != "True":
        assert time.monotonic() < until
        time.sleep(0.05)

    assert int(kernel.value("sum(rows)")) <= 3
    assert "[]" == kernel.value("opened")
    assert int(kernel.value("len(ipywidgets.widgets.widget._instances) - before")) < 250
