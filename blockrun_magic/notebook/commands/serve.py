"""`%blockrun serve`: the local endpoint of this kernel, over the studio of its cells."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING

from blockrun_magic.errors import MissingDependency, UsageError
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table
from blockrun_magic.proxy.server import DEFAULT_PORT, LocalEndpoint, new_key

if TYPE_CHECKING:
    import concurrent.futures

    from openai import OpenAI

    from blockrun_magic.notebook.session import Session

__all__ = ["SERVE", "RunningEndpoint", "client_of", "serve"]

_STOP_TIMEOUT = 5.0
_MAX_PORT = 65_535


class RunningEndpoint:
    """A server on the session's event loop; it sends requests to the gateway in use when it starts.

    `port` 0 takes a free one. Raises BlockrunError if the port is taken.
    """

    def __init__(self, session: Session, port: int = DEFAULT_PORT) -> None:
        studio, gateway = session.studio_and_gateway()
        self.gateway = gateway
        self.key = new_key()
        self._endpoint = LocalEndpoint(studio, gateway, port=port, key=self.key)
        self.url = self._endpoint.url
        self._pid = os.getpid()
        self._serving: concurrent.futures.Future[None] = session.loop_thread.submit(self._endpoint.serve())

    @property
    def running(self) -> bool:
        """Whether the server is running; the copy in a forked child is not."""
        return self._pid == os.getpid() and not self._serving.done()

    def close(self) -> None:
        """Stop the server and wait a moment until its port is free; safe to call twice."""
        from concurrent.futures import wait

        self._endpoint.stop()
        if self.running:
            wait([self._serving], timeout=_STOP_TIMEOUT)


def serve(context: Context, arguments: Arguments) -> Card:
    """Start the local endpoint unless it runs, and show how clients reach it."""
    endpoint = _running(context)
    port = arguments["--port"]
    if endpoint is None:
        endpoint = context.endpoint = RunningEndpoint(context.session, DEFAULT_PORT if port is None else _port(port))
    elif port is not None:
        raise UsageError("The local endpoint is running already.", "Run `%blockrun serve stop` first.")
    rows = [
        ("base URL", endpoint.url),
        ("API key", endpoint.key),
        ("gateway", endpoint.gateway.label),
        ("in Python", "client = blockrun_magic.openai_client()"),
    ]
    note = "For clients of OpenAI's image API on this machine. `%blockrun serve stop` ends it and invalidates the key."
    return Table(("local endpoint", ""), rows, note=note, left=2)


def stop(context: Context, _arguments: Arguments) -> Card:
    """Stop the local endpoint."""
    endpoint = _running(context)
    if endpoint is None:
        return Message("The local endpoint is not running.")
    endpoint.close()
    context.endpoint = None
    return Message("The local endpoint is stopped.")


def client_of(context: Context | None) -> OpenAI:
    """Return OpenAI's client for the endpoint of `context`, or of a script; starts it if it is not running.

    Raises MissingDependency where the package `openai` is not installed, and BlockrunError.
    """
    try:
        from openai import OpenAI
    except ImportError:
        raise MissingDependency(
            "The package `openai` is not installed.", 'Run: pip install "blockrun-magic[openai]"'
        ) from None
    endpoint = _of_a_script() if context is None else _of_a_notebook(context)
    return OpenAI(base_url=endpoint.url, api_key=endpoint.key)


def _of_a_notebook(context: Context) -> RunningEndpoint:
    endpoint = _running(context)
    if endpoint is None:
        endpoint = context.endpoint = RunningEndpoint(context.session, 0)
    return endpoint


_SCRIPT: list[RunningEndpoint] = []


def _of_a_script() -> RunningEndpoint:
    if _SCRIPT and _SCRIPT[0].running:
        return _SCRIPT[0]
    from blockrun_magic.notebook.session import Session
    from blockrun_magic.notebook.settings import Settings

    session = Session(Settings())
    endpoint = RunningEndpoint(session, 0)
    _SCRIPT[:] = [endpoint]
    atexit.register(session.close)
    atexit.register(endpoint.close)
    return endpoint


def _running(context: Context) -> RunningEndpoint | None:
    endpoint = context.endpoint
    return endpoint if isinstance(endpoint, RunningEndpoint) and endpoint.running else None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:6]) > _MAX_PORT:
        raise UsageError(f"{text[:20]!r} is not a port.", "Give a number up to 65535; 0 picks a free port.")
    return int(text)


SERVE = Command(
    "serve",
    "Start a local endpoint for clients of OpenAI's image API, or show it.",
    serve,
    (Argument("--port", help="The port to listen on; 0 takes a free one (8402 by default).", metavar="P"),),
    (Command("stop", "Stop the local endpoint.", stop),),
)
