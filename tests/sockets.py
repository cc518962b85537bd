"""A raw TCP server on loopback: it answers bytes, breaks off, or slams the door."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RESET", "Request", "Server", "free_port", "reply", "reply_json", "serving"]

RESET = None
"""The reply that is none: the connection is reset after the request was read."""
_PATIENCE = 10.0


@dataclass(frozen=True)
class Request:
    """What came in: the request line, the headers by lower-case name, and the body."""

    line: str
    headers: Mapping[str, str]
    body: bytes


Reply = bytes | Callable[[Request], bytes] | None


@dataclass
class Server:
    """A listening server, and every request that it has read."""

    port: int
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens, as an http URL without a path."""
        return f"http://127.0.0.1:{self.port}"


def reply(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, missing: int = 0
) -> bytes:
    """Return an HTTP answer; `missing` bytes are promised beyond those of `body`, and never come."""
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close", f"Content-Length: {len(body) + missing}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def reply_json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> bytes:
    """Return an HTTP answer with a JSON body."""
    return reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})


@contextmanager
def serving(*replies: Reply) -> Iterator[Server]:
    """Serve `replies`, one a connection, the last one again and again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener.getsockname()[1])
        closing = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, server, list(replies), closing), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            closing.set()
            socket.create_connection(("127.0.0.1", server.port), _PATIENCE).close()
            thread.join(_PATIENCE)


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _serve(listener: socket.socket, server: Server, replies: list[Reply], closing: threading.Event) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            if closing.is_set():
                return
            connection.settimeout(_PATIENCE)
            request = _read(connection)
            if request is None:
                continue
            server.requests.append(request)
            now = replies.pop(0) if len(replies) > 1 else replies[0]
            if now is RESET:
                # Closing with nothing to linger for sends RST in place of FIN.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                connection.sendall(now if isinstance(now, bytes) else now(request))


def _read(connection: socket.socket) -> Request | None:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            return None
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in fields)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Request(line, headers, body)
