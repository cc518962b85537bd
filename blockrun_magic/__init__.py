"""Images in notebook cells, paid for one by one in USDC over x402.

%load_ext blockrun_magic
%blockrun use practice

%%imagegen --model flux --as city
a futuristic city at sunset, seen from the harbor

The public names are listed in `__init__.pyi`; each is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lazy_loader

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_import_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__", "load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; their modules are imported at first use."""
    from blockrun_magic.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove everything that loading registered, and stop the work in the background."""
    from blockrun_magic.notebook.extension import unload

    unload(shell)


def __getattr__(name: str) -> Any:
    """Return the public name `name`; raises AttributeError for any other."""
    if name == "__version__":
        from importlib import metadata

        return metadata.version("blockrun-magic")
    return _import_name(name)
