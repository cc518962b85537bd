"""`python -m blockrun_magic serve`: the local endpoint as a separate process."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from blockrun_magic.errors import BlockrunError, UsageError, WalletError
from blockrun_magic.files import write_atomically
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.proxy.server import DEFAULT_PORT, LocalEndpoint, new_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.studio import Studio

__all__ = ["add_arguments", "serve"]

_MAX_KEY_FILE = 1000
_SHUTDOWN_TIMEOUT = 25.0
_NO_KEY = "No key is required: every program on this machine can spend from this wallet, within its limits."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve` to `parser`."""
    parser.add_argument("--gateway", default="base", help="gateway to buy from: a name or a URL (default: base)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 picks a free one (default 8402)")
    parser.add_argument("--home", type=Path, help="folder of wallet, ledger and images (default ~/.blockrun)")
    parser.add_argument("--host", default="127.0.0.1", help="listen on another address; clients then need the key")
    parser.add_argument(
        "--name", action="append", default=[], help="a further name that clients use for this machine; may be repeated"
    )
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key-file", type=Path, help="store the API key in this file (mode 0600), created if missing")
    keys.add_argument("--no-key", action="store_true", help="require no key: every program here can then spend")
    parser.add_argument("--max-price", type=_usd, metavar="USD", help="the most that one request may cost")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the access log to this file, not to stderr")


def _usd(text: str) -> int:
    try:
        return parse_usd(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def serve(options: argparse.Namespace) -> int:
    """Print one line of JSON when the server is ready, serve until SIGTERM or Ctrl-C, and return the exit status."""
    if options.home is not None:
        os.environ["BLOCKRUN_HOME"] = str(options.home.expanduser().absolute())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    outcome: list[BaseException] = []
    # Not in the main thread, where uvicorn would handle the signals and end the process itself.
    thread = threading.Thread(target=_run, args=(options, stop, outcome), name="blockrun-magic-serve")
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if outcome and isinstance(outcome[0], BlockrunError):
        print(outcome[0], file=sys.stderr)  # noqa: T201  the command's own output
    elif outcome:
        raise outcome[0]
    return 1 if outcome else 0


def _run(options: argparse.Namespace, stop: threading.Event, outcome: list[BaseException]) -> None:
    try:
        asyncio.run(_serve(options, stop))
    except BaseException as error:  # noqa: BLE001  the main thread reports it
        outcome.append(error)


async def _serve(options: argparse.Namespace, stop: threading.Event) -> None:
    from blockrun_magic.wiring import open_studio

    key, log = _key(options), _open_log(options.log)
    studio = open_studio()
    close_gateway: Callable[[], None] = lambda: None  # noqa: E731
    try:
        gateway, close_gateway = await _gateway(options.gateway, studio)
        endpoint = LocalEndpoint(
            studio,
            gateway,
            port=options.port,
            host=options.host,
            key=key,
            max_price=options.max_price,
            log=log,
            names=options.name,
            stop=stop,
        )
        ready = {"url": endpoint.url, "api_key": key, "health": f"{endpoint.origin}/health"}
        print(json.dumps(ready), flush=True)  # noqa: T201  the command's own output
        if key is None:
            print(_NO_KEY, file=sys.stderr, flush=True)  # noqa: T201
        await endpoint.serve()
        await asyncio.wait([asyncio.ensure_future(studio.running.wait_idle())], timeout=_SHUTDOWN_TIMEOUT)
    finally:
        await studio.close()
        close_gateway()
        if log is not sys.stderr:
            log.close()


def _open_log(path: Path | None) -> TextIO:
    if path is None:
        return sys.stderr
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Name another file with --log.") from None


async def _gateway(name: str, studio: Studio) -> tuple[Gateway, Callable[[], None]]:
    from blockrun_magic.gateway.gateways import CLASSROOM, PRACTICE_NAME, gateway_named
    from blockrun_magic.wiring import find_classroom, open_practice

    if name == CLASSROOM:
        return await find_classroom(studio), lambda: None
    return open_practice() if name == PRACTICE_NAME else (gateway_named(name), lambda: None)


def _key(options: argparse.Namespace) -> str | None:
    """Return the key that clients must send; raises WalletError for a key file that cannot be used."""
    if options.no_key:
        return None
    if options.key_file is None:
        return new_key()
    path: Path = options.key_file.expanduser()
    try:
        if not path.exists():
            write_atomically(path, f"{new_key()}\n".encode(), mode=0o600, exclusive=True)
        if not path.is_file() or path.stat().st_size > _MAX_KEY_FILE:
            raise WalletError(f"{path} is not a key file.", "Name a file that this command can create.")
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise WalletError(f"{path} can be read by others.", f"Run: chmod 600 {path}")
        key = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WalletError(f"{path} cannot be used: {reason}.", "Name a file in a folder of your own.") from None
    if not key:
        raise WalletError(f"{path} is empty.", "Remove it: the command then writes a new key into it.")
    return key
