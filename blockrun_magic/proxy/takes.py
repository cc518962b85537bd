"""Takes of requests with `"fresh": true`, so that a client's automatic retry buys nothing twice.

A fresh take stays the same until its images have reached the client: after an error, a dropped connection or a retry
(the official clients count theirs in `x-stainless-retry-count`), the next such request continues it. Requests with
different `Idempotency-Key` headers are different takes, and the same key is always the same take.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.studio import Studio

__all__ = ["FreshTakes"]

_MAX_REMEMBERED = 10_000
_RETRY_COUNT = "x-stainless-retry-count"
_KEY = "idempotency-key"


class FreshTakes:
    """The takes that this server has given to fresh requests."""

    def __init__(self) -> None:
        self._takes: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self._delivered: set[tuple[str, str, str]] = set()

    def take_for(self, studio: Studio, request: ImageRequest, gateway: Gateway, headers: Mapping[str, str]) -> int:
        """Return the take for this fresh request."""
        key = headers.get(_KEY, "")[:200]
        name = (gateway.realm, request.digest, key)
        recorded = self._takes.get(name)
        repeated = bool(key) or name not in self._delivered or headers.get(_RETRY_COUNT, "0") != "0"
        if recorded is not None and repeated:
            return recorded
        take = self._next(studio, request, gateway, alone=not key)
        self._takes[name] = take
        self._delivered.discard(name)
        if len(self._takes) > _MAX_REMEMBERED:
            oldest, _ = self._takes.popitem(last=False)
            self._delivered.discard(oldest)
        return take

    def delivered(self, request: ImageRequest, gateway: Gateway, headers: Mapping[str, str]) -> None:
        """Record that the images of a fresh take have reached the client."""
        self._delivered.add((gateway.realm, request.digest, headers.get(_KEY, "")[:200]))

    def _next(self, studio: Studio, request: ImageRequest, gateway: Gateway, *, alone: bool) -> int:
        purchase = (gateway.realm, request.digest)
        given = [take for (realm, digest, _), take in self._takes.items() if (realm, digest) == purchase]
        takes = studio.records.takes(*purchase)
        if takes and takes[-1].finished_at is None and alone and takes[-1].take not in given:
            return takes[-1].take  # unfinished takes of an earlier server
        return max([0, *given, *(bought.take for bought in takes)]) + 1
