"""Serve the practice gateway: `python -m blockrun_magic.practice --port 8403`."""

from __future__ import annotations

import argparse
import sys

from blockrun_magic.payments.money import parse_usd
from blockrun_magic.payments.x402.networks import NETWORKS, network_named
from blockrun_magic.practice.server.server import PracticeServer

__all__ = ["main"]


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m blockrun_magic.practice", description=__doc__)
    parser.add_argument("--port", type=int, default=8403, help="0 picks a free one (default 8403)")
    parser.add_argument("--db", default=":memory:", help="SQLite file that survives restarts")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds an image takes")
    parser.add_argument("--slow-seconds", type=float, default=3.0, help="seconds a slow model's job takes")
    parser.add_argument("--start-balance", type=parse_usd, default="100", help="play money of a new wallet, in $")
    parser.add_argument("--x402-version", type=int, choices=(1, 2), default=2)
    names = [network.v1_name for network in NETWORKS.values()]
    parser.add_argument("--network", choices=names, default="blockrun-practice")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the base URL and serve until Ctrl-C; return the exit status."""
    options = vars(_arguments(argv))
    network = network_named(options.pop("network"))
    if network is None:  # pragma: no cover  argparse admits only known names
        return 2
    server = PracticeServer(network=network, **options)
    try:
        url = server.start()
    except OSError as error:
        sys.stderr.write(f"cannot listen on port {options['port']}: {error}\n")
        return 1
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    try:
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
