"""Sphinx's settings for the documentation: `make docs`, which needs no network.

Sphinx with MyST, because the pages are Markdown that reads well on its own, the notebooks are shown with the outputs
that they are committed with, and both are maintained; Material for MkDocs has ended its support in November 2026.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TUTORIALS = HERE / "tutorials"
PROJECT = HERE / "project"
PAGES = ("CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "CHANGELOG.md")
"""Pages at the top of the repository, where people look for them."""

project = "blockrun-magic"
author = "The blockrun-magic authors"
copyright = author  # noqa: A001  Sphinx calls it so
version = release = version_of("blockrun-magic")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
suppress_warnings = [
    "mystnb.unknown_mime_type",  # live widgets: their stills stand beside them
    "misc.highlighting_failure",  # cells of prompts are no Python
]

html_theme = "furo"
html_title = "blockrun-magic"
html_static_path: list[str] = []
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_prompt_text = "$ "


def bring_pages(_app: Any) -> None:
    """Copy the notebooks and `PAGES` to where Sphinx looks; what they link to is one folder up from there."""
    for folder in (TUTORIALS, PROJECT):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for path in sorted((ROOT / "notebooks").glob("0*.ipynb")):
        (TUTORIALS / path.name).write_text(path.read_text("utf-8").replace("../docs/images/", "../images/"), "utf-8")
    for name in PAGES:
        (PROJECT / name).write_text((ROOT / name).read_text("utf-8").replace("](docs/", "](../"), "utf-8")


def link_copies(_app: Any, _page: str, source: list[str]) -> None:
    """Let a page that links to the top of the repository link to the copy."""
    for name in PAGES:
        source[0] = source[0].replace(f"](../{name})", f"](project/{name})")
    source[0] = source[0].replace("](../notebooks/", "](tutorials/")


def setup(app: Any) -> None:
    """Let Sphinx call us before it looks for pages, and when it has read one."""
    app.connect("builder-inited", bring_pages)
    app.connect("source-read", link_copies)
