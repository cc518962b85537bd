"""Cells in JupyterLab: output widgets, the grid of a comparison, types of completions."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from harness.browser import THEMES, choose_theme, output_of, share_practice
from harness.contrast import LEGIBLE, least_contrast
from harness.jupyter import Server

SMALL = "--model cogview --size 512x512"


def test_an_output_widget_shows_the_image_and_no_waiting_line(browser: Browser, lab: Server) -> None:
    """Outputs of `with`, `interact`, `interact_manual` and a button show one image, its price, and no waiting line."""
    slow = f"{SMALL} practice:slow=1"
    with share_practice(browser, lab) as notebook:
        notebook.run("import ipywidgets as widgets; out, clicked = widgets.Output(), widgets.Output()")
        within = output_of(notebook.run(f"display(out)\nwith out:\n    %imagegen {slow} a boat"))
        draw = f"def draw(color):\n    %imagegen {slow} --fill a {{color}} boat\n"
        interact = output_of(notebook.run(f"{draw}widgets.interact(draw, color=['red', 'blue']);"))
        manual = output_of(notebook.run("widgets.interact_manual(draw, color=['green', 'blue']);"))
        go = f"@clicked.capture()\ndef go(_):\n    %imagegen {slow} a clicked boat\n"
        button = output_of(
            notebook.run(f"{go}press = widgets.Button(description='Go'); press.on_click(go); display(press, clicked)")
        )
        manual.get_by_role("button", name="Run Interact").click()
        button.get_by_role("button", name="Go").click()

        for output in (within, interact, manual, button):
            expect(output.locator("img")).to_have_count(1)
            expect(output).to_contain_text("$0.01575 play money")
            expect(output).not_to_contain_text("in progress")
            expect(output).not_to_contain_text("starting")


def test_a_comparison_is_a_grid_that_reads_in_both_themes(browser: Browser, lab: Server) -> None:
    """The grid has four separate images with labels and is legible in both themes."""
    with share_practice(browser, lab) as notebook:
        output = output_of(notebook.run("%imagegen --model cogview,flux --size square,16:9 a red fox"))

        expect(output.locator("img")).to_have_count(4)
        expect(output.locator("th")).to_have_count(5)
        for theme in reversed(THEMES):
            choose_theme(notebook, theme)

            assert LEGIBLE <= least_contrast(output)[0]


def test_tab_shows_types(browser: Browser, lab: Server) -> None:
    """Each completion shows its type, and common flags come first."""
    with share_practice(browser, lab) as notebook:
        notebook.type("%imagegen ")
        notebook.page.keyboard.press("Tab")
        entries = notebook.page.locator(".jp-Completer-item")

        expect(entries.first).to_contain_text("--model")
        expect(entries.first).to_contain_text("flag")
        expect(notebook.page.locator(".jp-Completer")).not_to_contain_text("unknown")
