"""A bad network in front of a running server: it forwards requests, except those that it loses."""

from __future__ import annotations

from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fakes.faulty import Faulty
from fakes.http_server import Served
from harness import PATIENCE

__all__ = ["Between"]

_OF_THE_CONNECTION = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})


class Between(Served):
    """A server that forwards every request to `target` through `network`."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.network = Faulty(self._forward)

    @property
    def url(self) -> str:
        """The address of this server."""
        return f"http://127.0.0.1:{self.port}"

    def app(self) -> Any:
        """Return the application."""
        return self.network

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        headers = [(name, value) for name, value in request.headers.items() if name not in _OF_THE_CONNECTION]
        query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            answer = await client.request(
                request.method, f"{self.target}{request.url.path}{query}", headers=headers, content=await request.body()
            )
        kept = {name: value for name, value in answer.headers.items() if name not in _OF_THE_CONNECTION}
        content = answer.content.replace(self.target.encode(), self.url.encode())  # URLs in the answer lead here, too
        await Response(content, answer.status_code, kept)(scope, receive, send)
