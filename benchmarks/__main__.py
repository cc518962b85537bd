"""Ours beside the clients that a user would pick instead, and beside the least that is possible, in one run.

    python benchmarks              all of it, as a table; the figures go to build/bench.json
    python benchmarks --update     and into docs/performance.md
    python benchmarks time memory  some of it

Every time is a median of at least 30, taken in turns: one picture by each client, then the next.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import measures

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def main() -> None:
    """Measure, print, and keep."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    unknown = set(words) - set(measures.ALL)
    if unknown:
        raise SystemExit(f"there is no measure {unknown.pop()!r}; there are {', '.join(measures.ALL)}")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in words or measures.ALL:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        found |= measures.ALL[name]()
    table = _table(found)
    print(table)
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    if "--update" in sys.argv:
        _update(table)


def _table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    columns = list(dict.fromkeys(client for row in found.values() for client in row))
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, row in found.items():
        cells = [_cell(row[client]) if client in row else "" for client in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figures: dict[str, float]) -> str:
    value = figures["value"]
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _update(table: str) -> None:
    page = ROOT / "docs" / "performance.md"
    before, rest = page.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{where}.\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
