"""docs/magics.md and the commands in messages match the code."""

from __future__ import annotations

import re
import runpy

from blockrun_magic.notebook.commands.registry import COMMANDS
from harness import ROOT

DOCS = ROOT / "docs"


def test_the_magics_page_is_up_to_date() -> None:
    """The committed page equals the generated one."""
    page = runpy.run_path(str(DOCS / "generate_magics.py"))["page"]()

    assert page == (DOCS / "magics.md").read_text("utf-8")


def test_commands_in_messages_can_be_typed() -> None:
    """Commands in messages are in backticks, and their names and options exist."""
    source = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "blockrun_magic").rglob("*.py")))
    bare = re.findall(r"(?<![`\"'>])%blockrun [a-z][^`{}\n]*\.\"(?!\")", source)
    unknown = []
    for text in re.findall(r"`%blockrun ([^`\n]+)`", source):
        name, *words = text.split()
        command = COMMANDS.get(name)
        while command is not None and words and (below := command.subcommand(words[0])) is not None:
            command, words = below, words[1:]
        options = [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
        if command is None or any(command.argument(option) is None for option in options):
            unknown.append(text)

    assert ([], []) == (bare, [text for text in unknown if not text.startswith("{")])
