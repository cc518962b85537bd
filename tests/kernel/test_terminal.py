"""The magics in terminal IPython: text and file paths only."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.kernel import clean_environ
from harness.terminal import PATIENCE, Terminal

QUICK = "--model cogview --size 512x512"
PROMPT = "IN-{}-READY "
_CONTROL = re.compile(r"[^\x20-\x7e\n\u00a0-\uffff]")


def on_screen(text: str) -> list[str]:
    """Return the lines that remain on the screen, without overwritten text."""
    return [shown for line in text.split("\n") if (shown := line.rpartition("\r\x1b[K")[2])]


@pytest.fixture(scope="module")
def terminal_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home and working folder of the module's IPython."""
    return tmp_path_factory.mktemp("terminal")


@pytest.fixture(scope="module")
def terminal(terminal_home: Path) -> Iterator[Terminal]:
    """Return a terminal IPython that uses the practice gateway."""
    running = Terminal(terminal_home)
    running.run("%load_ext blockrun_magic")
    running.run("%blockrun use practice")
    yield running
    running.close()


def test_a_picture_is_told_in_words_with_the_path_of_its_file(terminal: Terminal) -> None:
    """The output is text without escape codes: a line with model, size, price and duration, and the image's path."""
    text = terminal.run(f"%imagegen {QUICK} a red fox, quickly")
    first, where = on_screen(text)[:2]

    assert re.fullmatch(r"zai/cogview-4 · 512x512 · \$0\.01575 play money · \d+\.\d s", first)
    assert Path(where[where.index("/") :]).read_bytes().startswith(b"\x89PNG")
    assert "<div" not in text
    assert None is _CONTROL.search("\n".join(on_screen(text)))


def test_save_says_the_path_that_was_asked_for(terminal: Terminal, terminal_home: Path) -> None:
    """The output names the path of --save and not that of the store."""
    text = terminal.run(f"%imagegen {QUICK} a red fox to keep --save foxes/red.png")

    assert "foxes/red.png" in text
    assert ".blockrun" not in text
    assert (terminal_home / "foxes" / "red.png").exists()


def test_names_are_bound_and_shown_as_words(terminal: Terminal) -> None:
    """`img` and an assigned result are bound; a result's repr has one line."""
    terminal.run(f"x = %imagegen {QUICK} a red fox by name")

    assert "(512, 512)" in terminal.run("img.size")
    assert "<ImageResult zai/cogview-4 512x512 $0.01575>" in terminal.run("x")
    assert "'a red fox by name'" in terminal.run("x.prompt")


def test_a_line_that_changes_is_wiped_away_when_the_picture_comes(terminal: Terminal) -> None:
    """The waiting line is overwritten, and only the caption remains."""
    text = terminal.run(f"%imagegen {QUICK} practice:slow=1 a slow fox")
    stays = on_screen(text)

    assert "\r\x1b[Kzai/cogview-4 · $0.01575 play money · " in text
    assert stays[0].startswith("zai/cogview-4 · 512x512 · $0.01575 play money · ")
    assert 1 == sum("zai/cogview-4 · 512x512 · " in line for line in stays)


def test_ctrl_c_stops_and_says_what_became_of_the_money(terminal: Terminal) -> None:
    """Ctrl-C ends the wait and reports the money; the same line then collects the image."""
    line = f"%imagegen {QUICK} practice:slow=5 a stopped fox"
    terminal.start(line, "in progress")
    terminal.interrupt()
    text = terminal.until_prompt()
    again = terminal.run(line)

    assert "$0.01575 play money" in text
    assert "Traceback" not in text
    assert on_screen(again)[0].startswith("zai/cogview-4 · 512x512 · ")
    assert "$0.01575 play money" in on_screen(again)[0]


def test_tables_are_text(terminal: Terminal) -> None:
    """Commands of %blockrun print aligned text."""
    bill = terminal.run("%blockrun spend")
    models = terminal.run("%blockrun models flux")

    assert re.search(r"^total +\d+ +\$\d", bill, re.MULTILINE)
    assert "black-forest/flux-1.1-pro" in models
    assert None is _CONTROL.search(bill + models)


def test_an_error_is_two_lines(terminal: Terminal) -> None:
    """A mistake on the line gives an error in two lines, without a traceback."""
    lines = [line for line in terminal.run("%imagegen --modle flux a fox").splitlines() if line.strip()]

    assert 2 == len(lines), lines
    assert "--model" in lines[1]


def test_without_a_wallet_the_terminal_says_so_too(tmp_path: Path) -> None:
    """In a new shell without a wallet, a cell suggests practice, and the shell exits with status 0."""
    fresh = Terminal(tmp_path)
    fresh.run("%load_ext blockrun_magic")
    text = fresh.run("%imagegen a fox")

    assert "%blockrun use practice" in text
    assert 0 == fresh.close()


def test_a_script_without_a_screen_prints_plain_lines(tmp_path: Path) -> None:
    """With its output in a file, IPython prints only the caption, without escape codes."""
    script = tmp_path / "images.ipy"
    script.write_text(
        f"%load_ext blockrun_magic\n%blockrun use practice\n%imagegen {QUICK} practice:slow=1 a captured fox\n"
    )
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner", str(script)]
    done = subprocess.run(
        command, env=clean_environ(tmp_path), cwd=tmp_path, capture_output=True, check=True, timeout=PATIENCE
    )
    text = done.stdout.decode()

    assert 1 == text.count("zai/cogview-4 · ")
    assert "zai/cogview-4 · 512x512 · $0.01575 play money" in text
    assert None is _CONTROL.search(text)
    assert b"" == done.stderr
