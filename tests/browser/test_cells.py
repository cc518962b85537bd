"""Cells in JupyterLab as one sees them: output widgets, the grid of a comparison, TAB's types."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from harness.browser import Theme, open_practice, output_of
from harness.contrast import LEGIBLE, least_contrast
from harness.jupyter import Server

SMALL = "--model cogview --size 512x512"


def test_an_output_widget_shows_the_image_and_no_waiting_line(browser: Browser, lab: Server) -> None:
    """The widget holds the paid image with its caption, once, and nothing else."""
    with open_practice(browser, lab) as notebook:
        notebook.run("import ipywidgets as widgets; out = widgets.Output()")
        cell = notebook.run(f"display(out)\nwith out:\n    %imagegen {SMALL} practice:slow=1 a boat")
        output = output_of(cell)

        expect(output.locator("img")).to_have_count(1)
        expect(output).to_contain_text("$0.01575 play money")
        expect(output).not_to_contain_text("in progress")
        expect(output).not_to_contain_text("starting")


def test_a_callback_of_interact_shows_its_image(browser: Browser, lab: Server) -> None:
    """`interact` captures its function's output, and shows the image of each call."""
    with open_practice(browser, lab) as notebook:
        code = f"import ipywidgets as widgets\ndef draw(color):\n    %imagegen {SMALL} --fill a {{color}} boat\n"
        output = output_of(notebook.run(f"{code}widgets.interact(draw, color=['red', 'blue']);"))

        expect(output.locator("img")).to_have_count(1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_comparison_is_a_grid_that_reads_in_both_themes(browser: Browser, lab: Server, theme: Theme) -> None:
    """Four separate images with labels and numbers, all of it legible."""
    with open_practice(browser, lab, theme=theme) as notebook:
        output = output_of(notebook.run("%imagegen --model cogview,flux --size square,16:9 a red fox"))

        expect(output.locator("img")).to_have_count(4)
        expect(output.locator("th")).to_have_count(5)
        assert LEGIBLE <= least_contrast(output)[0]


def test_tab_shows_types(browser: Browser, lab: Server) -> None:
    """Beside each entry is what it is, and the common flags come first; after a dash JupyterLab sorts by itself."""
    with open_practice(browser, lab) as notebook:
        notebook.type("%imagegen ")
        notebook.page.keyboard.press("Tab")
        entries = notebook.page.locator(".jp-Completer-item")

        expect(entries.first).to_contain_text("--model")
        expect(entries.first).to_contain_text("flag")
        expect(notebook.page.locator(".jp-Completer")).not_to_contain_text("unknown")
