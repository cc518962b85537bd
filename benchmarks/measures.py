"""Measurements: one function for each row or for a few rows, with a figure for each client."""

from __future__ import annotations

import base64
import io
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path

import httpx
from clients import CLIENTS, Client, Kept, Limit, Ours

__all__ = ["ALL"]

HERE = Path(__file__).resolve().parent
TURNS = 30
Figures = dict[str, dict[str, dict[str, float]]]


class Place:
    """A running gateway of the benchmarks."""

    def __init__(self, url: str) -> None:
        self.url = url

    def wait(self, seconds: float) -> None:
        """Set the waiting time of all answers."""
        httpx.put(f"{self.url}/wait", content=str(seconds)).raise_for_status()

    def show(self, image: bytes) -> None:
        """Set the image of all answers."""
        httpx.put(f"{self.url}/image", content=image, timeout=60).raise_for_status()

    def counts(self) -> tuple[int, int]:
        """Return the number of requests for images so far, and the bytes of their bodies."""
        said = httpx.get(f"{self.url}/counts").json()
        return said["requests"], said["received"]


@contextmanager
def gateway() -> Iterator[Place]:
    """Yield a gateway in a process of its own."""
    command = [sys.executable, str(HERE / "gateway.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  stdout is a pipe
        place = Place(process.stdout.readline().strip())
        try:
            place.show(painted(1024))
            yield place
        finally:
            process.terminate()


@contextmanager
def clients(place: Place, kinds: tuple[type, ...]) -> Iterator[list[Client]]:
    """Yield one client of each kind after its first image."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running = [stack.enter_context(closing(kind(place.url, Path(folder)))) for kind in kinds]
        for client in running:
            client.generate("the first")
        yield running


@cache
def painted(side: int) -> bytes:
    """Return an image in the style of the practice gateway, as PNG."""
    from PIL import Image

    from blockrun_magic.practice.painter.painter import encode_png, paint

    picture = paint("a lighthouse at dusk", "black-forest/flux-1.1-pro", (1024, 1024))
    if side == 1024:
        return encode_png(picture)
    with Image.open(io.BytesIO(encode_png(picture))) as image:
        file = io.BytesIO()
        image.resize((side, side), Image.Resampling.BICUBIC).save(file, "PNG", compress_level=1)
    return file.getvalue()


def row(name: str, values: dict[str, list[float]], scale: float = 1.0) -> Figures:
    """Return one row: the median and the quartiles for each client."""
    return {
        name: {
            client: {
                "value": statistics.median(taken) * scale,
                "low": _quartile(taken, 0) * scale,
                "high": _quartile(taken, 2) * scale,
                "of": len(taken),
            }
            for client, taken in values.items()
        }
    }


def _quartile(taken: list[float], index: int) -> float:
    return statistics.quantiles(taken, n=4)[index] if len(taken) > 2 else statistics.median(taken)


def in_turns(running: list[Client], work: Callable[[Client, str], None], turns: int = TURNS) -> dict[str, list[float]]:
    """Return each client's seconds for `work`; the clients take `turns` turns, one after the other."""
    taken: dict[str, list[float]] = {client.name: [] for client in running}
    for _ in range(turns):
        for client in running:
            prompt = secrets.token_hex(6)
            begun = time.perf_counter()
            work(client, prompt)
            taken[client.name].append(time.perf_counter() - begun)
    return taken


def requests_and_bytes() -> Figures:
    """Count requests per image after the first quote, and bytes sent for an edit, in units of its source."""
    from PIL import Image

    asked: dict[str, list[float]] = {}
    sent: dict[str, list[float]] = {}
    with gateway() as place, clients(place, CLIENTS) as running, tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.png"
        Image.effect_noise((2450, 2450), 90).save(source, "PNG")
        size = source.stat().st_size
        for client in running:
            client.edit("the first", source)
            before = place.counts()
            for number in range(10):
                client.generate(f"{number}")
            after = place.counts()
            asked[client.name] = [(after[0] - before[0]) / 10]
            client.edit("another", source)
            sent[client.name] = [(place.counts()[1] - after[1]) / size]
    about = f"bytes sent for an edit of a source of {size / 1e6:.1f} MB, in sources"
    return row("requests an image, after the first", asked) | row(about, sent)


def one_image() -> Figures:
    """Milliseconds for one image, minus one waiting time of the gateway."""
    found: Figures = {}
    with gateway() as place, clients(place, (*CLIENTS, Limit, Kept)) as running:
        for wait in (0.0, 0.05):
            place.wait(wait)
            taken = in_turns(running, lambda client, prompt: client.generate(prompt))
            beyond = {name: [seconds - wait for seconds in values] for name, values in taken.items()}
            name = f"ms an image beyond one round trip of {wait * 1000:.0f} ms"
            found |= row(name, beyond, 1000)
    return found


def many_images() -> Figures:
    """Seconds for 32 and 256 images at 200 ms, 16 at a time, divided by the waiting time alone."""
    wait, at_once = 0.2, 16
    found: Figures = {}
    with gateway() as place, clients(place, CLIENTS) as running:
        place.show(painted(256))
        place.wait(wait)
        for count in (32, 256):
            taken = in_turns(running, lambda client, _, count=count: client.many(count, at_once), 3)
            ideal = count / at_once * wait
            ratios = {name: [seconds / ideal for seconds in values] for name, values in taken.items()}
            found |= row(f"{count} images at 200 ms, {at_once} at a time, in times of waiting alone", ratios)
    return found


def start() -> Figures:
    """Milliseconds of the imports in a running Python."""
    programs = {
        "blockrun-magic": (
            "from IPython.core.interactiveshell import InteractiveShell as S; s = S.instance();"
            "t = time.perf_counter(); import blockrun_magic; blockrun_magic.load_ipython_extension(s)"
        ),
        "blockrun-llm": "t = time.perf_counter(); import blockrun_llm",
        "x402 (httpx)": (
            "t = time.perf_counter(); import x402.http.clients.httpx, x402.mechanisms.evm.exact.register, eth_account"
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(TURNS // 3):
        for name, program in programs.items():
            code = f"import time; {program}; print(time.perf_counter() - t)"
            run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            taken[name].append(float(run.stdout.split()[-1]))
    return row("ms to import (ours: %load_ext, in a running IPython)", taken, 1000)


def memory() -> Figures:
    """Peak of allocated memory while a 4096x4096 image arrives, in units of its PNG."""
    found: dict[str, list[float]] = {}
    with gateway() as place:
        big = painted(4096)
        for kind in CLIENTS:
            code = (
                f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
                f"import measures, clients; measures.peak(clients.{kind.__name__}, {place.url!r})"
            )
            place.show(painted(64))
            with subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                assert process.stdout is not None and process.stdin is not None  # noqa: S101, PT018  they are pipes
                process.stdout.readline()
                place.show(big)
                process.stdin.write("\n")
                process.stdin.close()
                found[kind.name] = [float(process.stdout.readline()) / len(big)]
    return row(f"peak memory for a PNG of 4096x4096 ({len(big) / 1e6:.1f} MB), in PNGs", found)


def peak(kind: type, url: str) -> None:
    """Print the largest number of bytes that a client of this kind allocates for its second image."""
    import tracemalloc

    with clients(Place(url), (kind,)) as [client]:
        print("ready", flush=True)
        sys.stdin.readline()
        tracemalloc.start()
        client.generate("the big one")
        print(tracemalloc.get_traced_memory()[1], flush=True)


def notebook() -> Figures:
    """Kilobytes that a shown image adds to a notebook."""
    from PIL import Image

    from blockrun_magic.images.preview import preview

    picture = painted(1024)
    with Image.open(io.BytesIO(picture)) as image:
        shown = len(base64.b64encode(preview([image], 768)[0]))
    embedded = len(base64.b64encode(picture))
    values = {Ours.name: [shown], "the PNG, embedded": [embedded]}
    return row("kB that a shown 1024x1024 image adds to the notebook", values, 0.001)


def again() -> Figures:
    """Milliseconds for an image that was bought before; it causes no requests."""
    with gateway() as place, clients(place, (Ours,)) as running:
        before = place.counts()
        taken = in_turns(running, lambda client, _: client.generate("the first"))
        if before != place.counts():
            raise SystemExit("a stored image was requested again")
    return row("ms for an image that was bought before", taken, 1000)


ALL: dict[str, Callable[[], Figures]] = {
    "requests": requests_and_bytes,
    "time": one_image,
    "many": many_images,
    "start": start,
    "memory": memory,
    "notebook": notebook,
    "again": again,
}
