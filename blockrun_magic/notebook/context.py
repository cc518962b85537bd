"""Context of cells and commands: the kernel's session, its shell and its display."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.notebook.display.results import ResultDisplay
    from blockrun_magic.notebook.session import Session

__all__ = ["Closable", "Context"]


class Closable(Protocol):
    """A resource that is closed when the extension is unloaded."""

    def close(self) -> None:
        """End it; safe to call twice."""


@dataclass(slots=True)
class Context:
    """One kernel's session, shell and display.

    `local_ns` holds the variables of the function that the running line is in, if it is in one.
    """

    session: Session
    shell: InteractiveShell
    showing: ResultDisplay
    panel: Closable | None = None
    endpoint: Closable | None = None
    local_ns: Mapping[str, object] = field(default_factory=dict)

    @property
    def namespace(self) -> Mapping[str, object]:
        """The variables that a line sees: those of its function first, then the notebook's."""
        if self.local_ns is self.shell.user_ns:
            return self.shell.user_ns
        return ChainMap(dict(self.local_ns), self.shell.user_ns)

    @property
    def catalog(self) -> Catalog:
        """The models of the gateway in use, as far as known; raises LedgerError or FlagError."""
        studio, gateway = self.session.studio_and_gateway()
        return studio.catalog_at(gateway)
