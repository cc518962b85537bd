"""Print docs/magics.md: the flags and words, from the very tables that parse them.

python docs/generate_magics.py > docs/magics.md
"""

from __future__ import annotations

from blockrun_magic.notebook.cells.flags import FLAGS, MAGICS, help_text
from blockrun_magic.notebook.commands.registry import COMMANDS
from blockrun_magic.notebook.settings import Settings


def page() -> str:
    """Return the whole page."""
    lines = [
        "# The magics",
        "",
        "This page is generated from the code: `python docs/generate_magics.py > docs/magics.md`.",
        "`%%imagegen?` and TAB show the same in the notebook.",
    ]
    for magic in MAGICS:
        lines += ["", f"## %%{magic}", "", "```text", help_text(magic), "```"]
    lines += ["", "## Flags", "", "| flag | where | what it does |", "|---|---|---|"]
    for flag in FLAGS:
        usage = " ".join([*(f"`{spelling}`" for spelling in flag.spellings), flag.metavar or ""]).strip()
        where = " and ".join(f"%%{magic}" for magic in flag.magics)
        again = " May be given again." if flag.repeats else ""
        lines.append(f"| {usage} | {where} | {flag.help}{again} |")
    lines += ["", "## %blockrun", "", "| line | what it does |", "|---|---|"]
    lines.append("| `%blockrun` | Gateway, wallet, spend and caps at a glance. |")
    for command in COMMANDS.values():
        usage = command.usage.replace("|", "\\|")
        lines.append(f"| `%blockrun {usage}` | {command.help} |")
    lines += ["", "## %config BlockrunMagics", "", "| setting | default | what it does |", "|---|---|---|"]
    for name, trait in sorted(Settings.class_traits(config=True).items()):
        lines.append(f"| `{name}` | `{trait.default_value!r}` | {trait.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
