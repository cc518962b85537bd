"""Costs of an image on this machine: processor time, waits for the disk, and memory that stays in use."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from clients import CLIENTS, Client, Limit, Ours, Upload
from measures import HERE, Figures, clients, gateway, painted, row

__all__ = ["ALL"]

TURNS = 40


def in_pairs(running: list[Client], work: Callable[[Client, str], None], turns: int = TURNS) -> dict[str, list[float]]:
    """Return the processor time of each client's `work`, in units of the last client's.

    Each client takes turns with the last one alone: a third one would leave memory and garbage to both of them, which
    weighs more than the differences. All threads of this process count.
    """
    *others, least = running
    figures: dict[str, list[float]] = {}
    for client in others:
        taken: dict[str, list[float]] = {client.name: [], least.name: []}
        for _ in range(turns):
            for each in (client, least):
                prompt = secrets.token_hex(6)
                begun = time.process_time()
                work(each, prompt)
                taken[each.name].append(time.process_time() - begun)
        unit = statistics.median(taken[least.name])
        figures = {name: [seconds / unit for seconds in taken[name]] for name in taken} | figures
    return figures


def processor() -> Figures:
    """Measure processor time with coincurve."""
    return {f"{name}, with coincurve": figures for name, figures in processor_times().items()}


def processor_times() -> Figures:
    """Processor time of an image and of an edit, in units of the least that is possible."""
    figures: Figures = {}
    with gateway() as place, clients(place, (*CLIENTS, Limit)) as running:
        place.show(noise(1_760_000))
        for wait in (0.0, 0.05):
            place.wait(wait)
            name = f"processor time of an image of 1.76 MB at {wait * 1000:.0f} ms, in POSTs with a signature"
            figures |= row(name, in_pairs(running, lambda client, prompt: client.generate(prompt)))
    with gateway() as place, clients(place, (*CLIENTS, Upload)) as running, tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.png"
        source.write_bytes(noise(6_000_000))
        place.show(noise(1_760_000))
        for client in running:
            client.edit("the first", source)
        taken = in_pairs(running, lambda client, prompt: client.edit(prompt, source), TURNS // 2)
        figures |= row("processor time of an edit with a source of 6 MB, in bare uploads", taken)
    return figures


def processor_by_default() -> Figures:
    """Measure the same after a plain installation: eth-account signs in Python, for all clients."""
    environ = os.environ | {"ECC_BACKEND_CLASS": "eth_keys.backends.NativeECCBackend"}
    program = "import sys; sys.path.insert(0, sys.argv[1]); import cost; print(cost.json.dumps(cost.processor_times()))"
    command = [sys.executable, "-c", program, str(HERE)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def noise(size: int) -> bytes:
    """Return a PNG of about `size` bytes: noise does not compress."""
    import io

    from PIL import Image

    side = int((size / 3) ** 0.5)
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(file, "PNG", compress_level=1)
    return file.getvalue()


_CELL = """
import gc, json, os, resource, sys, threading, time
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

shell = InteractiveShell.instance()
shell.kernel = None  # previews are for notebooks, and a terminal shows none
shell.display_pub = CapturingDisplayPublisher()
shell.run_cell("%load_ext blockrun_magic")
shell.run_cell("%blockrun budget --session 100 --day 100")
shell.run_cell("%imagegen --quiet warm up")
before = resident()
begun = time.thread_time()
prompts = "\\n".join(f"prompt {number}" for number in range(int(sys.argv[1])))
done = shell.run_cell("%%imagegen --each --yes --jobs 16 --max-price 100\\n" + prompts)
assert done.success, done.error_in_exec
main = time.thread_time() - begun
print()
print(json.dumps({"memory": resident() - before, "main": main}))
"""

_STATUS = """
import sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("%load_ext blockrun_magic")
begun = time.process_time()
shell.run_cell("%blockrun")
shown, idle = time.process_time() - begun, 0
while idle < 30:  # longer than the two seconds in which a server may answer with the balance
    before = time.process_time()
    time.sleep(0.1)
    idle = idle + 1 if time.process_time() - before < 0.005 else 0
print()
print(shown, time.process_time() - begun)
"""


def cell() -> Figures:
    """Megabytes that stay in use after a cell of many images, and the cell's seconds of the main thread."""
    figures: Figures = {}
    for count in (32, 100, 200):
        with gateway() as place, tempfile.TemporaryDirectory() as home:
            place.show(painted(1024))
            found = json.loads(_in_a_shell(place.url, home, _CELL, str(count)))
        figures |= row(f"MB that stay after a cell of {count} images", {Ours.name: [found["memory"]]}, 1e-6)
        figures |= row(f"seconds of the main thread for a cell of {count} images", {Ours.name: [found["main"]]})
    return figures


