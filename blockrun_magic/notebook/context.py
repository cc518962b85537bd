"""Context of cells and commands: the kernel's session, its shell and its display."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.notebook.display.results import ResultDisplay
    from blockrun_magic.notebook.session import Session

__all__ = ["Closable", "Context", "outer_variables"]

_MAGIC_CALLS = ("run_line_magic", "run_cell_magic")
_LOCALS = ".<locals>."


class Closable(Protocol):
    """A resource that is closed when the extension is unloaded."""

    def close(self) -> None:
        """End it; safe to call twice."""


@dataclass(slots=True)
class Context:
    """One kernel's session, shell and display.

    `local_ns` holds the variables of the function around the running line, if there is one.
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
        """The known models of the gateway in use; raises LedgerError or FlagError."""
        studio, gateway = self.session.studio_and_gateway()
        return studio.catalogs.at(gateway)


def outer_variables() -> list[Mapping[str, object]]:
    """Return the variables of the functions around the one that runs this magic, innermost first.

    Python keeps only the outer variables that a function's code mentions, and a magic mentions none. The outer
    functions are found by name on the call stack.
    """
    frame = sys._getframe()  # noqa: SLF001  as IPython itself finds the variables of the caller
    while frame is not None and frame.f_code.co_name not in _MAGIC_CALLS:
        frame = frame.f_back  # type: ignore[assignment]
    caller = None if frame is None else frame.f_back
    if caller is None:
        return []
    name, file, namespaces = caller.f_code.co_qualname, caller.f_code.co_filename, list[Mapping[str, object]]()
    while _LOCALS in name:
        name = name.rpartition(_LOCALS)[0]
        outer = caller.f_back
        while outer is not None and (outer.f_code.co_qualname, outer.f_code.co_filename) != (name, file):
            outer = outer.f_back
        if outer is not None:
            namespaces.append(outer.f_locals)
            caller = outer
    return namespaces
