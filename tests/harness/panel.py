"""The panel in an open notebook in a browser."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from harness.browser import Notebook, output_of

__all__ = ["form_of", "in_view", "open_panel"]


def open_panel(notebook: Notebook) -> Locator:
    """Open the panel in a new cell and return it when price, balance and stage are there."""
    panel = output_of(notebook.run("%blockrun panel")).locator(".brm-panel")
    expect(panel.get_by_role("button", name=re.compile(r"Generate · \$"))).to_be_visible()
    expect(panel.locator(".brm-wallet")).to_contain_text(re.compile(r"\$\d"))
    expect(panel.locator(".brm-stage .brm-empty, .brm-stage img").first).to_be_visible()
    return panel


def form_of(panel: Locator) -> Locator:
    """Return the form on the open tab."""
    return panel.locator(".brm-left .brm-form:visible")


def in_view(part: Locator) -> bool:
    """Return whether an element is completely inside the window, without scrolling."""
    return bool(
        part.evaluate(
            "it => { const box = it.getBoundingClientRect();"
            " return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth; }"
        )
    )
