"""What a command works with: the kernel's session, its shell and its screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.notebook.display.results import Showing
    from blockrun_magic.notebook.session import Session

__all__ = ["Context"]


@dataclass(frozen=True, slots=True)
class Context:
    """One kernel's session, shell and screen."""

    session: Session
    shell: InteractiveShell
    showing: Showing

    @property
    def catalog(self) -> Catalog:
        """The models of the gateway in use, as far as they are known; raises LedgerError or FlagError."""
        studio, gateway = self.session.ready()
        return studio.catalog_at(gateway)