def status() -> Figures:
    """Milliseconds of processor time for the first `%blockrun` of a kernel, with a key and a ledger.

    The first row ends with the cell and its card, the second when the balance has arrived and the process is idle.
    """
    with gateway() as place, tempfile.TemporaryDirectory() as home:
        _in_a_shell(place.url, home, _STATUS)
        turns = [_in_a_shell(place.url, home, _STATUS).split() for _ in range(9)]
    cells, all_ = ([float(turn[number]) for turn in turns] for number in (0, 1))
    name = "ms of processor time for the first %blockrun of a kernel"
    return row(name, {Ours.name: cells}, 1000) | row(
        f"{name}, and for what follows in the background", {Ours.name: all_}, 1000
    )


def _in_a_shell(url: str, home: str, program: str, *arguments: str) -> str:
    """Run a program with an IPython shell, and return the last line of its output."""
    environ = os.environ | {
        "HOME": home,
        "BLOCKRUN_HOME": f"{home}/.blockrun",
        "IPYTHONDIR": f"{home}/.ipython",
        "BLOCKRUN_WALLET_KEY": "0x" + "3d" * 32,
        "BLOCKRUN_API_URL": f"{url}/api",
    }
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.splitlines()[-1]


_PURCHASES = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[3])
from clients import Ours
from pathlib import Path
ours = Ours(sys.argv[1], Path(sys.argv[2]))
ours.generate("the first")
os.fsync(os.open(sys.argv[2] + "/begin", os.O_CREAT | os.O_WRONLY))
for number in range(8):
    ours.generate(str(number))
os.fsync(os.open(sys.argv[2] + "/middle", os.O_CREAT | os.O_WRONLY))
ours.many(32, 16)
os.fsync(os.open(sys.argv[2] + "/end", os.O_CREAT | os.O_WRONLY))
ours.close()
"""


def disk() -> Figures:
    """Count an image's waits for the disk (`fsync`, `fdatasync`) with strace, alone and in a batch of 32."""
    strace = shutil.which("strace")
    if strace is None:
        raise SystemExit("strace is not installed. Run: apt-get install strace")
    with gateway() as place, tempfile.TemporaryDirectory() as folder:
        place.show(painted(256))
        trace = Path(folder) / "trace"
        program = [sys.executable, "-c", _PURCHASES, place.url, folder, str(HERE)]
        subprocess.run(
            [strace, "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", str(trace), "--", *program], check=True
        )
        lines = [line for line in trace.read_text().splitlines() if re.search(r"f(data)?sync\(", line)]
        begin, middle, end = (
            next(n for n, line in enumerate(lines) if f"/{name}>" in line) for name in ("begin", "middle", "end")
        )
    waits = {"an image": (middle - begin - 1) / 8, "an image in a batch of 32": (end - middle - 1) / 32}
    figures: Figures = {}
    for name, count in waits.items():
        figures |= row(f"waits for the disk, {name}", {Ours.name: [count]})
    return figures


def rate_limit() -> Figures:
    """Seconds for 60 images at a gateway that allows 20 in 5 seconds, and the number of refused requests."""
    figures: Figures = {}
    for kind in ("", "sliding"):
        turns = [_at_a_limit(kind) for _ in range(3)]
        about = "60 images where 20 are allowed in " + ("any 5 s" if kind else "5 s")
        figures |= row(f"seconds for {about}", {Ours.name: [seconds for seconds, _ in turns]})
        figures |= row(f"requests refused for {about}", {Ours.name: [refused for _, refused in turns]})
    return figures


def _at_a_limit(kind: str) -> tuple[float, float]:
    with gateway() as place, clients(place, (Ours,)) as [ours]:
        place.show(painted(256))
        httpx.put(f"{place.url}/limit", content=f"20 5 {kind}").raise_for_status()
        begun = time.perf_counter()
        ours.many(60, 8)
        seconds = time.perf_counter() - begun
        return seconds, float(httpx.get(f"{place.url}/counts").json()["refused"])


ALL: dict[str, Callable[[], Figures]] = {
    "cpu": processor_by_default,
    "coincurve": processor,
    "cell": cell,
    "status": status,
    "disk": disk,
    "rate": rate_limit,
}
