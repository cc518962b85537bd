"""Kernels that start a class together: each joins with its own code and buys at once.

There are two kernels here, and eight in `make soak`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
from jupyter_core.utils import ensure_event_loop

from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.classroom import running_class
from harness.kernel import made, running_kernel

_KERNELS = 8 if "CLASS" in os.environ else 2


def test_the_class_begins(gateway: PracticeServer, tmp_path: Path) -> None:
    """Every kernel gets its image, paid for by the class; the second run of the cell costs nothing."""
    before = len(_settlements(gateway))
    with running_class(tmp_path / "class", gateway) as room, ThreadPoolExecutor(_KERNELS) as pool:
        later = room.records.database.now() + 3600
        codes = [room.owner.invite(f"s{number}", groups=[], expires_at=later) for number in range(_KERNELS)]

        def kernel(code: str) -> str:
            folder = tmp_path / code
            folder.mkdir()
            # The kernel's client creates an event loop for each thread and does not close it.
            with closing(ensure_event_loop()), running_kernel(folder) as running:
                made(running, f"%load_ext blockrun_magic\n%blockrun join {room.url} {code}\n%blockrun use classroom")
                cell = "%%imagegen --model cogview --size 512x512 --as fox\na fox in the snow"
                first, again = made(running, cell), made(running, cell)
                assert first.pictures
                assert again.pictures
                return running.value("fox.size")

        found = list(pool.map(kernel, codes))
        orders = room.records.orders.listed()

        assert ["(512, 512)"] * _KERNELS == found
        assert [("done", orders[0].price_micros)] * _KERNELS == [(order.state, order.price_micros) for order in orders]
        assert _KERNELS == len(_settlements(gateway)) - before
        assert room.agrees


def _settlements(gateway: PracticeServer) -> list[object]:
    settlements: list[object] = httpx.get(f"{gateway.url}/practice/ledger", timeout=PATIENCE).json()["settlements"]
    return settlements
