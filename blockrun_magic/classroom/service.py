"""The process that serves a class: start, addresses, locks, and shutdown."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from blockrun_magic.classroom.front import build_front, teacher_url
from blockrun_magic.classroom.hub import Hub
from blockrun_magic.classroom.room import Settings, open_classroom
from blockrun_magic.errors import UsageError
from blockrun_magic.files import create_folder, write_atomically
from blockrun_magic.serving import LOOPBACK_HOSTS, listening_socket, serve_until
from blockrun_magic.threads import run_cpu, run_io

if TYPE_CHECKING:
    import socket

__all__ = ["serve_classroom"]

_GRACE = 25.0
"""Seconds for the work in progress when the process is stopped."""


async def serve_classroom(
    settings: Settings, stop: threading.Event, ready: Callable[[dict[str, str]], None], hub: Hub | None = None
) -> None:
    """Serve a class until `stop` is set; `ready` gets the addresses once it answers. Raises BlockrunError."""
    room = open_classroom(settings, hub)
    try:
        if not room.hold_locks():
            raise UsageError(
                f"Another service is using {settings.home}.",
                "Stop it, or use --database with PostgreSQL to run several.",
            )
        await run_cpu(room.begin)
        listener = _bind(settings)
        origin = _origin(settings, listener)
        hosts = _hosts(settings, origin)
        app = build_front(room, hosts, hub, room.pages)
        addresses = {"url": origin, "teacher_url": teacher_url(room, origin, hub)}
        await _write_ready(settings.home, addresses["url"])
        background = asyncio.create_task(room.take_over_for_ever())
        try:
            ready(addresses)
            serving = asyncio.create_task(serve_until(app, listener, stop, grace=_GRACE))
            await _until(stop, serving)
            room.orders.stop(_GRACE - 2.0)
            ending = asyncio.create_task(room.end(_GRACE))
            await asyncio.gather(serving, ending)
        finally:
            background.cancel()
            listener.close()
            for lock in room.locks:
                lock.release()
    finally:
        if hub is not None:
            await hub.aclose()
        await room.studios.close()
        await run_io(room.records.close)


async def _until(stop: threading.Event, serving: asyncio.Task[None]) -> None:
    while not stop.is_set() and not serving.done():  # noqa: ASYNC110  the event is a thread's
        await asyncio.sleep(0.05)


def _bind(settings: Settings) -> socket.socket:
    try:
        return listening_socket(settings.port, settings.host)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "that is not a port"
        raise UsageError(
            f"The service cannot listen on {settings.host}, port {settings.port}: {reason}.",
            "Choose another port with --port (0 picks a free one).",
        ) from None


def _origin(settings: Settings, listener: socket.socket) -> str:
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"


def _hosts(settings: Settings, origin: str) -> set[str]:
    """Return the host names that the service accepts."""
    named = urlsplit(origin).hostname or ""
    return {*LOOPBACK_HOSTS, "[::1]", settings.host, f"[{named}]" if ":" in named else named, *settings.names}


async def _write_ready(home: Path, url: str) -> None:
    """Write the address of the service, for the owner's commands."""
    folder = home / "classroom"
    record = json.dumps({"url": url, "pid": os.getpid()}).encode()
    await run_io(create_folder, folder)
    await run_io(partial(write_atomically, folder / "ready.json", record, mode=0o600, durable=False))
