"""User actions in JupyterLab and Voilà, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, expect

from harness.browser import (
    THEMES,
    Notebook,
    Theme,
    choose_theme,
    open_app,
    open_notebook,
    open_practice,
    output_of,
    share_practice,
    write_notebook,
)
from harness.contrast import LEGIBLE, least_contrast
from harness.jupyter import Server

PRACTICE = "%load_ext blockrun_magic\n%blockrun use practice"
QUICK = "--model cogview --size 512x512"
"""Flags of the cheapest and fastest images, at $0.01575 each."""
CARDS = (
    f"%%imagegen {QUICK} --as city\na city at sunset",
    "%%img2img --model gpt-image-1 --image city\nthe same at night",
    f"%%imagegen --each {QUICK}\na fox\na crane",
    "%blockrun",
    "%blockrun models",
    "%blockrun price --model flux,cogview",
    "%blockrun spend",
    "%blockrun history",
    "%blockrun info city",
    "%blockrun budget",
    "%%imagegen --model cogveiw\na city at sunset",
)
"""Cells for every kind of output; the last cell fails."""


def natural_width(picture: Locator) -> int:
    """Return the width of the decoded image in pixels; raise an error if the browser cannot decode it."""
    return int(picture.evaluate("async image => { await image.decode(); return image.naturalWidth }"))


@pytest.fixture(scope="module")
def every_card(browser: Browser, lab: Server) -> Path:
    """Return a saved notebook with every kind of output."""
    with open_practice(browser, lab) as notebook:
        for code in CARDS:
            notebook.run(code)
        notebook.save()
        return notebook.file


def test_a_cell_shows_its_picture_and_the_next_cell_has_it(browser: Browser, lab: Server) -> None:
    """The browser shows the image with its price, and the variable holds the image."""
    with share_practice(browser, lab) as notebook:
        output = output_of(notebook.run(f"%%imagegen {QUICK} --as city\na city at sunset"))

        assert 512 == natural_width(output.locator("img"))
        expect(output).to_contain_text("zai/cogview-4 · 512x512 · $0.01575 play money")
        assert "(512, 512)" == notebook.value("city.size")


def test_tab_offers_models_and_enter_takes_one(browser: Browser, lab: Server) -> None:
    """TAB after --model lists the models, typing filters them, and Enter inserts the selected one."""
    with share_practice(browser, lab) as notebook:
        cell = notebook.type("%imagegen --model ")
        offered = notebook.page.locator(".jp-Completer-match")
        notebook.page.keyboard.press("Tab")
        for model in ("nano-banana", "flux", "cogview"):
            expect(offered.get_by_text(model, exact=True)).to_be_attached()
        notebook.page.keyboard.type("cog")
        expect(offered.first).to_have_text("cogview")
        notebook.page.keyboard.press("Enter")

        expect(cell.locator(".cm-content")).to_have_text("%imagegen --model cogview")


def test_an_error_is_two_lines_and_ends_run_all(browser: Browser, lab: Server) -> None:
    """The error has two lines without a traceback, and the following cells do not run."""
    file = write_notebook(lab.folder, [PRACTICE, CARDS[-1], "reached = True", ""])
    with open_notebook(browser, lab, file) as notebook:
        notebook.run_all()
        error = output_of(notebook.finish(notebook.cells.nth(1))).inner_text().strip()

        happened, advice = error.splitlines()
        assert "'cogveiw'" in happened
        assert advice.startswith("→ Did you mean cogview")
        expect(notebook.cells.nth(2).locator(".jp-InputPrompt")).to_have_text("[ ]:")
        assert "False" == notebook.value("'reached' in globals()")


def test_stop_ends_a_waiting_cell_and_the_next_one_runs(browser: Browser, lab: Server) -> None:
    """Stop ends a cell that waits for a slow job; the output reports the money, and the next cell runs."""
    with share_practice(browser, lab) as notebook:
        cell = notebook.start(f"%%imagegen {QUICK} --as late\npractice:slow=600 a city at sunset")
        expect(output_of(cell)).to_contain_text("in progress")
        notebook.stop()
        notebook.finish(cell)

        expect(output_of(cell)).to_contain_text("$0.01575 play money")
        assert "False" == notebook.value("'late' in globals()")


def seen(notebook: Notebook) -> list[tuple[str, list[int]]]:
    """Return the text and the image widths of each output, and check that the text is legible."""
    outputs = [output_of(cell) for cell in notebook.cells.all()]
    for output in outputs:
        contrast, text = least_contrast(output)

        assert contrast >= LEGIBLE, text
    return [
        (output.inner_text(), [natural_width(picture) for picture in output.locator("img").all()]) for output in outputs
    ]


def test_every_card_reads_well_also_where_the_notebook_is_not_trusted(
    browser: Browser, lab: Server, every_card: Path
) -> None:
    """The notebook is legible, and its untrusted copy shows the same text and images."""
    copy = nbformat.read(every_card, as_version=4)
    copy.cells.insert(0, nbformat.v4.new_markdown_cell("A cell that was never signed here."))
    sent = write_notebook(lab.folder)
    nbformat.write(copy, sent)
    trusted = ".jp-OutputArea-output.jp-mod-trusted"
    made = {}
    with open_notebook(browser, lab, every_card) as notebook:
        expect(notebook.page.locator(trusted)).not_to_have_count(0)
        for theme in THEMES:
            choose_theme(notebook, theme)
            made[theme] = seen(notebook)
    with open_notebook(browser, lab, sent) as notebook:
        expect(notebook.page.locator(trusted)).to_have_count(0)
        for theme in THEMES:
            choose_theme(notebook, theme)

            assert made[theme] == seen(notebook)
    assert [512] == made["light"][1][1]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_voila_shows_a_picture_and_its_caption(browser: Browser, voila: Server, theme: Theme) -> None:
    """Voilà shows the image and its caption without the code."""
    file = write_notebook(voila.folder, [PRACTICE, f"%%imagegen {QUICK}\na city at sunset"])
    with open_app(browser, voila, file, theme=theme) as page:
        body = page.locator("body")

        assert 512 == natural_width(page.locator("img"))
        expect(body).to_contain_text("$0.01575 play money")
        expect(body).not_to_contain_text("imagegen")
        contrast, text = least_contrast(body)
        assert contrast >= LEGIBLE, text
