"""`paint_mask`: a mask painted by hand, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError

if TYPE_CHECKING:
    from blockrun_magic.notebook.mask.widget import MaskPad

__all__ = ["open_pad"]


def open_pad(source: object) -> MaskPad:
    """Return a pad to paint a mask on, which shows itself as the value of a cell and is what `--mask` takes.

    `source` is an image in memory or on disk: whatever `--image` takes except a URL.
    Raises SourceError, and BlockrunError where there is no notebook to paint in.
    """
    from IPython.core.getipython import get_ipython

    from blockrun_magic.images.source import open_source
    from blockrun_magic.notebook.display.output import is_terminal
    from blockrun_magic.notebook.mask.widget import MaskPad

    shell = get_ipython()
    if shell is None or is_terminal(shell):
        raise BlockrunError(
            "Painting a mask needs a notebook with widgets.",
            "Open JupyterLab, Notebook, VS Code or Colab; here, give --mask an image in which white may change.",
        )
    return MaskPad(open_source(source))
