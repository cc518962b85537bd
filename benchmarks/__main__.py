"""Our speed, measured next to a bare POST, a bare upload, and two other clients, in one run.

    python benchmarks              everything, as a table; the figures are written to build/bench.json
    python benchmarks --update     the same; the table is also written into docs/performance.md
    python benchmarks cpu memory   only these measurements; the other rows of the table stay

Clients take turns, one image each. A figure is the median of its turns, with the quartiles in parentheses. Quartiles
are better than extremes, because other programs on the machine slow some turns down.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import batches
import cost
import endpoint
import growth
import measures
import opening
import reservations
import starting
from measures import Figures

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
ROOMS = (measures, cost, batches, growth, opening, starting, reservations)
ALL = {name: ask for room in ROOMS for name, ask in room.ALL.items()} | {"endpoint": endpoint.hop}


def main() -> None:
    """Run the measurements, print the table, and store the figures."""
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    unknown = set(names) - set(ALL)
    if unknown:
        raise SystemExit(f"Unknown measure: {unknown.pop()!r}. Choose from {', '.join(ALL)}.")
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    # The rows of other measurements stay.
    figures: Figures = json.loads(target.read_text("utf-8")) if names and target.exists() else {}
    for name in names or ALL:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        figures |= ALL[name]()
        target.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    table = _table(figures)
    print(table)
    if "--update" in sys.argv:
        _update(table)


def _table(figures: Figures) -> str:
    columns = list(dict.fromkeys(client for row in figures.values() for client in row))
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, row in figures.items():
        cells = [_cell(row[client]) if client in row else "" for client in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figures: dict[str, float]) -> str:
    value = _number(figures["value"])
    if figures["of"] < 3 or figures["low"] == figures["high"]:
        return value
    return f"{value} ({_number(figures['low'])}-{_number(figures['high'])})"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _update(table: str) -> None:
    page = ROOT / "docs" / "performance.md"
    before, rest = page.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    if hasattr(os, "getloadavg"):
        where += f"; load average of 15 minutes: {os.getloadavg()[2]:.0f}"
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{where}.\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
