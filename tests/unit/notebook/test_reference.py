"""docs/magics.md says what the code does: it is the generator's own words."""

from __future__ import annotations

import runpy

from harness import ROOT

DOCS = ROOT / "docs"


def test_the_magics_page_is_up_to_date() -> None:
    """The committed page is what the tables give today."""
    page = runpy.run_path(str(DOCS / "generate_magics.py"))["page"]()

    assert page == (DOCS / "magics.md").read_text("utf-8")
