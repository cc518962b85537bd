"""The local endpoint of this kernel: OpenAI's image API over the studio of its cells."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blockrun_magic.errors import MissingDependency
from blockrun_magic.proxy.server import DEFAULT_PORT, LocalEndpoint, new_key

if TYPE_CHECKING:
    import concurrent.futures

    from openai import OpenAI

    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.notebook.session import Session

__all__ = ["RunningEndpoint", "openai_client"]

_STOP_TIMEOUT = 5.0


class RunningEndpoint:
    """A server on the session's event loop, started when it is made; the gateway is the one in use then.

    Raises BlockrunError where the port is taken; `port` 0 takes a free one.
    """

    def __init__(self, session: Session, port: int = DEFAULT_PORT) -> None:
        studio, self.gateway = session.studio_and_gateway()
        self._endpoint = LocalEndpoint(studio, self.gateway, port=port, key=new_key())
        self._serving: concurrent.futures.Future[None] = session.bridge.submit(self._endpoint.serve())
        self._pid = os.getpid()

    gateway: Gateway

    @property
    def url(self) -> str:
        """The base URL for OpenAI clients."""
        return self._endpoint.url

    @property
    def key(self) -> str:
        """The API key, which is new for each start."""
        return self._endpoint.key or ""

    @property
    def running(self) -> bool:
        """Whether it serves; a forked child's copy does not."""
        return not self._serving.done() and self._pid == os.getpid()

    def close(self) -> None:
        """Stop the server, and wait a moment until its port is free; safe to call twice."""
        self._endpoint.stop()
        if self._pid == os.getpid() and not self._serving.done():
            self._serving.add_done_callback(lambda _: None)
            _wait(self._serving)


def openai_client(endpoint: RunningEndpoint) -> OpenAI:
    """Return OpenAI's client, set up for `endpoint`; raises MissingDependency where the package is not installed."""
    try:
        from openai import OpenAI
    except ImportError:
        raise MissingDependency(
            "The package `openai` is not installed.", 'Run: pip install "blockrun-magic[openai]"'
        ) from None
    return OpenAI(base_url=endpoint.url, api_key=endpoint.key)


def _wait(serving: concurrent.futures.Future[None]) -> None:
    import concurrent.futures

    concurrent.futures.wait([serving], timeout=_STOP_TIMEOUT)
