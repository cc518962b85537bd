"""The magics: a cell becomes a request, the studio answers it, and the answer is shown and bound."""

from __future__ import annotations

import atexit
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from IPython.core.magic import (
    Magics,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)

from blockrun_magic.notebook.completion import Completion
from blockrun_magic.notebook.context import Context, outer_variables
from blockrun_magic.notebook.display.output import render_as
from blockrun_magic.notebook.display.results import ResultDisplay
from blockrun_magic.notebook.session import Session
from blockrun_magic.notebook.settings import Settings
from blockrun_magic.notebook.transforms import add_transforms, remove_transforms
from blockrun_magic.unexpected import guarded
from blockrun_magic.wiring import set_notebook

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from openai import OpenAI

    from blockrun_magic.notebook.background import BackgroundJob
    from blockrun_magic.notebook.mask.widget import MaskPad
    from blockrun_magic.notebook.panel.panel import Panel
    from blockrun_magic.studio import ImageResult, ImageResults

__all__ = ["BlockrunMagics", "load", "openai_client", "paint_mask", "panel", "unload"]


@magics_class
class BlockrunMagics(Settings, Magics):
    """`%%imagegen`, `%%img2img` and `%blockrun`; `%config BlockrunMagics` shows the settings."""

    shell: InteractiveShell

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.session = Session(self)
        self.showing = ResultDisplay(shell, self)
        self.completion = Completion(shell)
        self.context = Context(self.session, shell, self.showing)

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def imagegen(self, line: str, cell: str | None = None, local_ns: Mapping[str, object] | None = None) -> Any:
        """Make an image from a prompt: `%%imagegen --model flux` with the prompt below it."""
        return self._run_cell("imagegen", line, cell, local_ns)

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def img2img(self, line: str, cell: str | None = None, local_ns: Mapping[str, object] | None = None) -> Any:
        """Edit an image: `%%img2img --image cat --mask sky` with the prompt below it."""
        return self._run_cell("img2img", line, cell, local_ns)

    @no_var_expand
    @needs_local_scope
    @line_magic
    def blockrun(self, line: str, local_ns: Mapping[str, object] | None = None) -> None:
        """Show or change the gateway, the wallet and the limits; `%blockrun help` lists the commands."""
        with self._running(local_ns):
            guarded(lambda: _run_command(self.context, line))

    def _run_cell(
        self, magic: str, line: str, cell: str | None, local_ns: Mapping[str, object] | None
    ) -> ImageResult | ImageResults | BackgroundJob | None:
        from blockrun_magic.notebook.cells.run import run_cell

        with self._running(local_ns):
            return guarded(lambda: run_cell(self.context, magic, line, cell))

    @contextmanager
    def _running(self, local_ns: Mapping[str, object] | None) -> Iterator[None]:
        """Let a line see the variables of its function; if it is stopped, show one sentence instead of a traceback."""
        around = outer_variables()
        variables = ChainMap(dict(local_ns or {}), *map(dict, around)) if around else local_ns or {}
        outer, self.context.local_ns = self.context.local_ns, variables
        try:
            yield
        except KeyboardInterrupt as stop:
            if not hasattr(stop, "_render_traceback_"):
                render_as(stop, "Stopped. `%blockrun jobs` shows open payments.")
            raise
        finally:
            self.context.local_ns = outer


def _run_command(context: Context, line: str) -> None:
    """Run the command on `line`; the overview, which comes first in many notebooks, does not import the others."""
    if not line.strip():
        from blockrun_magic.notebook.commands.status import show_overview

        show_overview(context)
        return
    from blockrun_magic.notebook.commands.registry import run_command

    run_command(context, line)


def _help_of(magic: str) -> Callable[[], str]:
    def getdoc() -> str:
        from blockrun_magic.notebook.cells.flags import help_text

        return help_text(magic)

    return getdoc


# IPython calls an object's `getdoc` before it reads the docstring: only `%%imagegen?` renders the flag table.
for _name in ("imagegen", "img2img"):
    vars(getattr(BlockrunMagics, _name))["getdoc"] = _help_of(_name)


def load(shell: InteractiveShell) -> BlockrunMagics:
    """Register the magics with `shell` and return them; loading twice changes nothing."""
    loaded = _loaded(shell)
    if loaded is not None:
        return loaded
    magics = BlockrunMagics(shell)
    shell.register_magics(magics)
    add_transforms(shell)
    atexit.register(magics.session.close)
    set_notebook(magics.session)
    return magics


def unload(shell: InteractiveShell) -> None:
    """Unregister the magics and end their session."""
    magics = _loaded(shell)
    if magics is None:
        return
    for table in shell.magics_manager.magics.values():
        for name in ("imagegen", "img2img", "blockrun"):
            table.pop(name, None)
    shell.magics_manager.registry.pop(type(magics).__name__, None)
    remove_transforms(shell)
    magics.completion.close()
    magics.showing.close()
    if magics.context.panel is not None:  # when the kernel exits, no front end is left
        magics.context.panel.close()
    set_notebook(None)
    if magics.context.endpoint is not None:
        magics.context.endpoint.close()
    magics.session.close()
    atexit.unregister(magics.session.close)


def _loaded(shell: InteractiveShell) -> BlockrunMagics | None:
    magics = shell.magics_manager.registry.get(BlockrunMagics.__name__)
    return magics if isinstance(magics, BlockrunMagics) else None


def panel() -> Panel:
    """Return this notebook's panel, which shows itself as the value of a cell.

    All cells share one panel: shown twice, it is the same panel. Loads the extension if necessary. Raises BlockrunError
    outside of a notebook.
    """
    from IPython.core.getipython import get_ipython

    from blockrun_magic.notebook.panel.open import no_notebook, open_panel

    shell = get_ipython()
    if shell is None:
        raise no_notebook()
    return open_panel(load(shell).context)


def openai_client() -> OpenAI:
    """Return an `openai.OpenAI` for the local endpoint of this process, which is started if it is not running.

    In a notebook, it buys at the gateway of the cells; elsewhere, at the remembered one, else at Base. Raises
    MissingDependency where the package `openai` is not installed, and BlockrunError where no port can be used.
    """
    from IPython.core.getipython import get_ipython

    from blockrun_magic.notebook.commands.serve import client_of

    shell = get_ipython()
    return client_of(None if shell is None else load(shell).context)


def paint_mask(source: object) -> MaskPad:
    """Return a pad to paint a mask on: it shows itself as the value of a cell, and `--mask` takes it.

    `source` is an image in memory or on disk: anything that `--image` takes except a URL. Raises SourceError,
    and BlockrunError outside of a notebook.
    """
    from blockrun_magic.notebook.mask.paint import open_pad

    return open_pad(source)
