"""One kernel's run: which gateway, which studio, and the bridge to it; each opened when needed."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from blockrun_magic.notebook.bridge import Bridge
from blockrun_magic.wiring import open_practice, open_studio

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockrun_magic.gateway.presets import Gateway
    from blockrun_magic.notebook.background import Background
    from blockrun_magic.notebook.settings import Settings
    from blockrun_magic.studio import Studio

__all__ = ["Session"]

T = TypeVar("T")


class Session:
    """What the magics of one kernel share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bridge = Bridge()
        self.backgrounds: list[Background] = []
        self._caps_set: dict[str, int] = {}
        self._studio: Studio | None = None
        self._gateway: Gateway | None = None
        self._why = ""
        self._practice: tuple[Gateway, Callable[[], None]] | None = None
        self._looked_after: set[str] = set()

    @property
    def gateway(self) -> Gateway:
        """Where requests go, raising FlagError for a place that is none.

        Chosen with `use`, else with `%config`, else by `BLOCKRUN_API_URL`, else Base.
        """
        if self._gateway is None:
            from blockrun_magic.gateway.presets import PRESETS, gateway_at

            url = os.environ.get("BLOCKRUN_API_URL")
            if self.settings.gateway:
                self._gateway, self._why = self._named(self.settings.gateway), "from %config BlockrunMagics.gateway"
            elif url:
                self._gateway, self._why = gateway_at(url), "from BLOCKRUN_API_URL"
            else:
                self._gateway, self._why = PRESETS["base"], "the default"
        return self._gateway

    @property
    def why(self) -> str:
        """Why requests go where they go, in a few words."""
        return self._why

    @property
    def studio(self) -> Studio:
        """The studio, opened at its first use; raises LedgerError."""
        if self._studio is None:
            self._studio = open_studio()
        return self._studio

    def ready(self) -> tuple[Studio, Gateway]:
        """Return the studio and the gateway; raises LedgerError or FlagError.

        The first time at a gateway, what an earlier kernel left open is looked up in the background.
        """
        studio, gateway = self.studio, self.gateway
        caps = self.settings.caps()
        if caps != self._caps_set:
            studio.ledger.set_caps(**caps)
            self._caps_set = caps
        if gateway.realm not in self._looked_after:
            self._looked_after.add(gateway.realm)
            if studio.ledger.open_payments():
                self.bridge.submit(studio.reconcile(gateway))
        return studio, gateway

    def use(self, name: str) -> Gateway:
        """Send requests to the gateway `name` from now on, and return it; raises FlagError."""
        self._gateway = self._named(name)
        self._why = f"chosen with `%blockrun use {name}`"
        return self._gateway

    def _named(self, name: str) -> Gateway:
        from blockrun_magic.gateway.presets import gateway_named

        return self.practice() if name.lower() == "practice" else gateway_named(name)

    def practice(self) -> Gateway:
        """Return the practice gateway: a shared one at `BLOCKRUN_PRACTICE_URL`, or one of our own."""
        if self._practice is None:
            self._practice = open_practice()
        return self._practice[0]

    def run(self, work: Coroutine[Any, Any, T], tick: Callable[[], None] | None = None) -> T:
        """Return what `work` returns, with Stop alive meanwhile."""
        if self.settings.keep_loop_running:
            return self.bridge.run_beside(work, tick)
        return self.bridge.run(work, tick)

    def close(self) -> None:
        """End everything that runs in the background; safe to call twice."""
        studio, self._studio = self._studio, None
        self.bridge.close(studio.close() if studio is not None else None)
        if studio is not None:
            studio.ledger.close()
        practice, self._practice = self._practice, None
        if practice is not None:
            practice[1]()
