"""Costs of a batch in addition to its images: pauses of the event loop, processor time, and a lesson of the batch."""

from __future__ import annotations

import json
import secrets
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from clients import CLIENTS, Ours
from cost import noise
from measures import Figures, clients, gateway, painted, row

from blockrun_magic.studio.lessons.archive import pack_lesson

__all__ = ["ALL"]

TURNS = 5
IMAGES = 256
AT_ONCE = 16
WAIT = 0.2
PACKED = 50


def standstill() -> Figures:
    """Milliseconds of the longest pause of the event loop in a batch of 256.

    The first row is by the clock, so it includes all other programs on this machine. The second row is the processor
    time of all threads of this process in a pause, so it does not.
    """
    clock, own = [], []
    with gateway() as place, clients(place, (Ours,)) as [ours]:
        place.show(painted(256))
        place.wait(WAIT)
        for _ in range(TURNS):
            probe = ours.probed(IMAGES, AT_ONCE)
            clock.append(probe.seconds)
            own.append(probe.working)
    name = f"ms that the loop stands still at the longest, {IMAGES} images"
    return row(name, {Ours.name: clock}, 1000) | row(f"{name}, in processor time", {Ours.name: own}, 1000)


def processor() -> Figures:
    """Milliseconds of processor time per image in a batch of 256."""
    taken: dict[str, list[float]] = {kind.name: [] for kind in CLIENTS}
    with gateway() as place, clients(place, CLIENTS) as running:
        place.show(painted(256))
        place.wait(WAIT)
        for _ in range(TURNS):
            for client in running:
                begun = time.process_time()
                client.many(IMAGES, AT_ONCE)
                taken[client.name].append((time.process_time() - begun) / IMAGES)
    return row(f"ms of processor time an image of 256x256, {IMAGES} at {AT_ONCE} a time", taken, 1000)


def lesson() -> Figures:
    """Milliseconds per image for `lesson export`, and its peak memory in units of an image."""
    picture = noise(1_760_000)
    with gateway() as place, clients(place, (Ours,)) as [ours], tempfile.TemporaryDirectory() as folder:
        place.show(picture)
        ours.many(PACKED, 8)
        notebook = Path(folder) / "fox.ipynb"
        notebook.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), "utf-8")
        taken = [_export(ours, notebook, time.perf_counter) for _ in range(TURNS)]
        computed = [_export(ours, notebook, time.process_time) for _ in range(TURNS)]
        tracemalloc.start()
        _export(ours, notebook, time.perf_counter)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    name = f"an image of 1.76 MB for a lesson of {PACKED}"
    figures = row(f"ms {name}", {Ours.name: taken}, 1000)
    figures |= row(f"ms of processor time {name}", {Ours.name: computed}, 1000)
    return figures | row(f"peak memory of a lesson of {PACKED} images, in images", {Ours.name: [peak / len(picture)]})


def _export(ours: Ours, notebook: Path, clock: Callable[[], float]) -> float:
    """Return the seconds per image to pack every image of this session."""
    studio = ours.studio
    begun = clock()
    results = [result for key in list(studio.lessons.delivered) if (result := studio.stored_result(*key)) is not None]
    target = notebook.with_name(f"{secrets.token_hex(4)}.zip")
    count = pack_lesson(target, notebook, results, strict=False)
    seconds = clock() - begun
    target.unlink()
    return seconds / count


ALL: dict[str, Callable[[], Figures]] = {"standstill": standstill, "batch": processor, "lesson": lesson}
