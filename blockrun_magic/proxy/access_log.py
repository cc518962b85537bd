"""The access log: one JSON line for each request, with the length of the prompt, but no prompt, key or query."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["AccessLog", "note"]

_FACTS = "blockrun_magic.facts"


def note(scope: Scope, **facts: Any) -> None:
    """Add facts about a request to its line in the access log."""
    scope.get(_FACTS, {}).update(facts)


class AccessLog:
    """ASGI middleware that writes a line to `file` for each request, when it has ended."""

    def __init__(self, app: ASGIApp, file: TextIO | None) -> None:
        self.app = app
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and log it."""
        if self._file is None or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        facts: dict[str, Any] = {}
        scope[_FACTS] = facts
        status, started = 0, time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "method": scope["method"],
                "path": scope["path"][:200],
                "status": status,
                "ms": round((time.monotonic() - started) * 1000),
                **facts,
            }
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
