"""A practice gateway in a process of its own that sends small images, because a load test does not measure painting."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from blockrun_magic.practice.__main__ import main
from blockrun_magic.practice.server import images
from harness import ROOT

__all__ = ["gateway_process", "quick_gateway", "send_small_images"]


def send_small_images() -> None:
    """Make every practice gateway of this process send the same small image."""
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(picture, "PNG")
    images._paint = lambda *_: picture.getvalue()


@contextmanager
def quick_gateway(latency: float) -> Iterator[str]:
    """Yield the URL of a gateway that takes `latency` seconds for an image."""
    with gateway_process(latency) as (url, _):
        yield url


@contextmanager
def gateway_process(latency: float) -> Iterator[tuple[str, int]]:
    """Yield the URL of a gateway with small images, and the id of its process."""
    environ = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-m", "harness.quick_gateway", "--port", "0", "--latency", str(latency)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.kill()


if __name__ == "__main__":
    send_small_images()
    sys.exit(main(sys.argv[1:]))
