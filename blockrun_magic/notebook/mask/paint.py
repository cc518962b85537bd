"""Masks painted by hand in a notebook: `paint_mask`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError

if TYPE_CHECKING:
    from blockrun_magic.notebook.mask.widget import MaskPad

__all__ = ["open_pad"]


def open_pad(source: object) -> MaskPad:
    """Return a pad to paint a mask on: it shows itself as the value of a cell, and `--mask` takes it.

    `source` is an image in memory or on disk: anything that `--image` takes except a URL.
    Raises SourceError, and BlockrunError outside of a notebook.
    """
    from IPython.core.getipython import get_ipython

    from blockrun_magic.images.source import open_source
    from blockrun_magic.notebook.display.output import is_terminal
    from blockrun_magic.notebook.mask.widget import MaskPad

    shell = get_ipython()
    if shell is None or is_terminal(shell):
        raise BlockrunError(
            "Painting a mask needs a notebook with widgets.",
            "Open JupyterLab, Notebook, VS Code or Colab; here, use an image as the mask: white areas may change.",
        )
    return MaskPad(open_source(source))
