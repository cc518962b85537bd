"""`classroom serve`: the service as a separate process, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.classroom.cli.credentials import with_credentials
from blockrun_magic.classroom.hub import Hub, HubSettings
from blockrun_magic.classroom.room import Settings
from blockrun_magic.classroom.service import serve_classroom
from blockrun_magic.wiring import blockrun_home, open_practice

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from blockrun_magic.gateway.gateways import Gateway

__all__ = ["gateway_of", "home_of", "serve"]


def home_of(options: argparse.Namespace) -> Path:
    """Return the folder of wallet and records: `--home`, else BLOCKRUN_HOME or ~/.blockrun."""
    if options.home is not None:
        os.environ["BLOCKRUN_HOME"] = str(Path(options.home).expanduser().absolute())
    return blockrun_home()


def serve(options: argparse.Namespace) -> int:
    """Print one line of JSON when the service is ready, serve until it is stopped, and return the exit status."""
    stop = threading.Event()
    home = home_of(options)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    outcome: list[BaseException] = []
    # Not in the main thread, where uvicorn would handle the signals and end the process itself.
    thread = threading.Thread(target=_run, args=(home, options, stop, outcome), name="blockrun-magic-classroom")
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    for number, handler in before.items():
        signal.signal(number, handler)
    if outcome:
        raise outcome[0]
    return 0


def _run(home: Path, options: argparse.Namespace, stop: threading.Event, outcome: list[BaseException]) -> None:
    try:
        environ = with_credentials(os.environ)
        gateway, close_gateway = gateway_of(options.gateway)
        settings = Settings(
            home=home,
            gateway=gateway,
            port=options.port,
            host=options.host,
            database_url=options.database,
            teachers=options.teachers,
            public_url=options.public_url,
            names=tuple(options.name),
            environ=environ,
        )
        hub_settings = HubSettings.from_environ(environ)
        hub = None if hub_settings is None else Hub(hub_settings)
        try:
            asyncio.run(serve_classroom(settings, stop, _announce, hub))
        finally:
            close_gateway()
    except BaseException as error:  # noqa: BLE001  the main thread reports it
        outcome.append(error)


def _announce(addresses: dict[str, str]) -> None:
    sys.stdout.write(f"{json.dumps(addresses)}\n")
    sys.stdout.flush()


def gateway_of(name: str) -> tuple[Gateway, Callable[[], None]]:
    """Return the gateway called `name` or at a URL, and a function that stops the server started for it, if any."""
    from blockrun_magic.gateway.gateways import PRACTICE_NAME, gateway_named, practice_at

    if name == PRACTICE_NAME:
        return open_practice()
    gateway = gateway_named(name)
    if gateway.on_loopback and _is_practice(gateway.base_url):
        gateway = practice_at(gateway.base_url)
    return gateway, lambda: None


def _is_practice(url: str) -> bool:
    """Return whether a practice gateway, which takes play money only, answers at a URL of this machine."""
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/practice/ledger", timeout=5) as response:
            return isinstance(json.loads(response.read(10_000_000)).get("settlements"), list)
    except (OSError, ValueError, AttributeError):
        return False
