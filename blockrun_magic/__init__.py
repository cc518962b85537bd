"""Pictures in notebook cells, each paid for by itself in USDC over x402.

%load_ext blockrun_magic
%blockrun use practice

%%imagegen --model flux --as city
a futuristic city at sunset, seen from the harbour
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blockrun_magic.api import aedit, agenerate, edit, generate, payments
    from blockrun_magic.errors import BlockrunError, Money
    from blockrun_magic.notebook.extension import paint_mask, panel
    from blockrun_magic.studio import ImageResult, ImageResults, Options, Studio
    from blockrun_magic.wiring import open_studio

    __version__: str

__all__ = [
    "BlockrunError",
    "ImageResult",
    "ImageResults",
    "Money",
    "Options",
    "Studio",
    "__version__",
    "aedit",
    "agenerate",
    "edit",
    "generate",
    "load_ipython_extension",
    "open_studio",
    "paint_mask",
    "panel",
    "payments",
    "unload_ipython_extension",
]

_PUBLIC = {
    "BlockrunError": "blockrun_magic.errors",
    "ImageResult": "blockrun_magic.studio",
    "ImageResults": "blockrun_magic.studio",
    "Money": "blockrun_magic.errors",
    "Options": "blockrun_magic.studio",
    "Studio": "blockrun_magic.studio",
    "aedit": "blockrun_magic.api",
    "agenerate": "blockrun_magic.api",
    "edit": "blockrun_magic.api",
    "generate": "blockrun_magic.api",
    "open_studio": "blockrun_magic.wiring",
    "paint_mask": "blockrun_magic.notebook.extension",
    "panel": "blockrun_magic.notebook.extension",
    "payments": "blockrun_magic.api",
}


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; what they need is imported when they first need it."""
    from blockrun_magic.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take back everything that loading registered, and stop what runs in the background."""
    from blockrun_magic.notebook.extension import unload

    unload(shell)


def __getattr__(name: str) -> Any:
    """Return a public name, imported now: importing the package itself costs nothing."""
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("blockrun-magic")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
