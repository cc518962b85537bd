"""A network that loses, delays and repeats requests: an ASGI application around another one.

`faults` lists the faults of the next matching requests, oldest first: "lose the request" (it never arrives), "lose
the answer" (it is carried out), "cut the answer" (its second half is lost), "only the head" (its body is lost),
"repeat" (it arrives twice, the first answer counts), "twice at once" (both arrive at the same moment), "late" (the
answer is lost, and the request arrives again after the next one), or the delay of the answer in seconds.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Faulty"]


class Faulty:
    """Forwards requests to `app` as a bad network does; `seen` lists method and path of every request that arrived."""

    def __init__(self, app: ASGIApp, only: str = "") -> None:
        self.app = app
        self.only = only
        """A part of method and path, such as "PUT ": faults affect only requests that contain it."""
        self.faults: deque[str | float] = deque()
        self.seen: list[str] = []
        self.silent = threading.Event()
        """Set as soon as an answer is late."""
        self._late: list[tuple[Scope, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, body = f"{scope['method']} {scope['path']}", await _body(receive)
        fault = self.faults.popleft() if self.faults and self.only in name else None
        if fault == "lose the request":
            scope["connection"].abort()
            return
        times = 2 if fault == "twice at once" else 1
        answer = (await asyncio.gather(*(self._carried(scope, body) for _ in range(times))))[-1]
        if fault == "repeat":
            await self._carried(scope, body)
        late, self._late = self._late, []
        for each in late:
            await self._carried(*each)
        if fault == "late":
            self._late.append((scope, body))
        if fault in ("lose the answer", "late"):
            scope["connection"].abort()
            return
        if isinstance(fault, float):
            self.silent.set()
            await asyncio.sleep(fault)
        if fault in ("cut the answer", "only the head"):
            await _send_a_part(answer, send, half=fault == "cut the answer")
            scope["connection"].abort()
            return
        for message in answer:
            await send(message)

    async def _carried(self, scope: Scope, body: bytes) -> list[Message]:
        """Deliver a request to `app` and return the messages of the answer."""
        self.seen.append(f"{scope['method']} {scope['path']}")
        messages: list[Message] = []
        parts: deque[Message] = deque([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            return parts.popleft() if parts else await asyncio.Future()

        async def send(message: Message) -> None:
            messages.append(message)

        try:
            await self.app({**scope, "state": {}}, receive, send)
        except Exception:  # noqa: BLE001  like a server
            await Response(status_code=500)(scope, receive, send)
        return messages


async def _send_a_part(answer: list[Message], send: Send, *, half: bool) -> None:
    """Send the head of an answer, which promises the whole body, and with `half` the first half of the body."""
    head, *parts = answer
    content = b"".join(part.get("body", b"") for part in parts)
    await send(head)
    await send({"type": "http.response.body", "body": content[: len(content) // 2 if half else 0], "more_body": True})
    await asyncio.sleep(0.05)  # so that the part leaves before the connection ends


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    return body
