"""A real Chromium in front of a real JupyterLab or Voilà: a test types, clicks and looks like a person.

`running_browser` starts Chromium; `open_notebook` and `open_app` open a page for the test. Pages are offline: Chromium
reaches only this machine. If a test fails with an open page, the error names a screenshot under build/screens/.

Playwright's event loop stays set in the thread that drives it. So the browser lives as long as one test module (the
fixture `browser`), and no test of such a module may call `asyncio.run`.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

import httpx
import nbformat
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from harness import PATIENCE, ROOT
from harness.chromium import find_chromium
from harness.jupyter import Server
from harness.kernel import clean_environ

__all__ = [
    "THEMES",
    "Notebook",
    "Theme",
    "choose_theme",
    "open_app",
    "open_in_notebook7",
    "open_notebook",
    "open_practice",
    "running_browser",
    "share_practice",
    "write_notebook",
]

SCREENS = ROOT / "build" / "screens"
"""The folder of the screenshots of failed tests."""

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

_CHROMIUM = ("--disable-gpu", "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
_KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_NOTEBOOK7 = "/static/notebook/"
"""The scripts of Notebook 7: version 7.6 has errors even with an empty page."""
_SPLASH = re.compile(r"NotFoundError: .*'removeChild'[^\n]*\n    at \S+/static/lab/jlab_core\S+\s*")
"""An error of JupyterLab: two of its parts may remove the splash screen at the same time."""
_NUMBERS = itertools.count(1)
_NEW_HOME = """%reset -f
import os
os.chdir({folder!r})
os.environ["BLOCKRUN_HOME"] = os.path.abspath(".blockrun")
%reload_ext blockrun_magic
%blockrun use practice"""
_shared: dict[Browser, tuple[ExitStack, Notebook]] = {}
"""The page that the tests of a browser share, and the stack that closes it."""


@contextmanager
def running_browser(home: Path) -> Iterator[Browser]:
    """Yield a headless Chromium; raises AssertionError if this machine has none."""
    chromium = find_chromium()

    assert chromium, "no Chromium: `make test` installs one"
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        environ = dict(clean_environ(home))
        browser = playwright.chromium.launch(executable_path=chromium, args=_CHROMIUM, env=environ)
        try:
            yield browser
        finally:
            with ExitStack() as stack:
                stack.callback(browser.close)
                if (shared := _shared.pop(browser, None)) is not None:
                    stack.enter_context(shared[0])


class Notebook:
    """An open notebook in JupyterLab; its last cell is empty, and its kernel is ready."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page = page
        self.file = file
        self.folder = file.parent
        """The notebook's own folder, with the working directory of its kernel and its BLOCKRUN_HOME."""
        self.cells: Locator = page.locator(".jp-Notebook .jp-CodeCell")

    def start_over(self) -> None:
        """Remove all cells and variables, and continue in a new folder without purchases."""
        self.folder = self.file.parent / f"{next(_NUMBERS):03}"
        self.folder.mkdir()
        self.cells.last.locator(".cm-content").click()
        for key in ("Escape", "Escape", "Control+a", "d", "d"):  # the first may close a list of completions
            self.page.keyboard.press(key)
        expect(self.cells).to_have_count(1)
        cell = self.run(_NEW_HOME.format(folder=str(self.folder)))
        expect(output_of(cell)).to_contain_text("practice")

    def run(self, code: str) -> Locator:
        """Type `code` below all other cells, run it to its end, and return the cell."""
        return self.finish(self.start(code))

    def start(self, code: str) -> Locator:
        """Type `code` below all other cells and run it; return the cell without waiting for its end."""
        place = self.cells.count() - 1
        self.type(code)
        self.page.keyboard.press("Shift+Enter")
        expect(self.cells).to_have_count(place + 2)
        return self.cells.nth(place)

    def finish(self, cell: Locator) -> Locator:
        """Wait until a cell has ended, so that its prompt shows a number, and return the cell."""
        expect(cell.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"))
        return cell

    def type(self, code: str) -> Locator:
        """Insert text into the empty last cell in one step, so that no brackets are completed; return the cell."""
        cell = self.cells.last
        cell.locator(".cm-content").click()
        self.page.keyboard.insert_text(code)
        return cell

    def value(self, expression: str) -> str:
        """Return the repr of an expression, evaluated in a new cell."""
        return output_of(self.run(f"print(repr({expression}))")).inner_text().strip()

    def run_all(self) -> None:
        """Choose Run All Cells from the menu; the cells may still run afterwards."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def stop(self) -> None:
        """Press Stop in the toolbar."""
        self.page.locator('.jp-NotebookPanel-toolbar [data-command="notebook:interrupt-kernel"]').click()

    def save(self) -> None:
        """Save the notebook, and wait until it is saved."""
        self.page.keyboard.press("Control+s")
        expect(self.page.locator(".jp-mod-current.jp-mod-dirty")).to_have_count(0)


def choose_theme(notebook: Notebook, theme: Theme) -> None:
    """Change the page's color scheme; JupyterLab follows it."""
    notebook.page.emulate_media(color_scheme=theme)
    light = "true" if theme == "light" else "false"
    expect(notebook.page.locator("body")).to_have_attribute("data-jp-theme-light", light)


def output_of(cell: Locator) -> Locator:
    """Return the output area of a cell."""
    return cell.locator(".jp-Cell-outputArea")


def write_notebook(folder: Path, cells: Sequence[str] = ()) -> Path:
    """Write a notebook of code cells into a new folder in `folder`, and return its path."""
    own = folder / f"{next(_NUMBERS):03}"
    own.mkdir()
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": _KERNELSPEC})
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, own / "notebook.ipynb")
    return own / "notebook.ipynb"


