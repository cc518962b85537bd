"""A server of raw bytes on loopback: it sends the answers of a test, valid or not."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

__all__ = ["RESET", "RawServer", "Seen", "http", "json_http", "raw_server"]

RESET = object()
"""The server reads the request and resets the connection."""


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class RawServer:
    """The server's port and every request that it received."""

    port: int
    answers: Sequence[Any]
    seen: list[Seen] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The server's origin."""
        return f"http://127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        """Read one request and send the next answer; the last answer is repeated."""
        with connection, suppress(OSError), connection.makefile("rb") as stream:
            method, target, _ = stream.readline().decode().split(" ", 2)
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", 0)))
            answer = self.answers[min(len(self.seen), len(self.answers) - 1)]
            self.seen.append(Seen(method, target, headers, body))
            if answer is RESET:
                # With a linger time of zero, closing sends a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                connection.sendall(answer)


def http(body: bytes = b"", status: int = 200, /, length: int | None = None, **headers: str) -> bytes:
    """Return an answer as bytes; `_` in a header's name stands for `-`, and `length` may be wrong."""
    fields = {"content-length": str(len(body) if length is None else length), "connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {fields[name]}" for name in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def json_http(value: Any, status: int = 200, **headers: str) -> bytes:
    """Return an answer that holds `value` as JSON."""
    return http(json.dumps(value).encode(), status, content_type="application/json", **headers)


@contextmanager
def raw_server(*answers: Any) -> Iterator[RawServer]:
    """Run a server that sends these answers in turn, one per connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RawServer(listener.getsockname()[1], answers)
        thread = threading.Thread(target=_accept, args=(listener, server))
        thread.start()
        try:
            yield server
        finally:
            # A shutdown wakes a thread in accept(); a close does not.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, server: RawServer) -> None:
    with suppress(OSError):
        while True:
            server.serve(listener.accept()[0])
