"""Selection of the gateway for requests, and the reason for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blockrun_magic.notebook.config_file import remembered_gateway
from blockrun_magic.wiring import blockrun_home, open_practice

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.notebook.settings import Settings

__all__ = ["GatewaySelection"]


class GatewaySelection:
    """The gateway of one kernel's requests.

    The latest choice of `use` and `%config` wins; otherwise, it is that of `BLOCKRUN_API_URL`, practice
    beside an open lesson, the remembered one, and Base. `open_lesson` returns the name of an open lesson, or None;
    `find_classroom` returns the classroom of this kernel and raises BlockrunError.
    """

    def __init__(
        self, settings: Settings, open_lesson: Callable[[], str | None], find_classroom: Callable[[], Gateway]
    ) -> None:
        self._settings = settings
        self._open_lesson = open_lesson
        self._find_classroom = find_classroom
        self._chosen: tuple[str, str] | None = None
        self._known: dict[str, Gateway] = {}
        self._practice: tuple[Gateway, Callable[[], None]] | None = None
        self._inherited: list[object] = []
        """Practice servers of the parents of a forked process: never used, and never finalized here."""
        settings.observe(self._on_config_change, "gateway")

    @property
    def gateway(self) -> Gateway:
        """The gateway itself; raises FlagError for an invalid one."""
        return self.gateway_named(self._selected()[0])

    @property
    def name(self) -> str:
        """The name of the gateway; the gateway itself is not opened."""
        return self._selected()[0].lower()

    @property
    def reason(self) -> str:
        """The reason for the selected gateway, in a few words."""
        return self._selected()[1]

    def _selected(self) -> tuple[str, str]:
        if self._chosen is not None:
            return self._chosen
        if self._settings.gateway:
            return self._settings.gateway, "from %config BlockrunMagics.gateway"
        url = os.environ.get("BLOCKRUN_API_URL")
        if url:
            return url, "from BLOCKRUN_API_URL"
        lesson = self._open_lesson()
        if lesson is not None:
            return "practice", f"for images that the lesson {lesson} does not contain"
        remembered = remembered_gateway(blockrun_home())
        return (remembered, "remembered in magic/config.toml") if remembered else ("base", "the default")

    def _on_config_change(self, _change: object) -> None:
        self._chosen = None

    def use(self, name: str, why: str | None = None, *, reset_ledger: bool = False) -> Gateway:
        """Send requests to the gateway `name` from now on, and return it; raises BlockrunError.

        `why` is the reason for the choice, unless the user named the gateway. A gateway that cannot be used stays
        selected: cells fail with the same error, and nothing is bought elsewhere. With `reset_ledger`, practice starts
        on a new ledger.
        """
        self._chosen = (name, why or f"chosen with `%blockrun use {name}`")
        if reset_ledger:
            self.practice(reset=True)
        return self.gateway_named(name)

    def gateway_named(self, name: str) -> Gateway:
        """Return the gateway called `name`, or at that URL; raises FlagError."""
        from blockrun_magic.gateway.gateways import CLASSROOM, PRACTICE_NAME, gateway_named

        if name.lower() == PRACTICE_NAME:
            return self.practice()
        if name.lower() == CLASSROOM:
            name = CLASSROOM
        if name not in self._known:
            self._known[name] = self._find_classroom() if name == CLASSROOM else gateway_named(name)
        return self._known[name]

    def set_classroom(self, gateway: Gateway) -> None:
        """Make `gateway` the classroom of this kernel, after joining it or after its kind of money has changed."""
        self._known[gateway.name] = gateway

    def practice(self, *, reset: bool = False) -> Gateway:
        """Return the practice gateway; with `reset`, on a new ledger. Raises LedgerError."""
        if reset:
            self.close()
        if self._practice is None:
            self._practice = open_practice(reset=reset)
        return self._practice[0]

    def leave_to_parent(self) -> None:
        """Leave the practice server to the parent of this forked process; requests still reach it on this machine."""
        if self._practice is not None:
            self._inherited.append(self._practice)
            self._practice = (self._practice[0], lambda: None)

    def close(self) -> None:
        """Stop the practice gateway; safe to call twice."""
        practice, self._practice = self._practice, None
        if practice is not None:
            practice[1]()
