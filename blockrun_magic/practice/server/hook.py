"""The fault hook: a function that a test passes to the practice gateway to change how it behaves.

The hook is awaited at the named points of a request. It returns a response to send in place of the gateway's own,
None to let the gateway continue, or raises `DropConnection`.

| point | when | the exchange holds |
|---|---|---|
| `terms` | before a price is used; the hook may replace `exchange.terms` | `request`, `terms` |
| `challenge` | an unpaid request gets its 402 | `response` |
| `received` | the signature was verified, nothing else was checked | `payload` |
| `paid` | every check passed, no money moved | `payload` |
| `settled` | money moved, the images are ready | `response` |
| `job` | a slow job was accepted | `response` |
| `poll` | a job is polled, the signature was verified | `payload`, `job` |
| `polled` | a job's money moved, the images are ready | `response` |
| `media` | an image is downloaded | `response` |
| `witness` | a client asks whether an authorization was used | `response` |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.practice.server.challenge import PaymentRequirements
    from blockrun_magic.practice.server.database import Job
    from blockrun_magic.practice.server.verification import PaymentPayload

__all__ = ["DropConnection", "Exchange", "Hook", "no_hook"]


class DropConnection(Exception):
    """The connection is cut without an answer."""


@dataclass(slots=True)
class Exchange:
    """One request at the gateway, as far as it has been processed."""

    http: Request
    request: ImageRequest | None = None
    terms: PaymentRequirements | None = None
    payload: PaymentPayload | None = None
    job: Job | None = None
    response: Response | None = None
    """The gateway's own answer."""


Hook = Callable[[str, Exchange], Awaitable["Response | None"]]
"""Called with the name of the point and the exchange."""


async def no_hook(point: str, exchange: Exchange) -> Response | None:  # noqa: ARG001  the signature of a hook
    """Let the gateway continue."""
    return None
