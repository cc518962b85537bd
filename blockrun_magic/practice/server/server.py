"""The practice gateway as a server on the loopback, in this process or in its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Self

from blockrun_magic.payments.x402.networks import PRACTICE
from blockrun_magic.practice.server.hook import no_hook
from blockrun_magic.serving import listening_socket, serve_until

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from blockrun_magic.payments.x402.networks import EvmNetwork
    from blockrun_magic.practice.server.database import Database
    from blockrun_magic.practice.server.hook import Hook

__all__ = ["PracticeServer"]

_HOST = "127.0.0.1"
_STOP_SECONDS = 5.0


class PracticeServer:
    """A gateway on a loopback port, served by a daemon thread with its own loop.

    `port` 0 takes a free one; `db` is a SQLite file that several servers may share, or ":memory:";
    `latency` and `slow_seconds` are seconds; `start_balance` is each wallet's play money in
    micro-USDC; `x402_version` is 1 or 2; `network` is the one it asks to be paid on;
    `hook` is called at each point of a request, see `hook.py`.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        db: str | Path = ":memory:",
        latency: float = 0.0,
        slow_seconds: float = 3.0,
        start_balance: int = 100_000_000,
        x402_version: int = 2,
        network: EvmNetwork = PRACTICE,
        hook: Hook = no_hook,
    ) -> None:
        self._port = port
        self._db = db
        self._start_balance = start_balance
        self._behaviour = (latency, slow_seconds, x402_version, network, hook)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._halt = threading.Event()

    @property
    def url(self) -> str:
        """The base URL, ending in /api; raises RuntimeError unless it is started."""
        if self._socket is None:
            raise RuntimeError("the practice gateway is not running")
        return f"http://{_HOST}:{self._port}/api"

    def start(self) -> str:
        """Serve in a thread and return the base URL; connections are accepted from now on."""
        if self._socket is not None:
            return self.url
        from blockrun_magic.practice.server.database import Database

        listener = listening_socket(self._port)
        try:
            state = Database(self._db, self._start_balance)
        except BaseException:
            listener.close()
            raise
        self._socket = listener
        self._port = listener.getsockname()[1]
        self._halt.clear()
        self._thread = threading.Thread(target=self._run, args=(state,), name="practice-gateway", daemon=True)
        self._thread.start()
        return self.url

    def stop(self) -> None:
        """Stop serving, cutting open connections; a stopped server can be started again."""
        self._halt.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
        if self._socket is not None:
            self._socket.close()
        self._thread = self._socket = None

    def wait(self) -> None:
        """Block until the server stops."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, state: Database) -> None:
        try:
            asyncio.run(self._serve(state))
        finally:
            state.close()

    async def _serve(self, state: Database) -> None:
        # Imported here, so that the thread waits for it and not the caller.
        from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
        from blockrun_magic.practice.server.app import build_app
        from blockrun_magic.practice.server.handlers import Options

        app = build_app(state, SNAPSHOT, Options(*self._behaviour))
        if self._socket is not None:
            await serve_until(app, self._socket, self._halt)
