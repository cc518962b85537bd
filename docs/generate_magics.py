"""Print docs/magics.md: the flags and the commands, from the tables that parse them.

python docs/generate_magics.py > docs/magics.md
"""

from __future__ import annotations

from collections.abc import Iterator

from blockrun_magic.notebook.cells.flags import FLAGS, MAGICS, help_text
from blockrun_magic.notebook.commands.arguments import Command, walk
from blockrun_magic.notebook.commands.registry import COMMANDS, OVERVIEW
from blockrun_magic.notebook.settings import Settings


def page() -> str:
    """Return the whole page."""
    lines = [
        "# The magics",
        "",
        "This page is generated from the code: `python docs/generate_magics.py > docs/magics.md`.",
        "`%%imagegen?`, `%blockrun help` and TAB show the same in the notebook.",
    ]
    for magic in MAGICS:
        lines += ["", f"## %%{magic}", "", "```text", help_text(magic), "```"]
    lines += ["", "## Flags", "", "| flag | magics | what it does |", "|---|---|---|"]
    for flag in FLAGS:
        usage = " ".join([*(f"`{spelling}`" for spelling in flag.spellings), flag.metavar or ""]).strip()
        magics = " and ".join(f"%%{magic}" for magic in flag.magics)
        lines.append(f"| {usage} | {magics} | {flag.help} |")
    lines += ["", "## %blockrun", "", "Write options as `--page 2` or `--page=2`; they can go anywhere.", ""]
    lines += ["| command | what it does |", "|---|---|", f"| `%blockrun` | {OVERVIEW.help} |"]
    lines += [row for path, command in walk(tuple(COMMANDS.values())) for row in command_rows(path, command)]
    lines += ["", "## %config BlockrunMagics", "", "| setting | default | what it does |", "|---|---|---|"]
    for name, trait in sorted(Settings.class_traits(config=True).items()):
        lines.append(f"| `{name}` | `{trait.default_value!r}` | {trait.help} |")
    return "\n".join(lines) + "\n"


def command_rows(path: str, command: Command) -> Iterator[str]:
    """Yield the row of a command, and one for each of its options."""
    words = " ".join(each.usage for each in command.arguments if not each.is_option)
    usage = f"%blockrun {path} {words}".strip().replace("|", "\\|")
    yield f"| `{usage}` | {command.help} |"
    for each in command.arguments:
        if each.is_option:
            option = " ".join(filter(None, (each.name, f"[{each.metavar}]" if each.optional else each.metavar)))
            yield f"| ↳ `{option}` | {each.help} |"


if __name__ == "__main__":
    print(page(), end="")