@contextmanager
def open_notebook(
    browser: Browser,
    lab: Server,
    file: Path | None = None,
    *,
    theme: Theme = "light",
    width: int = 1280,
    scale: float = 1.0,
) -> Iterator[Notebook]:
    """Yield an open notebook in JupyterLab (a new, empty one without `file`); its kernel ends with the page.

    `scale` is the device pixel ratio.
    """
    file = file or write_notebook(lab.folder, [""])
    with _open_file(browser, lab, file, "lab/tree/{}?reset", theme, width, scale) as page:
        expect(page.get_by_text("(ipykernel) | Idle")).to_be_visible()
        page.keyboard.press("Control+b")  # the file browser takes room
        expect(page.locator("#jp-left-stack")).to_be_hidden()
        yield Notebook(page, file)


@contextmanager
def open_in_notebook7(browser: Browser, lab: Server) -> Iterator[Notebook]:
    """Yield a new notebook that is open in Notebook 7, on the same server; its kernel ends with the page."""
    file = write_notebook(lab.folder, [""])
    with _open_file(browser, lab, file, "notebooks/{}", "light", 1280) as page:
        _wait_for_its_kernel(page, lab, file)
        yield Notebook(page, file)


def _wait_for_its_kernel(page: Page, lab: Server, file: Path) -> None:
    """Wait for the kernel: Notebook 7 looks idle before it has one and then ignores cells, so the server is asked."""
    name = file.relative_to(lab.folder).as_posix()
    for _ in range(PATIENCE * 5):
        kernels = [
            each["kernel"]
            for each in httpx.get(f"{lab.url}api/sessions", timeout=PATIENCE).json()
            if each["path"] == name
        ]
        if [("idle", True)] == [(kernel["execution_state"], kernel["connections"] > 0) for kernel in kernels]:
            break
        page.wait_for_timeout(200)
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_visible()


@contextmanager
def _open_file(
    browser: Browser, lab: Server, file: Path, address: str, theme: Theme, width: int, scale: float = 1.0
) -> Iterator[Page]:
    name = file.relative_to(lab.folder).as_posix()
    try:
        with _open_page(browser, lab.url + address.format(name), theme, width, scale) as page:
            yield page
    finally:
        for session in httpx.get(f"{lab.url}api/sessions", timeout=PATIENCE).json():
            if session["path"] == name:
                httpx.delete(f"{lab.url}api/sessions/{session['id']}", timeout=PATIENCE)


@contextmanager
def open_practice(
    browser: Browser, lab: Server, *, theme: Theme = "light", width: int = 1280, scale: float = 1.0
) -> Iterator[Notebook]:
    """Yield a new notebook that has loaded the extension and uses a practice gateway of its own."""
    with open_notebook(browser, lab, theme=theme, width=width, scale=scale) as notebook:
        cell = notebook.run("%load_ext blockrun_magic\n%blockrun use practice")
        expect(output_of(cell)).to_contain_text("practice")
        yield notebook


@contextmanager
def share_practice(browser: Browser, lab: Server) -> Iterator[Notebook]:
    """Yield a notebook like `open_practice`, but on the page and the kernel of the previous test.

    It has no cells and no variables, but a new folder and home. Another page would take seconds more to open. A page is
    not used again after a failed test.
    """
    if browser in _shared:
        stack, notebook = _shared[browser]
    else:
        stack = ExitStack()
        notebook = stack.enter_context(open_practice(browser, lab))
        _shared[browser] = stack, notebook
    try:
        notebook.start_over()
        yield notebook
    except BaseException:
        del _shared[browser]
        with suppress(AssertionError):  # the first error counts
            stack.__exit__(*sys.exc_info())
        raise


@contextmanager
def open_app(
    browser: Browser, voila: Server, file: Path, *, theme: Theme = "light", width: int = 1280
) -> Iterator[Page]:
    """Yield Voilà's page of a notebook."""
    name = file.relative_to(voila.folder).as_posix()
    with _open_page(browser, f"{voila.url}voila/render/{name}?theme={theme}", theme, width) as page:
        yield page


@contextmanager
def _open_page(browser: Browser, url: str, theme: Theme, width: int, scale: float = 1.0) -> Iterator[Page]:
    viewport: ViewportSize = {"width": width, "height": 900}
    page = browser.new_page(color_scheme=theme, viewport=viewport, device_scale_factor=scale)
    page.set_default_timeout(PATIENCE * 1000)
    try:
        page.goto(url)
        yield page
        stacks = [error.stack or "" for error in page.page_errors()]
        errors = [stack for stack in stacks if _NOTEBOOK7 not in stack and not _SPLASH.fullmatch(stack)]
        assert not errors, errors
    except BaseException as error:
        test = os.environ.get("PYTEST_CURRENT_TEST", "page").rpartition("::")[2]
        path = SCREENS / f"{re.sub(r'[^a-z0-9_]+', '-', test.partition(' ')[0].lower())}.png"
        page.screenshot(path=path)
        error.add_note(f"What the page showed: {path}")
        raise
    finally:
        page.close()
