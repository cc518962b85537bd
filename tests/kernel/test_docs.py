"""The documentation: its code runs, and its links are valid."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness import ROOT
from harness.kernel import Kernel, clean_environ, running_kernel

DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
SCRIPTS = {"python.md", "local-endpoint.md"}
"""Pages with Python for scripts; other tests run it."""
PAINTED = "from PIL import Image\nmask.load_mask(Image.new('L', city.size, 255))"
"""Code that replaces mouse strokes."""
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def cells_of(page: Path) -> list[str]:
    """Return the Python code blocks of a page, in order."""
    return _CODE.findall(page.read_text("utf-8"))


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """Return a kernel with its own practice gateway."""
    with PracticeServer() as gateway, running_kernel(tmp_path, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as running:
        yield running


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to an existing file."""
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    broken = [link for link in links if not (page.parent / link).exists()]

    assert [] == broken


def test_readme_and_docs_keep_to_their_form() -> None:
    """The README has at most 125 lines; no line of prose is longer than 100 characters."""
    prose = {page.name: _FENCE.sub("", page.read_text("utf-8")).splitlines() for page in PAGES}
    long = [
        (name, line)
        for name, lines in prose.items()
        for line in lines
        if len(line) > 100 and not line.startswith(("|", "!["))
    ]

    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 125
    assert [] == long


def test_the_scripts_of_the_python_page_run(tmp_path: Path) -> None:
    """The code blocks of docs/python.md run as one script, in practice mode, without a wallet."""
    code = "\n".join(_CODE.findall((ROOT / "docs" / "python.md").read_text("utf-8")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=clean_environ(tmp_path),
        check=False,
    )

    assert "" == done.stderr
    assert "['a red kite', 'a blue kite', 'a green kite']" in done.stdout
    assert (tmp_path / "city.png").exists()


@pytest.mark.parametrize("page", [page for page in PAGES if cells_of(page)], ids=lambda page: page.name)
def test_the_cells_of_a_page_run(kernel: Kernel, page: Path) -> None:
    """The code blocks of a page run in order in a notebook; other tests run the scripts."""
    cells = []
    for code in cells_of(page) if page.name not in SCRIPTS else []:
        cells.append(kernel.run(code))
        if "paint_mask(" in code:
            cells.append(kernel.run(PAINTED))

    assert [] == [cell.error for cell in cells if cell.status != "ok"]


class _Outside(HTMLParser):
    """Collects the URLs on other hosts that a page loads when it opens."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record external URLs of scripts, styles, images and frames."""
        for name, value in attrs:
            loads = name == "src" or (name == "href" and tag == "link")
            if loads and value and re.match(r"(?:https?:)?//", value):
                self.found.append(f"{tag} {value}")


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Sphinx reports no warning, notebooks include their images, and the pages load nothing from other hosts."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html", "-d", tmp_path / "trees"]
    environ = clean_environ(tmp_path, http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    done = subprocess.run([*command, DOCS, tmp_path / "site"], capture_output=True, text=True, env=environ, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    site = tmp_path / "site"
    pages = {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}
    assert {f"{page.stem}.html" for page in DOCS.glob("*.md")} <= set(pages)
    for path in (ROOT / "notebooks").glob("0*.ipynb"):
        assert "../_images/" in pages[f"tutorials/{path.stem}.html"]
    for name, text in pages.items():
        parser = _Outside()
        parser.feed(text)
        assert [] == parser.found, name
