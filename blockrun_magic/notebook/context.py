"""What a command works with: the kernel's session, its shell and its screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.notebook.display.results import ResultDisplay
    from blockrun_magic.notebook.session import Session

__all__ = ["Closable", "Context"]


class Closable(Protocol):
    """What can be closed when the extension is unloaded."""

    def close(self) -> None:
        """End it; safe to call twice."""


@dataclass(slots=True)
class Context:
    """One kernel's session, shell and screen."""

    session: Session
    shell: InteractiveShell
    showing: ResultDisplay
    panel: Closable | None = None

    @property
    def catalog(self) -> Catalog:
        """The models of the gateway in use, as far as they are known; raises LedgerError or FlagError."""
        studio, gateway = self.session.studio_and_gateway()
        return studio.catalog_at(gateway)
