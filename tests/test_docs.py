"""The documentation's code runs, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from kernels import clean_environ

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of ours is to one that exists."""
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    broken = [link for link in links if not (page.parent / link).exists()]

    assert [] == broken


def test_the_scripts_of_the_python_page_run(tmp_path: Path) -> None:
    """Its blocks run one after the other, in practice mode, without a wallet."""
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
