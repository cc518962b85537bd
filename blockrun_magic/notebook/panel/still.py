"""What a saved notebook shows where the panel was: a picture of its last state, which needs no kernel.

JupyterLab has no second choice for a widget whose model is gone: it says "model not found". So the panel is two
outputs: this still, and the live panel below it; a style in the still shows whichever of the two has something
to show. Where styles are stripped (an untrusted notebook), the widget is not rendered, and the still stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from html import escape

from blockrun_magic.notebook.display.cards import to_html

__all__ = ["leaves_a_still", "still_html", "still_style"]

_STILL = "brm-still"


def still_style(still: str, live: str) -> str:
    """Return the style that shows one of two outputs: the class `still`, or the class `live` below it."""
    place = ".jp-OutputArea-child"
    return (
        f"<style>{place}:has(.{still}):has(+ {place} .{live}),"
        f" {place}:has(.{still}) + {place}:not(:has(.{live})) {{ display: none }}</style>"
    )


def leaves_a_still(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the notebook is one that a still helps: not in Voilà, VS Code or Colab.

    Voilà saves nothing; VS Code and Colab show every output in a frame of its own, where the style cannot see
    whether the live panel is there.
    """
    names = ("VOILA_", "VSCODE_")
    return not any(name.startswith(names) for name in environ) and "google.colab" not in sys.modules


def still_html(picture: str | None, alt: str, spend: str) -> str:
    """Return the still: `picture` (a data URI, or None) and a few words, to be read in any notebook viewer."""
    image = f'<img src="{picture}" alt="{escape(alt)}" style="max-width:100%;border-radius:4px"><br>' if picture else ""
    return (
        f'<div class="{_STILL}">{still_style(_STILL, "brm-panel")}'
        '<div style="border:1px solid currentColor;border-radius:6px;padding:12px;max-width:700px">'
        f"<div><b>blockrun panel</b>, as it was when this notebook was saved. Run the cell to open it.</div>"
        f"{image}<div>{to_html(spend)}</div></div></div>"
    )
