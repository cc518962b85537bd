"""A meter of processor time: the use of the machine and of some processes since its start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import psutil

__all__ = ["Meter"]


class Meter:
    """A meter that starts when it is made; `processes` are named groups of process ids, with their children."""

    def __init__(self, processes: Mapping[str, Iterable[int]]) -> None:
        self._processes = {name: [psutil.Process(number) for number in ids] for name, ids in processes.items()}
        self._machine = _machine()
        self._began = self._seconds()

    @property
    def busy(self) -> float:
        """The share of the machine's processor time that was used by any program."""
        used, whole = (now - then for now, then in zip(_machine(), self._machine, strict=True))
        return used / whole if whole else 0.0

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of processor time of each group."""
        return {name: seconds - self._began[name] for name, seconds in self._seconds().items()}

    def _seconds(self) -> dict[str, float]:
        named = {process.pid for processes in self._processes.values() for process in processes}
        return {
            name: sum(_seconds_of(process, named) for process in processes)
            for name, processes in self._processes.items()
        }


def _machine() -> tuple[float, float]:
    times = psutil.cpu_times()._asdict()
    whole = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)  # they are part of other times
    return whole - times["idle"] - times.get("iowait", 0.0), whole


def _seconds_of(process: psutil.Process, named: set[int]) -> float:
    """Return the seconds of a process and its children, without the children that are in `named`."""
    found = 0.0
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        found += times.user + times.system
        found += sum(_seconds_of(child, named) for child in process.children() if child.pid not in named)
    return found
