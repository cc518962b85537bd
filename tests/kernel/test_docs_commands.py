"""Every command in the README and docs runs in a real kernel or a real shell."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from blockrun_magic.notebook.commands.arguments import walk
from blockrun_magic.notebook.commands.registry import COMMANDS
from blockrun_magic.practice.server.server import PracticeServer
from harness import ROOT
from harness.kernel import Kernel, clean_environ, made, running_kernel

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
READY = "%load_ext blockrun_magic\n%blockrun use practice"
PICTURE = "%%imagegen --model cogview --size 512x512\na fox in the snow"

REFUSED = {
    f"%blockrun {path}": "UsageError"  # the page omits the required argument
    for path, command in walk(tuple(COMMANDS.values()))
    if any(argument.required for argument in command.arguments)
} | {
    "%blockrun store prune": "UsageError",
    "%blockrun wallet import key": "WalletError",  # no user types the key here
    "%blockrun wallet unlock": "WalletMissing",
    "%blockrun join": "UsageError",  # no class exists here, and no user types a code
    "%blockrun join URL": "UsageError",
    "%blockrun join https://class.example": "UsageError",
    "%blockrun use classroom": "WalletMissing",
    "%blockrun use classroom --remember": "WalletMissing",
}
"""Commands that must fail here, with their errors."""
_TYPED = ("%blockrun", "%config ", "make ", "pip ", "python ", "voila ", ".venv/")
_PROMPT = re.compile(r"make (it|the|a|an|him|her|them)\b")
"""A prompt that looks like a call of make."""
_FENCE = re.compile(r"^```(text|console)?\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_SYNTAX = re.compile(r"\[[A-Za-z-]+ ?[^\]]*\]$|\[\w+\||\\\||\b(FILE|ID|IMAGE|NOTEBOOK|NAME)\b")
"""General syntax that cannot be typed as it is."""


def lines_of(page: Path) -> list[str]:
    """Return the commands on a page, in order and without repetition."""
    text = page.read_text("utf-8")
    found: list[tuple[int, str]] = []
    for block in _FENCE.finditer(text):
        lines = [line.removeprefix("$ ") for line in block[2].splitlines()]
        found += [(block.start(), re.split(r"\s{2,}", line)[0]) for line in lines]
    prose = re.sub(r"^```.*?^```", lambda match: " " * len(match[0]), text, flags=re.DOTALL | re.MULTILINE)
    found += [(span.start(), span[1]) for span in _SPAN.finditer(prose)]
    typed = [
        line
        for _, line in sorted(found, key=lambda entry: entry[0])
        if line.startswith(_TYPED) and not _PROMPT.match(line)
    ]
    return [line for line in dict.fromkeys(typed) if not _SYNTAX.search(line)]


WORDS = {page: [line for line in lines_of(page) if line.startswith("%")] for page in PAGES}
SHELL = sorted({line for page in PAGES for line in lines_of(page) if not line.startswith("%")})


@pytest.fixture
def kernel(gateway: PracticeServer, tmp_path: Path) -> Iterator[Kernel]:
    """Return a kernel with an image and the notebooks that the pages mention."""
    cells = [nbformat.v4.new_code_cell(code) for code in (READY, PICTURE)]
    for name in ("lesson.ipynb", "winter.ipynb"):
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / name)
    environ = {"BLOCKRUN_PRACTICE_URL": gateway.url, "JPY_SESSION_NAME": str(tmp_path / "winter.ipynb")}
    with running_kernel(tmp_path, environ) as running:
        made(running, READY)
        made(running, PICTURE)
        yield running


@pytest.mark.parametrize("page", [page for page in PAGES if WORDS[page]], ids=lambda page: page.name)
def test_the_words_on_a_page_do_what_they_say(kernel: Kernel, page: Path) -> None:
    """The commands of a page run in order, and only the expected ones fail."""
    kernel._client.allow_stdin = False
    errors = {}
    for line in WORDS[page]:
        kernel.run("%blockrun use practice")
        cell = kernel.run(line)
        if cell.error_name != REFUSED.get(line, ""):
            errors[line] = cell.error

    assert {} == errors


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("make ")])
def test_make_knows_its_targets(line: str) -> None:
    """`make --dry-run` accepts every target that the pages mention."""
    done = subprocess.run([*shlex.split(line), "--dry-run"], capture_output=True, text=True, cwd=ROOT, check=False)

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("line", [line for line in SHELL if re.match(r"pip install .*\[", line)])
def test_extras_that_are_named_exist(line: str) -> None:
    """Every extra in a `pip install` command exists."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]

    assert line.partition("[")[2].partition("]")[0] in extras


@pytest.mark.parametrize("line", [line for line in SHELL if "blockrun_magic price" in line])
def test_a_price_is_told_in_a_shell(kernel: Kernel, gateway: PracticeServer, tmp_path: Path, line: str) -> None:
    """The command shows the price of the notebook; without a notebook, it shows the usage."""
    (tmp_path / "notebook.ipynb").write_bytes((tmp_path / "winter.ipynb").read_bytes())
    command, environ = (
        [sys.executable, *shlex.split(line)[1:]],
        clean_environ(tmp_path, BLOCKRUN_PRACTICE_URL=gateway.url),
    )
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environ, check=False)

    assert ("Run All" if line.endswith(".ipynb") else "usage:") in done.stdout + done.stderr


def test_a_measurement_runs(tmp_path: Path) -> None:
    """The fastest benchmark runs: requests per image, compared with other clients."""
    command = [sys.executable, ROOT / "benchmarks", "requests"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environ(tmp_path), check=False)

    assert 0 == done.returncode, done.stderr
    assert "| requests an image" in done.stdout
